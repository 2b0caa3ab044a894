"""The shapes on the wire. Answers are made by `rendering` and `lastgood.resume`; a test holds the two together."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic looks the annotations up
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lastgood.facts import Component, Presence  # noqa: TC001
from lastgood.findings import Severity, Verdict  # noqa: TC001
from lastgood.life import State  # noqa: TC001
from lastgood.records import Evidence  # noqa: TC001
from lastgood_service import examples


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Problem(BaseModel):
    """RFC 9457. The refusal's details stand beside these members."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"examples": [examples.PROBLEM]},
    )

    type: str = Field(description="Stable: `urn:lastgood:problem:` and the code.")
    title: str
    status: int
    detail: str = Field(description="What happened, for a person.")
    code: str


class FindingShape(Shape):
    severity: Severity
    code: str
    file: str | None
    message: str
    hint: str


class SkippedShape(Shape):
    """A newer checkpoint that was passed over."""

    name: str
    step: int
    reason: str
    """Stable: a verdict, or evidence, changed, failed, step, component, world-size, warning."""
    message: str


class PendingShape(Shape):
    """A newer checkpoint that is in work."""

    name: str
    step: int
    state: Literal[State.LANDING, State.SETTLED]
    active: bool
    """Somebody writes it, or wrote a moment ago."""
    waiting_for: str | None
    seconds_left: float | None
    """A coarse estimate, while it is being read."""


class ResumePoint(Shape):
    """Where the job should start from now."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.RESUME_POINT]})

    id: int
    run: str
    name: str
    step: int
    epoch: float | None
    path: str
    """As the worker sees it; with `root` and `relative_path` it can be rebased."""
    root: str
    relative_path: str
    verdict: Literal[Verdict.COMPLETE, Verdict.PARTIAL]
    exact_resume: bool
    """Whether everything for a bit-for-bit continuation is there."""
    evidence: Evidence
    """Why the save counts as finished."""
    fingerprint: str
    world_size: int | None
    saved_at: datetime
    verified_at: datetime | None
    bytes: int
    components: dict[Component, Presence]
    warnings: list[FindingShape]
    skipped: list[SkippedShape]
    pending: list[PendingShape]
    order_disputed: dict[str, str] | None
    """Where modification times and steps disagree on which one is newest: both names."""
    cloud_copy: dict[str, Any] | None


class Checkpoint(Shape):
    """One generation of a checkpoint."""

    id: int
    run: str
    name: str
    step: int
    epoch: float | None
    generation: int
    branch: int | None
    copy_: bool = Field(alias="copy", description="A symlink to another folder: listed, never handed out.")
    state: State
    active: bool
    waiting_for: str | None
    verdict: Verdict | None
    exact_resume: bool
    evidence: Evidence | None
    path: str
    root: str
    relative_path: str
    fingerprint: str
    world_size: int | None
    bytes: int
    components: dict[Component, Presence]
    warnings: list[FindingShape]
    first_seen_at: datetime
    saved_at: datetime
    settled_at: datetime | None
    verified_at: datetime | None


class FileShape(Shape):
    path: str
    bytes: int
    digest: str | None


class CheckpointDetail(Checkpoint):
    report: dict[str, Any] | None
    """What verification said, as `lastgood verify --json` prints it, without the files; null before it was judged."""
    files: list[FileShape]


class CheckpointPage(Shape):
    items: list[Checkpoint]
    next_cursor: str | None
    """For the next page; null on the last."""


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


class RunShape(Shape):
    name: str
    root: str
    path: str
    resume_point: ResumePoint | None
    """As far as the records and the disk tell. Where `refusal` is not-ready too: the last one known."""
    refusal: RefusalShape | None
    """Why `GET /checkpoints/latest` would give no answer at the moment."""
    branches: list[BranchShape]
    counts: Counts


class Runs(Shape):
    items: list[RunShape]


class EventShape(Shape):
    id: int
    at: datetime
    kind: str
    severity: Severity
    run: str | None
    checkpoint_id: int | None
    name: str | None
    message: str


class EventPage(Shape):
    items: list[EventShape]
    next: int
    """What to send as `since` to go on from here."""


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
    runs: list[RunShape]
    counts: Counts
    events: list[EventShape]
    """The last twenty, oldest first."""


class RequestShape(Shape):
    """Work that was asked of the worker."""

    id: int
    kind: str
    run: str
    name: str
    state: Literal["open", "done", "refused"]
    result: str | None
    created_at: datetime
    finished_at: datetime | None


class Alive(Shape):
    alive: Literal[True]


class Ready(Shape):
    ready: Literal[True]
