"""Checkpoints, and the one to start from."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic looks the annotations up
from typing import Any, Literal

from pydantic import ConfigDict, Field

from lastgood.facts import Component, Presence  # noqa: TC001
from lastgood.findings import Verdict  # noqa: TC001
from lastgood.life import State  # noqa: TC001
from lastgood.records import Evidence  # noqa: TC001
from lastgood_service import examples
from lastgood_service.schemas.base import FindingShape, Shape
from lastgood_service.schemas.cloud import CloudCopyShape  # noqa: TC001
from lastgood_service.schemas.keeping import HoldShape, RetentionShape  # noqa: TC001


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
    cloud_copy: CloudCopyShape | None


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
    metrics: dict[str, float]
    """What the trainer measured by then."""
    failures: int
    """How often in a row a job could not start from it."""
    failed: bool
    """So often that it is no longer handed out, until somebody undoes that."""
    until: datetime | None
    """How long it can be had back from the trash, where it lies there."""
    first_seen_at: datetime
    saved_at: datetime
    settled_at: datetime | None
    verified_at: datetime | None
    cloud_copy: CloudCopyShape | None


class FileShape(Shape):
    path: str
    bytes: int
    digest: str | None


class CheckpointDetail(Checkpoint):
    report: dict[str, Any] | None
    """What verification said, as `lastgood verify --json` prints it, without the files; null before it was judged."""
    files: list[FileShape]
    holds: list[HoldShape]
    """The leases and pins in force."""
    retention: RetentionShape | None
    """Null where it is not in its place, and where it cannot be told at the moment."""


class CheckpointPage(Shape):
    items: list[Checkpoint]
    next_cursor: str | None
    """For the next page; null on the last."""
