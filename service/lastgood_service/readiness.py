"""What keeps us from vouching for an answer. Pure.

A dead watcher is said, and stops no job: clients fall back by themselves.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from lastgood.errors import NotReady

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from lastgood.catalog import Root, WorkerStatus
    from lastgood_service.copies import Copies
    from lastgood_service.knowledge import Known


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One reason. `code` is stable; `root` where it concerns the runs of that root alone."""

    code: str
    message: str
    advice: str
    root: str | None = None


_NEVER_STARTED: Final = Obstacle(
    "worker-never-started",
    "no worker has looked at anything yet",
    "start one with `lastgood worker`, or both with `lastgood up DIR`, on the same LASTGOOD_STATE_DIR",
)
_FIRST_SCAN: Final = Obstacle(
    "first-scan", "the worker is still looking through the folders for the first time", "ask again in a few seconds"
)


def is_alive(worker: WorkerStatus | None, now: datetime) -> bool:
    """Whether the worker said so a short while ago."""
    return worker is not None and worker.is_alive(now)


def trouble_of_worker(worker: WorkerStatus | None, now: datetime) -> Obstacle | None:
    """Why nothing at all can be vouched for; None where nothing stands in the way."""
    if worker is None:
        return _NEVER_STARTED
    if not is_alive(worker, now):
        since = worker.heartbeat_at.isoformat(timespec="seconds")
        return Obstacle(
            "worker-silent",
            f"the worker (process {worker.pid}) has said nothing since {since}",
            "read its log, and start it again with `lastgood worker`",
        )
    return None if worker.first_scan_done else _FIRST_SCAN


def frozen_roots(roots: Iterable[Root]) -> tuple[Obstacle, ...]:
    """The roots of which nothing is concluded at the moment."""
    return tuple(
        Obstacle(
            "root-frozen",
            f"{root.path} is frozen: {root.frozen}",
            "bring the folder back, for example by mounting it again; nothing in it was marked or removed meanwhile",
            root.path,
        )
        for root in roots
        if root.frozen
    )


def cloud_unknown(copies: Copies) -> Obstacle:
    """That what was never seen here may be in the cloud."""
    message = f"the copies in {copies.remote.url()} are not known yet"
    if copies.place is None or copies.place.trouble is None:
        return Obstacle("cloud-unknown", message, "ask again once the worker has listed them")
    advice = "see that the store can be reached, and takes the credentials; or unset LASTGOOD_REMOTE"
    return Obstacle("cloud-unknown", f"{message}: {copies.place.trouble}", advice)


def all_obstacles(known: Known, now: datetime) -> tuple[Obstacle, ...]:
    """Where something lies here, that can be told without the cloud."""
    trouble = trouble_of_worker(known.worker, now)
    unknown = known.copies is not None and not known.copies.listed and known.is_bare
    cloud = (cloud_unknown(known.copies),) if known.copies is not None and unknown else ()
    return (*((trouble,) if trouble else ()), *frozen_roots(known.roots), *cloud)


def not_ready(obstacles: Sequence[Obstacle]) -> NotReady:
    message = "; ".join(f"{obstacle.message}: {obstacle.advice}" for obstacle in obstacles)
    return NotReady(message, obstacles=[obstacle_as_json(obstacle) for obstacle in obstacles])


def obstacle_as_json(obstacle: Obstacle) -> dict[str, Any]:
    return asdict(obstacle)
