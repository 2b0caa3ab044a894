"""Policies, decisions, plans, and the reasons in them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from lastgood.findings import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lastgood.branches import Order
    from lastgood.records import Record
    from lastgood.settings import Settings
    from lastgood.settings_values import KeepBest


class Why(StrEnum):
    """Why a checkpoint is kept or removed, as a stable word."""

    # rules
    LAST = "keep-last"
    BEST = "keep-best"
    EVERY = "keep-every"
    WITHIN = "keep-within"
    # guards
    RESUME_POINT = "resume-point"
    LAST_SOUND = "last-sound"
    LAST_OF_BRANCH = "last-of-branch"
    TRAINERS_BEST = "trainers-best"
    PINNED = "pinned"
    LEASED = "leased"
    IN_WORK = "in-work"
    UNREADABLE = "unreadable"
    NOT_COPIED = "not-copied"  #: it must be in the cloud first
    UNSURE = "unsure"  #: only silence says that its save is finished, its files changed, or its layout is not known
    FAILED = "failed"  #: jobs could not start from it
    NOTHING_BETTER = "nothing-better"  #: it is damaged, and no newer complete one is there
    COPY = "copy"
    NO_POLICY = "no-policy"
    # removal
    UNWANTED = "unwanted"
    DAMAGED = "damaged"
    ASKED = "asked"  #: a person named it


# What a person who names one checkpoint to be removed may overrule.
_YIELDING: Final = frozenset(
    {Why.LAST, Why.BEST, Why.EVERY, Why.WITHIN, Why.LAST_OF_BRANCH, Why.TRAINERS_BEST, Why.NO_POLICY}
    | {Why.NOTHING_BETTER, Why.UNSURE, Why.FAILED}
)


@dataclass(frozen=True, slots=True)
class Policy:
    """The four rules, joined by "or". An empty one removes nothing."""

    keep_last: int = 0
    keep_best: KeepBest | None = None
    keep_every: int = 0  #: steps
    keep_within: timedelta = timedelta()  #: counted back from the newest
    accept: Verdict = Verdict.COMPLETE  #: the least verdict that satisfies a rule
    order: Order = "landed"

    @property
    def is_empty(self) -> bool:
        best = self.keep_best.count if self.keep_best else 0
        return not (self.keep_last or best or self.keep_every or self.keep_within)

    def __str__(self) -> str:
        """As a person would say it; two that say the same are the same."""
        rules = {"keep_last": self.keep_last, "keep_best": self.keep_best, "keep_every": self.keep_every}
        said = [f"{name} {value}" for name, value in rules.items() if value]
        if self.keep_within:
            said.append(f"keep_within {self.keep_within}")
        if self.is_empty:
            return "no rule: nothing is removed"
        said.append(f"accept {self.accept}")
        if self.order != "landed":
            said.append(f"order {self.order}")
        return ", ".join(said)


@dataclass(frozen=True, slots=True)
class Reason:
    why: Why
    message: str


def gathered(found: Iterable[tuple[Record, Reason]]) -> dict[int, list[Reason]]:
    """The reasons of each record, by its id, each once."""
    reasons: dict[int, dict[Reason, None]] = {}
    for record, reason in found:
        reasons.setdefault(record.id, {})[reason] = None
    return {record_id: list(each) for record_id, each in reasons.items()}


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one checkpoint, with every reason."""

    record: Record
    keep: bool
    reasons: tuple[Reason, ...]

    @property
    def damaged(self) -> bool:
        """It waits longer in the trash."""
        return not self.keep and self.reasons[0].why is Why.DAMAGED


@dataclass(frozen=True, slots=True)
class Plan:
    """One decision for each checkpoint of a run that is there, in the order in which they were seen."""

    decisions: tuple[Decision, ...]
    policy: Policy
    relies_on: frozenset[int] = field(default_factory=frozenset)  #: ids of those that must be what they were read as

    @property
    def removals(self) -> tuple[Decision, ...]:
        return tuple(decision for decision in self.decisions if not decision.keep)

    @property
    def bytes_freed(self) -> int:
        return sum(decision.record.bytes for decision in self.removals)

    @property
    def removes_most(self) -> bool:
        """More than half of what is there."""
        own = [decision for decision in self.decisions if not decision.record.copy]
        return 2 * len(self.removals) > len(own)

    @property
    def id(self) -> str:
        """12 digits: equal in two plans that remove the same for the same reasons."""
        what = sorted((d.record.id, d.record.fingerprint, d.reasons[0].why.value) for d in self.removals)
        return hashlib.sha256(repr((str(self.policy), what)).encode()).hexdigest()[:12]


def remote_policy_of(settings: Settings, run: str) -> Policy:
    """What the settings say of this run's copies in the cloud."""
    own = settings.of_run(run)
    return Policy(
        keep_last=settings.remote_keep_last,
        keep_best=settings.remote_keep_best,
        keep_every=settings.remote_keep_every,
        keep_within=timedelta(seconds=settings.remote_keep_within),
        accept=Verdict(own.accept),
        order=own.order,
    )


def policy_of(settings: Settings, run: str) -> Policy:
    """What the settings say of this run."""
    own = settings.of_run(run)
    return Policy(
        keep_last=own.keep_last,
        keep_best=own.keep_best,
        keep_every=own.keep_every,
        keep_within=timedelta(seconds=own.keep_within),
        accept=Verdict(own.accept),
        order=own.order,
    )


def why_kept(decision: Decision) -> Reason | None:
    """The guard that stands before a person's wish to remove this one; None where none does."""
    if not decision.keep:
        return None
    return next((reason for reason in decision.reasons if reason.why not in _YIELDING), None)
