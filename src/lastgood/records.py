"""One generation of a checkpoint, as the catalog remembers it. Frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from lastgood.facts import Component, Presence
    from lastgood.findings import Verdict
    from lastgood.life import State


class Evidence(StrEnum):
    """Why we believe that a save is finished, weakest first."""

    QUIET = "quiet"  #: silence only: listed, never handed out
    STRUCTURAL = "structural"  #: the expected set is there, as long as each header says, and nobody writes
    RENAMED = "renamed"  #: the folder appeared by rename from a temporary name
    MARKER = "marker"  #: the layout's last file is there, and the newest
    DECLARED = "declared"  #: the job said so


@dataclass(frozen=True, slots=True)
class Hold:
    """A promise that a checkpoint is not removed: a lease, which ends, or a pin, which a person takes away."""

    id: int
    checkpoint_id: int
    holder: str
    until: datetime | None  #: None: a pin

    @property
    def pin(self) -> bool:
        return self.until is None

    def __str__(self) -> str:
        if self.until is None:
            return f"pinned by {self.holder}"
        return f"leased by {self.holder} until {self.until.isoformat(timespec='seconds')}"


SHORTEST_LEASE: Final = 1  #: seconds
LONGEST_LEASE: Final = 30 * 86_400
FAILURES_THAT_MARK: Final = 2


@dataclass(frozen=True, slots=True)
class Record:
    """One generation of a checkpoint, as the catalog remembers it. Times are aware UTC."""

    id: int
    run: str
    root: str  #: absolute path of the watched folder
    relative_path: str  #: of the checkpoint, below the root
    name: str
    number: int  #: the number in its name
    generation: int
    state: State
    first_seen_at: datetime
    saved_at: datetime  #: newest mtime of the payload
    bytes: int
    fingerprint: str
    copy: bool = False  #: under another kind of name, or a symlink to one: listed, starts no branch
    before_us: bool = False  #: it lay there before our first look, so that its order is a guess
    active: bool = False  #: somebody writes, or wrote within the last quiet window
    waiting_for: str | None = None  #: why it is not settled, or not judged, yet
    branch: int | None = None
    landing_seq: int | None = None  #: the order in which saves were finished
    evidence: Evidence | None = None
    unfinished: str | None = None  #: why its save was given up
    verdict: Verdict | None = None
    settled_at: datetime | None = None
    verified_at: datetime | None = None
    step_in_state: int | None = None
    epoch: float | None = None
    world_size: int | None = None
    exact_resume: bool = False
    components: Mapping[Component, Presence] = field(default_factory=dict)
    warnings: tuple[Mapping[str, Any], ...] = ()  #: findings, as JSON shows them
    metrics: Mapping[str, float] = field(default_factory=dict)  #: what the trainer measured by then
    best: str | None = None  #: the checkpoint that the trainer calls its best so far
    failures: int = 0  #: how often in a row a job could not start from it
    trash: str | None = None  #: its name in the trash, from when it is to go there
    until: datetime | None = None  #: how long it can be had back from there

    @property
    def finished(self) -> bool:
        """More than silence says that its save was finished."""
        return self.evidence not in (None, Evidence.QUIET)

    @property
    def failed(self) -> bool:
        """Jobs could not start from it: it is no longer handed out, until a person says otherwise."""
        return self.failures >= FAILURES_THAT_MARK

    @property
    def path(self) -> str:
        return f"{self.root.rstrip('/')}/{self.relative_path}"

    @property
    def step(self) -> int:
        """The step of its own state; the number in its name until that is known, or where it does not say."""
        return self.number if self.step_in_state is None else self.step_in_state
