"""What forbids to remove a checkpoint, whatever the settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lastgood import resume
from lastgood.errors import Refusal
from lastgood.findings import SOUND, Code, Verdict
from lastgood.life import State
from lastgood.retention.soundness import is_sound
from lastgood.retention.words import Reason, Why, gathered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lastgood.branches import Order
    from lastgood.records import Hold, Record
    from lastgood.retention.words import Policy

LAST_SOUND: Final = 2  #: how many of the newest branch are never removed


def held(
    record: Record,
    holds: Sequence[Hold],
    changed: frozenset[int],
    busy: frozenset[int],
    unproven: frozenset[int],
) -> tuple[Reason, ...]:
    """What of itself, or of its readers, forbids to touch it."""
    found = [Reason(Why.PINNED if hold.pin else Why.LEASED, str(hold)) for hold in holds]
    if record.id in unproven:
        found.append(Reason(Why.NOT_COPIED, "its copy in the cloud is not proven yet"))
    if record.copy:
        found.append(Reason(Why.COPY, "a copy or link is never removed"))
    elif record.state is not State.VERIFIED or record.id in busy:
        doing = "read, or copied" if record.state is State.VERIFIED else record.state
        found.append(Reason(Why.IN_WORK, record.waiting_for or f"it is {doing}"))
    elif record.verdict is Verdict.UNREADABLE:
        found.append(Reason(Why.UNREADABLE, "it could not be read: that is no grounds for removal"))
    elif any(warning["code"] == Code.LAYOUT_UNKNOWN for warning in record.warnings):
        found.append(Reason(Why.UNSURE, "its layout is not known here: that is no grounds for removal"))
    elif record.id in changed:
        found.append(Reason(Why.UNSURE, "its files changed since it was read"))
    elif record.verdict in SOUND and not record.finished:
        found.append(Reason(Why.UNSURE, "nothing but silence says that its save is finished"))
    elif record.verdict in SOUND and record.failed:  # it may have been the job: a wrong model fails with all of them
        found.append(Reason(Why.FAILED, "jobs could not start from it, but its bytes are sound: a person decides"))
    return tuple(found)


def guards(
    records: Sequence[Record],
    present: Sequence[Record],
    lines: Sequence[Sequence[Record]],
    policy: Policy,
    changed: frozenset[int],
) -> dict[int, list[Reason]]:
    """By id, what forbids to remove it as things stand. `lines`: the newest first in each."""
    sound = [[record for record in line if is_sound(record, changed)] for line in lines]
    everywhere = [record for record in present if is_sound(record, changed)]
    return gathered(
        (
            *_resume_points(records, policy, changed),
            *(found for line in sound for found in _last_sound(line)),
            *_last_of_branches(everywhere, sound[0]),
            *(found for line in lines for found in _trainers_best(line, changed)),
        )
    )


def _resume_points(
    records: Sequence[Record], policy: Policy, changed: frozenset[int]
) -> Iterator[tuple[Record, Reason]]:
    told: set[int] = set()
    for accept in dict.fromkeys((policy.accept, *SOUND)):
        point = _resume_point(records, accept, policy.order, changed)
        if point is not None and point.id not in told:
            who = "a job" if accept is policy.accept else f"a job that accepts {accept} ones"
            yield point, Reason(Why.RESUME_POINT, f"{who} would start from it now")
            told.add(point.id)


def _resume_point(records: Sequence[Record], accept: Verdict, order: Order, changed: frozenset[int]) -> Record | None:
    try:
        return resume.resume_point(records, resume.Wishes(accept=accept, order=order), changed).record
    except Refusal:
        return None


def _last_sound(line: Sequence[Record]) -> Iterator[tuple[Record, Reason]]:
    for record in _best_verdict_first(line)[:LAST_SOUND]:
        yield record, Reason(Why.LAST_SOUND, f"one of the last {LAST_SOUND} good ones")


def _last_of_branches(everywhere: Iterable[Record], line: Sequence[Record]) -> Iterator[tuple[Record, Reason]]:
    for branch, saves in _by_branch(everywhere).items():
        if saves[0] not in line[:1]:
            message = f"the last good one of another line of saves ({branch})"
            yield saves[0], Reason(Why.LAST_OF_BRANCH, message)


def _trainers_best(line: Iterable[Record], changed: frozenset[int]) -> Iterator[tuple[Record, Reason]]:
    """Those that were removed said it just as well: otherwise to remove one would change what is said."""
    best = next((record.best for record in line if record.best and record.verdict in SOUND), None)
    for record in line:
        if record.name == best and is_sound(record, changed):
            yield record, Reason(Why.TRAINERS_BEST, "the trainer calls it its best so far")


def _best_verdict_first(line: Iterable[Record]) -> list[Record]:
    return sorted(line, key=lambda record: record.verdict is not Verdict.COMPLETE)  # stable: the newest first in each


def _by_branch(records: Iterable[Record]) -> dict[int, list[Record]]:
    """The newest first in each."""
    found: dict[int, list[Record]] = {}
    for record in sorted(records, key=lambda record: (record.step, record.id), reverse=True):
        if record.branch is not None:
            found.setdefault(record.branch, []).append(record)
    return found
