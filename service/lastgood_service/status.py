"""The runs and their answers, and the one object that a dashboard polls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from anyio import to_thread

import lastgood
from lastgood.cloud import Choice
from lastgood.errors import CannotTell
from lastgood.findings import Verdict
from lastgood.resume import Wishes
from lastgood_service import rendering, rendering_cloud
from lastgood_service.asking import Asked
from lastgood_service.choosing import all_runs, choose_run, not_vouched_for, where
from lastgood_service.copies import pinned_in, waiting_for_copy
from lastgood_service.readiness import all_obstacles, is_alive, obstacle_as_json

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from lastgood.errors import LastgoodError
    from lastgood.records import Record
    from lastgood_service.desk import Desk
    from lastgood_service.knowledge import Known

_EVENTS: Final = 20


async def runs(desk: Desk, known: Known) -> list[dict[str, Any]]:
    """Each run with its resume point, as far as the records and the disk tell, and why it would be refused."""
    names = all_runs(known)
    waiting = await waiting_for_copies(desk, known, names)
    return await asyncio.gather(*(_run(desk, known, name, waiting.get(name, ())) for name in names))


async def run(desk: Desk, name: str) -> dict[str, Any]:
    """One of them. Unknown where there is none of that name."""
    known = await desk.knowledge.now()
    name = choose_run(known, name)
    waiting = await waiting_for_copies(desk, known, [name])
    return await _run(desk, known, name, waiting.get(name, ()))


async def waiting_for_copies(desk: Desk, known: Known, runs: Collection[str]) -> dict[str, Sequence[Record]]:
    """By run, the checkpoints that are to be copied and are not yet."""
    if known.copies is None:
        return {}
    choices = (Choice.of(desk.settings, run) for run in runs)
    pinned: Collection[int] = ()
    if any(choice is not None and choice.which.pinned for choice in choices):
        pinned = pinned_in(await to_thread.run_sync(desk.catalog.holds, desk.clock.now()))
    return {run: waiting_for_copy(known.copies, desk.settings, run, known.records.get(run, ()), pinned) for run in runs}


async def status(desk: Desk) -> dict[str, Any]:
    """Nothing in it changes by itself: while nothing happens, two of them are equal."""
    known = await desk.knowledge.now()
    listed = await runs(desk, known)
    events = await to_thread.run_sync(desk.catalog.last_events, _EVENTS)
    now = desk.clock.now()
    alive = is_alive(known.worker, now)
    obstacles = all_obstacles(known, now)
    errand = known.worker.cloud.get("errand") if known.worker and alive else None
    return {
        "version": lastgood.__version__,
        "ready": not obstacles,
        "obstacles": [obstacle_as_json(obstacle) for obstacle in obstacles],
        "worker": rendering.worker_as_json(known.worker, alive=alive),
        "watch": watch_as_json(known),
        "progress": rendering.progress_as_json(known.worker, known.seconds_left) if alive else None,
        "cloud": rendering_cloud.cloud_as_json(known.copies, errand) if known.copies else None,
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


async def _run(desk: Desk, known: Known, name: str, waiting: Sequence[Record]) -> dict[str, Any]:
    place, records = where(known, name), known.records.get(name, ())
    free = (known.worker.watch.get("free_bytes") or {}).get(place.root) if known.worker else None
    doubt = not_vouched_for(known, name, desk.clock.now())
    answer: Mapping[str, Any] | None = None
    refusal: LastgoodError | None
    try:
        held = await desk.answers.of_run(known, name, Asked())
        answer, refusal = held.answer, held.refusal
    except CannotTell as error:
        refusal = error
    cloud = _cloud_of(desk, known, name, waiting)
    return rendering.run_as_json(
        name, place, records, answer=answer, refusal=doubt or refusal, free_bytes=free, cloud=cloud
    )


def _cloud_of(desk: Desk, known: Known, name: str, waiting: Sequence[Record]) -> dict[str, Any] | None:
    if known.copies is None:
        return None
    whatever = Wishes(accept=Verdict.PARTIAL, order=desk.settings.of_run(name).order)
    return rendering_cloud.copies_of_run_as_json(known.copies, name, waiting, whatever)
