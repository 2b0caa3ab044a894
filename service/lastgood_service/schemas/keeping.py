"""Leases and pins; what is kept, what is removed, and why."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic looks the annotations up
from typing import Literal

from pydantic import ConfigDict

from lastgood.findings import Verdict  # noqa: TC001
from lastgood.retention import Why  # noqa: TC001
from lastgood_service import examples
from lastgood_service.schemas.base import Shape


class HoldShape(Shape):
    """A promise that a checkpoint is not removed."""

    id: int
    checkpoint_id: int
    holder: str
    until: datetime | None
    """Null for a pin: it stays until somebody takes it away."""
    pin: bool


class ReasonShape(Shape):
    why: Why
    """Stable: the rule or guard that keeps it, or what removes it."""
    message: str


class RetentionShape(Shape):
    """What becomes of one checkpoint as things stand."""

    action: Literal["keep", "remove"]
    reasons: list[ReasonShape]


class DecisionShape(RetentionShape):
    id: int
    name: str
    step: int
    branch: int | None
    verdict: Verdict | None
    bytes: int
    saved_at: datetime
    metrics: dict[str, float]


class WaitShape(Shape):
    code: Literal["frozen", "observing", "confirm"]
    message: str
    until: datetime | None


class CopyDecisionShape(RetentionShape):
    name: str
    step: int
    url: str


class PlanOfCopiesShape(Shape):
    """What becomes of a run's proven copies in the cloud, by rules of their own."""

    policy: str
    plan: str
    """Its id, to be sent as `confirm`."""
    waits_for: WaitShape | None
    decisions: list[CopyDecisionShape]


class TrashShape(Shape):
    """A removed checkpoint that can be had back."""

    id: int
    name: str
    step: int
    bytes: int
    until: datetime | None


class PlanShape(Shape):
    run: str
    policy: str
    """The rules, in words."""
    plan: str
    """Its id: equal as long as the same would be removed for the same reasons. To be sent as `confirm`."""
    waits_for: WaitShape | None
    """What keeps the worker from carrying it out by itself; null where nothing does, and where there is no rule."""
    bytes_freed: int
    decisions: list[DecisionShape]
    """In the order in which they were seen."""
    trash: list[TrashShape]
    copies: PlanOfCopiesShape | None
    """Null where no place for copies is set."""


class Retention(Shape):
    model_config = ConfigDict(json_schema_extra={"examples": [examples.RETENTION]})

    items: list[PlanShape]
