"""The plan for one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastgood.branches import CONCURRENT_WRITERS, concurrent_writers, lineage
from lastgood.findings import SOUND, Verdict
from lastgood.life import IN_PLACE
from lastgood.retention.guards import guards, held
from lastgood.retention.rules import wanted
from lastgood.retention.soundness import is_sound, was_sound
from lastgood.retention.words import Decision, Plan, Reason, Why

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastgood.branches import Order
    from lastgood.records import Hold, Record
    from lastgood.retention.words import Policy


def plan(
    records: Sequence[Record],
    policy: Policy,
    holds: Mapping[int, Sequence[Hold]],
    *,
    changed: frozenset[int] = frozenset(),
    busy: frozenset[int] = frozenset(),
    unproven: frozenset[int] = frozenset(),
) -> Plan:
    """What to do with each checkpoint of one run.

    `holds`: leases and pins in force, by the id of the checkpoint. `changed`: ids that are no longer as they were
    read. `busy`: ids that are read again, or copied, at the moment. `unproven`: ids of those that must have a proven
    copy in the cloud first.
    """
    present = [record for record in records if record.state in IN_PLACE]
    saves = [record for record in records if not record.copy]
    lines = _lines(saves, policy, changed)
    guarding = guards(records, present, lines, policy, changed)
    wishing = wanted(present, lines, policy, changed)
    holding = {record.id: held(record, holds.get(record.id, ()), changed, busy, unproven) for record in present}
    # The newest of one job would push out those of the other, which may have no other ones.
    mixed = (Reason(Why.UNSURE, CONCURRENT_WRITERS),) if concurrent_writers(saves) else ()
    reasons = {r.id: (*holding[r.id], *guarding.get(r.id, ()), *wishing.get(r.id, ()), *mixed) for r in present}
    newest_good = next((r for r in lines[0] if r.verdict is Verdict.COMPLETE and is_sound(r, changed)), None)
    decisions = tuple(_decision(record, reasons[record.id], policy, newest_good) for record in present)
    return Plan(decisions, policy, frozenset(guarding))


def _lines(saves: Sequence[Record], policy: Policy, changed: frozenset[int]) -> list[list[Record]]:
    """The newest line of saves and, as long as nothing accepted was saved in its own branch, those that it follows.

    Otherwise a first save that nobody has read yet, or that is damaged, would push the good ones before it out.
    """
    good = [record for record in saves if was_sound(record, changed)]
    if policy.order != "landed" or not good:
        return [lineage(saves, policy.order)]
    accepted = [record for record in good if record.verdict in (Verdict.COMPLETE, policy.accept)]
    begun = max(record.branch or 0 for record in accepted or good)
    ends = {begun, *(record.branch for record in saves if record.branch and record.branch > begun)}
    return [lineage(r for r in saves if (r.branch or 0) <= end) for end in sorted(ends, reverse=True)]


def _decision(record: Record, keeping: tuple[Reason, ...], policy: Policy, newest_good: Record | None) -> Decision:
    if keeping:
        return Decision(record, keep=True, reasons=keeping)
    if policy.is_empty:
        return Decision(record, keep=True, reasons=(Reason(Why.NO_POLICY, "no rule is set: nothing is removed"),))
    if record.verdict in SOUND:
        return Decision(record, keep=False, reasons=(Reason(Why.UNWANTED, "no rule keeps it"),))
    what = f"it is {record.verdict}"
    if newest_good is None or not _is_newer(newest_good, record, policy.order):
        reason = Reason(Why.NOTHING_BETTER, f"{what}, but no newer one is complete")
        return Decision(record, keep=True, reasons=(reason,))
    reason = Reason(Why.DAMAGED, f"{what}, and {newest_good.name} is complete")
    return Decision(record, keep=False, reasons=(reason,))


def _is_newer(good: Record, than: Record, order: Order) -> bool:
    """By the numbers in their names: a damaged one may no longer tell the step of its state."""
    if order == "mtime":
        return good.saved_at > than.saved_at
    branches = (good.branch or 0, than.branch or 0) if order == "landed" else (0, 0)
    return (branches[0], good.number) > (branches[1], than.number)
