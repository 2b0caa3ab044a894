"""The list of checkpoints, and one of them with all that is known of it."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Annotated

from anyio import to_thread
from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request  # noqa: TC002 - FastAPI looks the annotations up
from starlette.responses import Response  # noqa: TC002

from lastgood.errors import CannotTell
from lastgood.findings import Verdict  # noqa: TC001
from lastgood.life import IN_PLACE, State
from lastgood_service import rendering
from lastgood_service.copies import said_of
from lastgood_service.desk import desk_of
from lastgood_service.openapi import polled
from lastgood_service.responses import render
from lastgood_service.routes.addressing import Id  # noqa: TC001
from lastgood_service.routes.paging import Paged, page
from lastgood_service.schemas import CheckpointDetail, CheckpointPage

if TYPE_CHECKING:
    from lastgood.records import Record
    from lastgood.retention import Decision
    from lastgood_service.desk import Desk
    from lastgood_service.knowledge import Known

router = APIRouter(tags=["checkpoints"])


class Filters(Paged):
    verdict: Verdict | None = None
    state: State | None = Field(None, description="Those that are gone are listed only where asked for.")


@router.get(
    "/checkpoints",
    operation_id="list_checkpoints",
    summary="Checkpoints, the newest first",
    responses=polled(CheckpointPage),
)
async def list_checkpoints(request: Request, filters: Annotated[Filters, Query()]) -> Response:
    """A page of the list. An unknown run has none."""
    desk = desk_of(request)
    copies = (await desk.knowledge.now()).copies
    read = partial(
        desk.catalog.page,
        run=filters.run,
        verdict=filters.verdict,
        state=filters.state,
        before=filters.before,
        limit=filters.limit + 1,
    )
    found = page(
        await to_thread.run_sync(read),
        filters.limit,
        lambda record: rendering.record_as_json(record, said_of(copies, record.id)),
    )
    return render(found).response(request)


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
    known = await desk.knowledge.now()
    decision = await _decision(desk, known, record)
    detail = rendering.detail_as_json(record, said_of(known.copies, id), report, holds.get(id, ()), decision)
    return render(detail).response(request)


async def _decision(desk: Desk, known: Known, record: Record) -> Decision | None:
    """What retention would do with it. None where it is not in its place, or its disk does not answer just now."""
    if record.state not in IN_PLACE or record.run not in known.records:
        return None
    with contextlib.suppress(CannotTell):  # what the catalog knows of it can be told all the same
        return (await desk.plans.of_run(known, record.run)).decision(record.id)
    return None
