"""The plan for one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastgood.branches import lineage
from lastgood.findings import Verdict
from lastgood.life import IN_PLACE
from lastgood.retention.guards import guards, held
from lastgood.retention.rules import wanted
from lastgood.retention.soundness import SOUND, is_sound
from lastgood.retention.words import Decision, Plan, Reason, Why

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastgood.records import Hold, Record
    from lastgood.retention.words import Policy


def plan(
    records: Sequence[Record],
    policy: Policy,
    holds: Mapping[int, Sequence[Hold]],
    *,
    changed: frozenset[int] = frozenset(),
    busy: frozenset[int] = frozenset(),
) -> Plan:
    """What to do with each checkpoint of one run.

    `holds`: leases and pins in force, by the id of the checkpoint. `changed`: ids that are no longer as they were
    read. `busy`: ids that are read again at the moment.
    """
    present = [record for record in records if record.state in IN_PLACE]
    line = [r for r in lineage((r for r in records if not r.copy), policy.order) if is_sound(r, changed)]
    guarding = guards(records, present, line, policy, changed)
    wishing = wanted(present, line, policy, changed)
    holding = {record.id: held(record, holds.get(record.id, ()), changed, busy) for record in present}
    reasons = {r.id: (*holding[r.id], *guarding.get(r.id, ()), *wishing.get(r.id, ())) for r in present}
    newest_good = next((r for r in line if r.verdict is Verdict.COMPLETE), None)
    decisions = tuple(_decision(record, reasons[record.id], policy, newest_good) for record in present)
    return Plan(decisions, policy, frozenset(record.id for record in line if record.id in guarding))


def _decision(record: Record, keeping: tuple[Reason, ...], policy: Policy, newest_good: Record | None) -> Decision:
    if keeping:
        return Decision(record, keep=True, reasons=keeping)
    if policy.is_empty:
        return Decision(record, keep=True, reasons=(Reason(Why.NO_POLICY, "no rule is set: nothing is removed"),))
    if record.verdict in SOUND and not record.failed:
        return Decision(record, keep=False, reasons=(Reason(Why.UNWANTED, "no rule keeps it"),))
    what = f"it is {record.verdict}" if record.verdict not in SOUND else "jobs could not start from it"
    if newest_good is None or _place(newest_good) <= _place(record):
        return Decision(
            record, keep=True, reasons=(Reason(Why.NOTHING_BETTER, f"{what}, but no newer one is complete"),)
        )
    why = Why.DAMAGED if record.verdict not in SOUND else Why.FAILED
    return Decision(record, keep=False, reasons=(Reason(why, f"{what}, and {newest_good.name} is complete"),))


def _place(record: Record) -> tuple[int, int, int]:
    return (record.branch or 0, record.step, record.id)
