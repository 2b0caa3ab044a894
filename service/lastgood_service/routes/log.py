"""What happened, and how a request went."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request  # noqa: TC002 - FastAPI looks the annotations up
from starlette.responses import Response  # noqa: TC002

from lastgood_service import rendering
from lastgood_service.desk import desk_of
from lastgood_service.openapi import polled
from lastgood_service.responses import render
from lastgood_service.routes.addressing import LARGEST_ID, Id
from lastgood_service.schemas import EventPage, RequestShape

router = APIRouter(tags=["log"])


class Since(BaseModel):
    model_config = ConfigDict(extra="forbid")

    since: int = Field(0, ge=0, le=LARGEST_ID, description="The id of the last event that you have.")
    limit: int = Field(100, ge=1, le=500)


@router.get("/events", operation_id="list_events", summary="Events, the oldest first", responses=polled(EventPage))
async def list_events(request: Request, asked: Annotated[Since, Query()]) -> Response:
    """What happened after `since`."""
    read = partial(desk_of(request).catalog.events, since=asked.since, limit=asked.limit)
    events = await to_thread.run_sync(read)
    following = events[-1].id if events else asked.since
    page = {"items": [rendering.event_as_json(event) for event in events], "next": following}
    return render(page).response(request)


@router.get(
    "/requests/{id}", operation_id="get_request", summary="How a request went", responses=polled(RequestShape, 404)
)
async def get_request(
    request: Request,
    id: Id,  # noqa: A002 - the name in the address
) -> Response:
    found = await to_thread.run_sync(desk_of(request).catalog.request, id)
    return render(rendering.request_as_json(found)).response(request)
