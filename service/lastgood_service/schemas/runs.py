"""Runs, the object for a dashboard, and the probes."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic looks the annotations up
from typing import Any, Literal

from lastgood.findings import Verdict  # noqa: TC001
from lastgood.life import State  # noqa: TC001
from lastgood_service.schemas.base import Shape
from lastgood_service.schemas.checkpoints import ResumePoint  # noqa: TC001
from lastgood_service.schemas.cloud import CloudShape, RunCopies  # noqa: TC001
from lastgood_service.schemas.log import EventShape  # noqa: TC001


class BranchShape(Shape):
    branch: int
    first_step: int
    last_step: int
    checkpoints: int
    """Those that are still there."""
    bytes: int


class Counts(Shape):
    checkpoints: int
    bytes: int
    verdicts: dict[Verdict, int]
    states: dict[State, int]


class RefusalShape(Shape):
    code: str
    detail: str
    details: dict[str, Any]


class SpaceShape(Shape):
    """How long the disk will do, if nothing is removed and nobody else writes to it."""

    free_bytes: int
    """About: two digits."""
    bytes_per_save: int
    room_for: int
    """How many more saves there is room for."""
    seconds_per_save: float | None
    full_at: datetime | None


class RunShape(Shape):
    name: str
    root: str
    path: str
    """Where it lies. Of a run that is in the cloud alone: where it would."""
    resume_point: ResumePoint | None
    """As far as the records and the disk tell. Where `refusal` is not-ready too: the last one known."""
    refusal: RefusalShape | None
    """Why `GET /checkpoints/latest` would give no answer at the moment."""
    branches: list[BranchShape]
    counts: Counts
    space: SpaceShape | None
    """Null before a save is finished."""
    cloud: RunCopies | None
    """Null where no place for copies is set."""


class Runs(Shape):
    items: list[RunShape]


class ObstacleShape(Shape):
    code: str
    message: str
    advice: str
    root: str | None


class WorkerShape(Shape):
    alive: bool
    pid: int | None
    started_at: datetime | None
    first_scan_done: bool
    silent_since: datetime | None


class WatchShape(Shape):
    mode: str | None
    degraded: bool | None
    reason: str | None
    roots: list[str]


class ProgressShape(Shape):
    checkpoint_id: int
    run: str
    name: str
    bytes_done: int
    bytes_total: int
    bytes_per_second: float
    seconds_left: float | None


class StatusShape(Shape):
    version: str
    ready: bool
    obstacles: list[ObstacleShape]
    """Why it is not ready."""
    worker: WorkerShape
    watch: WatchShape | None
    progress: ProgressShape | None
    """What is being verified."""
    cloud: CloudShape | None
    """Null where no place for copies is set."""
    runs: list[RunShape]
    counts: Counts
    events: list[EventShape]
    """The last twenty, oldest first."""


class Alive(Shape):
    alive: Literal[True]


class Ready(Shape):
    ready: Literal[True]
