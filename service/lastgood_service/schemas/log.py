"""What happened, and how requests went."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic looks the annotations up
from typing import Any, Literal

from lastgood.findings import Severity  # noqa: TC001
from lastgood_service.schemas.base import Shape


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


class RequestShape(Shape):
    """Work that was asked of the worker."""

    id: int
    kind: str
    run: str
    name: str
    checkpoint_id: int | None
    """Where it concerns one that is known."""
    arguments: dict[str, Any]
    state: Literal["open", "done", "refused"]
    result: str | None
    created_at: datetime
    finished_at: datetime | None
