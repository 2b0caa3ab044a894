"""What each rule of a policy wants to keep. No rule asks to remove."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastgood.findings import Verdict
from lastgood.retention.soundness import SOUND, is_sound
from lastgood.retention.words import Reason, Why

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime, timedelta

    from lastgood.records import Record
    from lastgood.retention.words import Policy
    from lastgood.settings import KeepBest


def wanted(
    present: Sequence[Record], line: Sequence[Record], policy: Policy, changed: frozenset[int]
) -> dict[int, list[Reason]]:
    """By id, the rules that want it. Where none is accepted, the best verdict that there is satisfies them."""
    accepted = {Verdict.COMPLETE, policy.accept}
    if not any(record.verdict in accepted for record in line):
        accepted = set(SOUND)
    candidates = [record for record in line if record.verdict in accepted]
    everywhere = [r for r in present if not r.copy and is_sound(r, changed) and r.verdict in accepted]
    found: dict[int, list[Reason]] = {}
    for record, reason in (
        *_last(candidates, policy.keep_last),
        *_best(everywhere, policy.keep_best),
        *_every(candidates, policy.keep_every),
        *_within(everywhere, policy.keep_within),
    ):
        found.setdefault(record.id, []).append(reason)
    return found


def _last(line: Sequence[Record], count: int) -> Iterator[tuple[Record, Reason]]:
    for record in line[:count]:
        yield record, Reason(Why.LAST, f"one of the last {count}")


def _best(records: Iterable[Record], rule: KeepBest | None) -> Iterator[tuple[Record, Reason]]:
    """Of equals the earliest: those after it carry the same number along."""
    if rule is None:
        return
    sign = 1 if rule.mode == "min" else -1
    measured = [record for record in records if rule.metric in record.metrics]
    for record in sorted(measured, key=lambda r: (sign * r.metrics[rule.metric], r.step, r.id))[: rule.count]:
        message = f"one of the best {rule.count} by {rule.metric}: {record.metrics[rule.metric]:g}"
        yield record, Reason(Why.BEST, message)


def _every(line: Iterable[Record], steps: int) -> Iterator[tuple[Record, Reason]]:
    """The last one of each stretch of so many steps, which is the multiple where one was saved."""
    if not steps:
        return
    stretches: dict[int, Record] = {}
    for record in sorted(line, key=lambda record: (record.step, record.id)):
        stretches[-(-record.step // steps)] = record
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
    """By our own clock, unless it lay there before us: a file may claim any time."""
    return record.saved_at if record.before_us or record.settled_at is None else record.settled_at
