"""What forbids to remove a checkpoint, whatever the settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lastgood import resume
from lastgood.errors import Refusal
from lastgood.findings import Verdict
from lastgood.life import State
from lastgood.records import Evidence
from lastgood.retention.soundness import SOUND, is_sound
from lastgood.retention.words import Reason, Why

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lastgood.branches import Order
    from lastgood.records import Hold, Record
    from lastgood.retention.words import Policy

LAST_SOUND: Final = 2  #: how many of the newest branch are never removed


def held(record: Record, holds: Sequence[Hold], changed: frozenset[int], busy: frozenset[int]) -> tuple[Reason, ...]:
    """What of itself, or of its readers, forbids to touch it."""
    found = [Reason(Why.PINNED if hold.pin else Why.LEASED, str(hold)) for hold in holds]
    if record.copy:
        found.append(Reason(Why.COPY, "a copy or link is never removed"))
    elif record.state is not State.VERIFIED or record.id in busy:
        found.append(Reason(Why.IN_WORK, record.waiting_for or f"it is {record.state}"))
    elif record.verdict is Verdict.UNREADABLE:
        found.append(Reason(Why.UNREADABLE, "it could not be read: that is no grounds for removal"))
    elif record.id in changed:
        found.append(Reason(Why.UNSURE, "its files changed since it was read"))
    elif record.verdict in SOUND and record.evidence in (None, Evidence.QUIET):
        found.append(Reason(Why.UNSURE, "nothing but silence says that its save is finished"))
    return tuple(found)


def guards(
    records: Sequence[Record],
    present: Sequence[Record],
    line: Sequence[Record],
    policy: Policy,
    changed: frozenset[int],
) -> dict[int, list[Reason]]:
    found: dict[int, list[Reason]] = {}

    def guard(record: Record, why: Why, message: str) -> None:
        found.setdefault(record.id, []).append(Reason(why, message))

    for accept in dict.fromkeys((policy.accept, *SOUND)):
        if (point := _resume_point(records, accept, policy.order, changed)) and point.id not in found:
            who = "a job" if accept is policy.accept else f"a job that accepts {accept} ones"
            guard(point, Why.RESUME_POINT, f"{who} would start from it now")
    for record in _best_verdict_first(line)[:LAST_SOUND]:
        guard(record, Why.LAST_SOUND, f"one of the last {LAST_SOUND} good ones")
    newest = max((record.branch or 0 for record in records if not record.copy), default=0)
    for branch, saves in _by_branch(r for r in present if is_sound(r, changed)).items():
        if branch != newest:
            guard(saves[0], Why.LAST_OF_BRANCH, f"the last good one of an earlier line of saves ({branch})")
    if best := next((record.best for record in line if record.best), None):
        for record in line:
            if record.name == best:
                guard(record, Why.TRAINERS_BEST, "the trainer calls it its best so far")
    return found


def _resume_point(records: Sequence[Record], accept: Verdict, order: Order, changed: frozenset[int]) -> Record | None:
    try:
        return resume.resume_point(records, resume.Wishes(accept=accept, order=order), changed).record
    except Refusal:
        return None


def _best_verdict_first(line: Iterable[Record]) -> list[Record]:
    return sorted(line, key=lambda record: record.verdict is not Verdict.COMPLETE)  # stable: the newest first in each


def _by_branch(records: Iterable[Record]) -> dict[int, list[Record]]:
    """The newest first in each."""
    found: dict[int, list[Record]] = {}
    for record in sorted(records, key=lambda record: (record.step, record.id), reverse=True):
        if record.branch is not None:
            found.setdefault(record.branch, []).append(record)
    return found
