"""What each rule of a policy wants to keep. No rule asks to remove."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastgood.findings import SOUND, Verdict
from lastgood.retention.soundness import is_sound
from lastgood.retention.words import Reason, Why, gathered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime, timedelta

    from lastgood.records import Record
    from lastgood.retention.words import Policy
    from lastgood.settings_values import KeepBest


def wanted(
    present: Sequence[Record], lines: Sequence[Sequence[Record]], policy: Policy, changed: frozenset[int]
) -> dict[int, list[Reason]]:
    """By id, the rules that want it. Where none is accepted, the best verdict that there is satisfies them."""
    sound = [[record for record in line if is_sound(record, changed)] for line in lines]
    accepted = {Verdict.COMPLETE, policy.accept}
    if not any(record.verdict in accepted for line in sound for record in line):
        accepted = set(SOUND)
    candidates = [[record for record in line if record.verdict in accepted] for line in sound]
    everywhere = [r for r in present if not r.copy and is_sound(r, changed) and r.verdict in accepted]
    return gathered(
        (
            *(wish for line in candidates for wish in _last(line, policy.keep_last)),
            *_best(everywhere, policy.keep_best),
            *(wish for line in candidates for wish in _every(line, policy.keep_every)),
            *_within(everywhere, policy.keep_within),
        )
    )


def _last(line: Sequence[Record], count: int) -> Iterator[tuple[Record, Reason]]:
    for record in line[:count]:
        yield record, Reason(Why.LAST, f"one of the last {count}")


def best_of(records: Iterable[Record], rule: KeepBest) -> list[Record]:
    """The best first. Of equals the earliest: those after it carry the same number along."""
    sign = 1 if rule.mode == "min" else -1
    measured = [record for record in records if rule.metric in record.metrics]
    return sorted(measured, key=lambda r: (sign * r.metrics[rule.metric], r.step, r.id))[: rule.count]


def _best(records: Iterable[Record], rule: KeepBest | None) -> Iterator[tuple[Record, Reason]]:
    if rule is None:
        return
    for record in best_of(records, rule):
        message = f"one of the best {rule.count} by {rule.metric}: {record.metrics[rule.metric]:g}"
        yield record, Reason(Why.BEST, message)


def stretch_of(step: int, steps: int) -> int:
    """Which stretch of so many steps a save belongs to: the one that its step ends, or that it lies in."""
    return -(-step // steps)


def _every(line: Iterable[Record], steps: int) -> Iterator[tuple[Record, Reason]]:
    """The last one of each stretch of so many steps, which is the multiple where one was saved."""
    if not steps:
        return
    stretches: dict[int, Record] = {}
    for record in sorted(line, key=lambda record: (record.step, record.id)):
        stretches[stretch_of(record.step, steps)] = record
    for stretch, record in stretches.items():
        yield record, Reason(Why.EVERY, f"the last one up to step {stretch * steps}")


def _within(records: Sequence[Record], time: timedelta) -> Iterator[tuple[Record, Reason]]:
    if not time or not records:
        return
    newest = max(_landed_at(record) for record in records)
    for record in records:
        if newest - _landed_at(record) <= time:
            yield record, Reason(Why.WITHIN, f"saved within {time} before the newest")


def _landed_at(record: Record) -> datetime:
    """By our own clock, as far as we were there: a file may claim any time."""
    if record.before_us or record.settled_at is None:
        return min(record.saved_at, record.first_seen_at)
    return record.settled_at
