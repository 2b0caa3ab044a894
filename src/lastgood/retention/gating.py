"""Whether a plan may be carried out now, without anybody asking for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from lastgood.retention.words import Plan


@dataclass(frozen=True, slots=True)
class Wait:
    """Why not. `code` is stable: frozen, observing, or confirm."""

    code: str
    message: str
    until: datetime | None = None


def waits_for(
    plan: Plan,
    *,
    now: datetime,
    frozen: str | None,
    known_since: datetime | None,
    observe_for: timedelta,
    carried_out: str | None,
) -> Wait | None:
    """What stands before the plan; None where nothing does.

    `frozen`: why nothing is concluded from the root. `known_since`: when the worker first saw something in it.
    `carried_out`: the policy that was carried out last on the run, in words.
    """
    if frozen:
        return Wait("frozen", frozen)
    until = (known_since or now) + observe_for
    if now < until:
        return Wait("observing", f"new here: nothing is removed before {until.isoformat(timespec='seconds')}", until)
    if plan.removes_most and str(plan.policy) != carried_out:
        most = f"{len(plan.removals)} of {len(plan.decisions)}"
        return Wait("confirm", f"the policy is new, and would remove {most}: confirm plan {plan.id}")
    return None
