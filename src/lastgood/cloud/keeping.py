"""Which copies of a run are kept: by the rules and the guards of the disk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from lastgood import retention
from lastgood.cloud.choosing import records_of
from lastgood.cloud.words import CopyState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from lastgood.cloud.words import CloudCopy, Upload
    from lastgood.records import Hold


@dataclass(frozen=True, slots=True)
class CopiesPlan:
    """What becomes of one run's proven copies."""

    decisions: tuple[tuple[CloudCopy, retention.Decision], ...]
    plan: retention.Plan
    wait: retention.Wait | None  #: what stands before it; None where nothing does

    @property
    def doomed(self) -> list[CloudCopy]:
        return [copy for copy, decision in self.decisions if not decision.keep]


def plan_of_copies(
    uploads: Iterable[Upload],
    policy: retention.Policy,
    holds: Mapping[int, Sequence[Hold]],
    *,
    now: datetime,
    carried_out: str | None,
) -> CopiesPlan:
    """The plan for the copies of one run.

    `holds`: by the id of a checkpoint; a pin holds its copy as well, a lease does not. `carried_out`: the policy that
    was carried out last on the copies of this run, in words.
    """
    proven = [upload for upload in uploads if upload.state is CopyState.PROVEN]
    pins = {u.copy.key: [hold for hold in holds.get(u.checkpoint_id or 0, ()) if hold.pin] for u in proven}
    found = records_of(upload.copy for upload in proven)
    held = {record_id: pins[copy.key] for record_id, (_record, copy) in found.items()}
    plan = retention.plan([record for record, _copy in found.values()], policy, held)
    wait = retention.waits_for(
        plan, now=now, frozen=None, known_since=None, observe_for=timedelta(), carried_out=carried_out
    )
    decisions = tuple((found[decision.record.id][1], decision) for decision in plan.decisions)
    return CopiesPlan(decisions, plan, None if policy.is_empty else wait)
