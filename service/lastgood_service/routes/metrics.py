"""For Prometheus: from what the catalog says; the worker opens no port."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from anyio import to_thread
from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI looks the annotations up
from starlette.responses import Response

from lastgood.errors import CannotTell
from lastgood_service import metrics
from lastgood_service.asking import Asked
from lastgood_service.desk import desk_of
from lastgood_service.openapi import problems
from lastgood_service.readiness import all_obstacles
from lastgood_service.status import waiting_for_copies

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastgood_service.desk import Desk
    from lastgood_service.knowledge import Known

router = APIRouter(tags=["probes"])

_EXAMPLE: Final = "lastgood_ready 1.0\n"
_TEXT: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        "description": "Prometheus' text format, version 0.0.4.",
    }
}


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Numbers for Prometheus",
    response_class=Response,
    responses=_TEXT | problems(503),
)
async def get_metrics(request: Request) -> Response:
    """Names begin with `lastgood_`; all are in base units."""
    desk = desk_of(request)
    known = await desk.knowledge.now()
    waiting = await waiting_for_copies(desk, known, known.records)
    measured = metrics.Measured(
        known=known,
        ready=not all_obstacles(known, desk.clock.now()),
        answers=await _answers(desk, known),
        waiting={run: len(records) for run, records in waiting.items()},
        events=await to_thread.run_sync(desk.event_counts.now),
    )
    text = await to_thread.run_sync(metrics.as_text, measured)
    return Response(text, headers={"content-type": metrics.MEDIA_TYPE, "cache-control": "no-store"})


async def _answers(desk: Desk, known: Known) -> dict[str, Mapping[str, Any]]:
    """The resume point of each run that has one, as far as the records and the disk tell."""
    found: dict[str, Mapping[str, Any]] = {}
    for run in known.records:
        with contextlib.suppress(CannotTell):
            held = await desk.answers.of_run(known, run, Asked())
            if held.answer is not None:
                found[run] = held.answer
    return found
