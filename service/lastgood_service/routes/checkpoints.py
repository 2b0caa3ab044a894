"""The list of checkpoints, and one of them with all that is known of it."""

from __future__ import annotations

import base64
import binascii
import contextlib
from typing import TYPE_CHECKING, Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request  # noqa: TC002 - FastAPI looks the annotations up
from starlette.responses import Response  # noqa: TC002

from lastgood.errors import CannotTell
from lastgood.findings import Verdict  # noqa: TC001
from lastgood.life import IN_PLACE, State
from lastgood_service import rendering
from lastgood_service.desk import desk_of
from lastgood_service.exception_handlers import malformed
from lastgood_service.openapi import polled
from lastgood_service.responses import render
from lastgood_service.routes.addressing import LARGEST_ID, Id
from lastgood_service.schemas import CheckpointDetail, CheckpointPage

if TYPE_CHECKING:
    from lastgood.records import Record
    from lastgood.retention import Decision
    from lastgood_service.desk import Desk

router = APIRouter(tags=["checkpoints"])


class Filters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    run: str | None = None
    verdict: Verdict | None = None
    state: State | None = Field(None, description="Those that are gone are listed only where asked for.")
    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")


@router.get(
    "/checkpoints",
    operation_id="list_checkpoints",
    summary="Checkpoints, the newest first",
    responses=polled(CheckpointPage),
)
async def list_checkpoints(request: Request, filters: Annotated[Filters, Query()]) -> Response:
    """A page of the list. An unknown run has none."""
    page = await to_thread.run_sync(_page, request, filters)
    return render(page).response(request)


def _page(request: Request, filters: Filters) -> dict[str, Any]:
    before = _id_in(filters.cursor) if filters.cursor is not None else None
    records = desk_of(request).catalog.page(
        run=filters.run,
        verdict=filters.verdict,
        state=filters.state,
        before=before,
        limit=filters.limit + 1,  # one more tells whether there is a next page
    )
    shown = records[: filters.limit]
    following = _cursor(shown[-1].id) if len(records) > filters.limit else None
    return {"items": [rendering.record_as_json(record) for record in shown], "next_cursor": following}


@router.get(
    "/checkpoints/{id}",
    operation_id="get_checkpoint",
    summary="One checkpoint, with its report and files",
    responses=polled(CheckpointDetail, 404),
)
async def get_checkpoint(request: Request, id: Id) -> Response:  # noqa: A002 - the name in the address
    desk = desk_of(request)
    record, report = await to_thread.run_sync(desk.catalog.record, id)
    holds = await to_thread.run_sync(desk.catalog.holds, desk.clock.now())
    decision = await _decision(desk, record)
    return render(rendering.detail_as_json(record, report, holds.get(id, ()), decision)).response(request)


async def _decision(desk: Desk, record: Record) -> Decision | None:
    """What retention would do with it. None where it is not in its place, or its disk does not answer just now."""
    known = await desk.knowledge.now()
    if record.state not in IN_PLACE or record.run not in known.records:
        return None
    with contextlib.suppress(CannotTell):  # what the catalog knows of it can be told all the same
        return (await desk.plans.of_run(known, record.run)).decision(record.id)
    return None


def _cursor(checkpoint_id: int) -> str:
    return base64.urlsafe_b64encode(f"c{checkpoint_id}".encode()).decode().rstrip("=")


def _id_in(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        if text[:1] == "c" and 0 < (found := int(text[1:])) <= LARGEST_ID:
            return found
    except (binascii.Error, ValueError):
        pass
    raise malformed([{"where": "query.cursor", "message": "not a cursor that this service gave"}])
