"""The runs and their answers, and the one object that a dashboard polls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from anyio import to_thread

import lastgood
from lastgood.errors import CannotTell
from lastgood_service import rendering
from lastgood_service.answers import choose_run, not_vouched_for
from lastgood_service.asking import Asked
from lastgood_service.readiness import all_obstacles, is_alive, obstacle_as_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastgood_service.desk import Desk
    from lastgood_service.knowledge import Known

_EVENTS: Final = 20


async def runs(desk: Desk, known: Known) -> list[dict[str, Any]]:
    """Each run with its resume point, as far as the records and the disk tell, and why it would be refused."""
    return await asyncio.gather(*(_run(desk, known, name) for name in known.records))


async def run(desk: Desk, name: str) -> dict[str, Any]:
    """One of them. Unknown where there is none of that name."""
    known = await desk.knowledge.now()
    return await _run(desk, known, choose_run(known, name))


async def status(desk: Desk) -> dict[str, Any]:
    """Nothing in it changes by itself: while nothing happens, two of them are equal."""
    known = await desk.knowledge.now()
    listed = await runs(desk, known)
    events = await to_thread.run_sync(desk.catalog.last_events, _EVENTS)
    now = desk.clock.now()
    alive = is_alive(known.worker, now)
    obstacles = all_obstacles(known.worker, known.roots, now)
    return {
        "version": lastgood.__version__,
        "ready": not obstacles,
        "obstacles": [obstacle_as_json(obstacle) for obstacle in obstacles],
        "worker": rendering.worker_as_json(known.worker, alive=alive),
        "watch": watch_as_json(known),
        "progress": rendering.progress_as_json(known.worker, known.seconds_left) if alive else None,
        "runs": listed,
        "counts": rendering.counts_as_json(r for records in known.records.values() for r in records),
        "events": [rendering.event_as_json(event) for event in events],
    }


def watch_as_json(known: Known) -> Mapping[str, Any] | None:
    """How the worker learns of changes, as it wrote it."""
    if known.worker is None:
        return None
    watch = known.worker.watch
    return {key: watch.get(key) for key in ("mode", "degraded", "reason")} | {"roots": list(watch.get("roots", ()))}


async def _run(desk: Desk, known: Known, name: str) -> dict[str, Any]:
    run, records = known.runs[name], known.records[name]
    free = (known.worker.watch.get("free_bytes") or {}).get(run.root) if known.worker else None
    doubt = not_vouched_for(known, name, desk.clock.now())
    try:
        held = await desk.answers.of_run(known, name, Asked())
    except CannotTell as error:
        return rendering.run_as_json(run, records, None, doubt or error, free)
    return rendering.run_as_json(run, records, held.answer, doubt or held.refusal, free)
