"""The copies in the cloud, and what is asked of the worker about them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

from anyio import to_thread
from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request  # noqa: TC002 - FastAPI looks the annotations up
from starlette.responses import Response  # noqa: TC002

from lastgood.cloud import CopyState
from lastgood.errors import Conflict
from lastgood.life import IN_PLACE
from lastgood_service.copies import NO_LONGER
from lastgood_service.desk import desk_of
from lastgood_service.openapi import accepted, polled
from lastgood_service.orders import order, order_for
from lastgood_service.rendering_cloud import copy_as_json
from lastgood_service.responses import render
from lastgood_service.routes.addressing import Id  # noqa: TC001
from lastgood_service.routes.paging import Paged, page
from lastgood_service.schemas import CopyPage

if TYPE_CHECKING:
    from lastgood.cloud import Upload
    from lastgood.records import Record
    from lastgood_service.knowledge import Known

router = APIRouter(tags=["copies"])


class Filters(Paged):
    state: CopyState | None = Field(None, description="Those that are there no longer are listed only where asked for.")


@router.get(
    "/copies",
    operation_id="list_copies",
    summary="Copies in the cloud, the newest first",
    responses=polled(CopyPage),
)
async def list_copies(request: Request, filters: Annotated[Filters, Query()]) -> Response:
    """A page of those that are known, of runs of which nothing lies here too. None where no place for them is set."""
    copies = (await desk_of(request).knowledge.now()).copies
    before = filters.before
    if copies is None:
        return render({"items": [], "next_cursor": None}).response(request)
    fitting = (u for u in reversed(copies.uploads) if (before is None or u.id < before) and _fits(u, filters))
    found = page(list(islice(fitting, filters.limit + 1)), filters.limit, lambda upload: copy_as_json(copies, upload))
    return render(found).response(request)


def _fits(upload: Upload, filters: Filters) -> bool:
    if filters.state is None and upload.state in NO_LONGER:
        return False
    return filters.run in (None, upload.copy.run) and filters.state in (None, upload.state)


@router.post(
    "/copies/probe",
    operation_id="probe_store",
    summary="See anew what the store can do",
    status_code=202,
    responses=accepted(),
)
async def probe_store(request: Request) -> Response:
    """Whether it takes copies, how it proves them, and whether of several writers one alone succeeds."""
    return await order(request, "probe", run="")


@router.post(
    "/checkpoints/{id}/push",
    operation_id="push_checkpoint",
    summary="Copy it to the cloud",
    status_code=202,
    responses=accepted(404, 409),
)
async def push_checkpoint(request: Request, id: Id) -> Response:  # noqa: A002 - the name in the address
    """Before all others, and whatever the settings choose. Done once the copy is proven."""
    if (await desk_of(request).knowledge.now()).copies is None:
        raise Conflict("no place for copies is set: LASTGOOD_REMOTE=s3://BUCKET/PREFIX names it")
    return await order_for(request, "push", id)


@router.post(
    "/checkpoints/{id}/pull",
    operation_id="pull_checkpoint",
    summary="Fetch it from the cloud",
    status_code=202,
    responses=accepted(404, 409),
)
async def pull_checkpoint(request: Request, id: Id) -> Response:  # noqa: A002
    """Verified before it gets its name, and pinned. Never over one that is there."""
    desk = desk_of(request)
    record, _ = await to_thread.run_sync(desk.catalog.record, id)
    if why := _why_not_fetched(await desk.knowledge.now(), record):
        raise Conflict(why)
    return await order_for(request, "pull", id)


def _why_not_fetched(known: Known, record: Record) -> str | None:
    upload = known.copies.of_checkpoint(record.id) if known.copies else None
    if upload is None or upload.state is not CopyState.PROVEN:
        return f"no proven copy of {record.name} is known"
    later = [other for other in known.records.get(record.run, ()) if other.path == record.path]
    if any(other.state in IN_PLACE for other in (record, *later)):
        return f"{record.path} is there already; nothing is fetched over it: move it away first"
    return None
