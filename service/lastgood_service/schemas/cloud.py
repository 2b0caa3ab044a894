"""Copies in the cloud, and the place where they lie."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic looks the annotations up

from pydantic import ConfigDict

from lastgood.cloud import CopyState, Proof  # noqa: TC001
from lastgood.findings import Verdict  # noqa: TC001
from lastgood_service import examples
from lastgood_service.schemas.base import Shape


class CloudCopyShape(Shape):
    """A checkpoint's copy in the cloud, however far it is."""

    url: str
    state: CopyState
    """It is there once it is `proven`."""
    run: str
    name: str
    step: int
    verdict: Verdict
    exact_resume: bool
    bytes: int
    proof: Proof | None
    """Why the store holds the bytes that were judged: the weakest of its files. Null before it is there."""
    saved_at: datetime
    committed_at: datetime | None
    error: str | None
    """Why it is not there."""


class CopyShape(CloudCopyShape):
    checkpoint_id: int | None
    """The checkpoint that it is a copy of, where that was ever seen here."""
    checked_at: datetime | None
    """When it last came back whole."""


class CopyPage(Shape):
    model_config = ConfigDict(json_schema_extra={"examples": [examples.COPIES]})

    items: list[CopyShape]
    next_cursor: str | None
    """For the next page; null on the last."""


class RunCopies(Shape):
    """A run's copies in the cloud."""

    copies: int
    """Those that are proven."""
    bytes: int
    newest: CloudCopyShape | None
    """The proven one to start from, whatever its verdict."""
    waiting: list[str]
    """Names of the checkpoints that are to be copied and are not yet, the newest first."""
    conflicts: list[str]
    """Names of those where something else lies under the name of the copy: a person decides."""


class ProofShape(Shape):
    whole: Proof
    parts: Proof
    """Of large files, which are sent in parts."""


class ErrandShape(Shape):
    """What is done there at the moment."""

    kind: str
    """Stable: send, fetch, drill, list, probe, retire or sweep."""
    run: str | None
    name: str | None
    checkpoint_id: int | None
    bytes_done: int
    bytes_total: int
    bytes_per_second: float
    seconds_left: float | None


class CloudShape(Shape):
    """The place for copies."""

    url: str
    trouble: str | None
    """Why nothing goes there at the moment."""
    listed_at: datetime | None
    """When all copies there were last looked for. Null: nobody knows yet which there are."""
    probed_at: datetime | None
    drilled_at: datetime | None
    """When a copy last came back whole."""
    proof: ProofShape | None
    """The best that can be had there; null before that was tried."""
    conditional: bool | None
    """Whether of several that send the same copy at once one alone succeeds."""
    errand: ErrandShape | None
