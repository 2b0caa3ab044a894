"""Carrying out what retention plans: into the trash, back from it, and out of it for good.

The plan is made anew before each removal, from what is known and what lies there at that moment.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from lastgood import removal, retention
from lastgood.errors import Obstructed
from lastgood.findings import SOUND, Severity
from lastgood.latest import plan_now
from lastgood.life import IN_PLACE, State
from lastgood.removal import Found
from lastgood.wording import counted
from lastgood_worker.roots import is_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from lastgood.records import Record
    from lastgood.retention import Decision, Plan
    from lastgood.settings import Settings
    from lastgood_worker.ledger import Ledger
    from lastgood_worker.roots import RootView
    from lastgood_worker.uploading import Cloud
    from lastgood_worker.verdicts import Verdicts

_AT_ONCE: Final = 5  #: removals in one look: each takes a few fsyncs, and saves are waiting to be seen
_PLAN_EVERY: Final = 30.0  # seconds: leases end, and observation does, without anything else happening
_TRY_AGAIN_AFTER: Final = 600.0


class Retaining:
    """Ask `tend` at every look. What a person asks for comes by `remove`, `undo` and `apply`; each says how it went."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        roots: Sequence[RootView],
        verdicts: Verdicts,
        cloud: Cloud,
    ) -> None:
        self._settings, self._ledger, self._verdicts, self._cloud = settings, ledger, verdicts, cloud
        self._roots = {root.path: root for root in roots}
        self._asked: set[str] = set()  # runs whose plan a person wants carried out
        self._planned_at = float("-inf")
        self._not_before: dict[int, float] = {}
        self._told: dict[str, tuple[str, str]] = {}
        self._obstacles: dict[int, str] = {}

    # --- what a crash left ---

    def recover(self, root: RootView) -> None:
        """Finishes or takes back whatever was on its way when we last ended, by what is found."""
        for record in self._ledger.in_trash():
            if record.root == root.path:
                self._settle(record, removal.found(record))

    def _settle(self, record: Record, found: Found) -> None:
        removing = record.state is State.REMOVING
        if found is Found.IN_TRASH:
            if removing:
                self._ledger.write(self._ledger.catalog.discarded, record.id)
        elif found is Found.PURGING:
            if removing:
                self._ledger.write(self._ledger.catalog.discarded, record.id)
            self._purge(record, "its deletion had begun")
        elif removing and found is not Found.NOWHERE:
            # If it was written to, the next look at it tells.
            self._ledger.write(self._ledger.catalog.spared, record.id)
        elif found is Found.IN_PLACE:
            self._is_back(record)
        else:
            gone = self._ledger.write(self._ledger.catalog.vanished, record.id)
            where = "" if removing else " from the trash"
            self._ledger.event("removed-externally", f"{record.name} was removed{where}, not by lastgood", record=gone)

    # --- at every look ---

    def tend(self, ready: Iterable[RootView]) -> None:
        """Carries out the plans of the runs that may have changed."""
        now = self._ledger.clock.monotonic()
        due = now - self._planned_at >= _PLAN_EVERY
        runs, self._ledger.to_plan = self._ledger.to_plan, set()
        if due:
            self._planned_at = now
            runs = self._ledger.runs()
            self._ledger.catalog.forget_leases(self._ledger.clock.now() - timedelta(days=1))
        paths = {root.path for root in ready}
        for run in sorted(runs):
            records = self._ledger.of_run(run)
            if records and records[0].root in paths:
                self._carry_out(run)

    def _carry_out(self, run: str) -> None:
        if retention.policy_of(self._settings, run).is_empty:
            return
        for _ in range(_AT_ONCE):
            plan = self._plan(run)
            doomed = [d for d in plan.removals if self._may_be_tried(d.record)]
            if self._waits(run, plan):
                return
            if not doomed:
                self._asked.discard(run)
                return
            self._discard(doomed[0])
        self._ledger.to_plan.add(run)  # there may be more

    def _plan(self, run: str) -> Plan:
        """As of this moment: those that it relies on are, by stat, what was read."""
        holds = self._ledger.catalog.holds(self._ledger.clock.now())
        policy = retention.policy_of(self._settings, run)
        busy = self._verdicts.in_work() | self._cloud.in_work()
        return plan_now(self._ledger.of_run(run), policy, holds, busy, self._cloud.unproven(run))

    def _waits(self, run: str, plan: Plan) -> bool:
        """Whether something stands before it. Told once; a policy that nothing stands before is the run's from then."""
        known = next(found for found in self._ledger.catalog.runs() if found.name == run)
        root = self._roots[known.root].known
        wait = retention.waits_for(
            plan,
            now=self._ledger.clock.now(),
            frozen=self._ledger.clock_trouble() or (root.frozen if root else None),
            known_since=root.known_since if root else None,
            observe_for=timedelta(seconds=0 if run in self._asked else self._settings.observe_for),
            carried_out=known.policy,
        )
        if wait is None:
            if known.policy != str(plan.policy):
                self._ledger.catalog.remember_policy(run, str(plan.policy))
            return False
        if plan.removals and self._told.get(run) != (wait.code, str(plan.policy)):
            self._told[run] = (wait.code, str(plan.policy))
            severity = Severity.INFO if wait.code == "observing" else Severity.WARNING
            message = f"{counted(len(plan.removals), 'checkpoint')} of {run} would be removed; {wait.message}"
            self._ledger.event("retention-waits", message, severity, plan.removals[0].record)
        return True

    def _may_be_tried(self, record: Record) -> bool:
        return self._not_before.get(record.id, float("-inf")) <= self._ledger.clock.monotonic()

    def _discard(self, decision: Decision) -> str | None:
        """Into the trash. Why not, where it stays."""
        record, why = decision.record, decision.reasons[0].message
        damaged = decision.damaged or record.verdict not in SOUND
        keep_for = self._settings.trash_damaged_for if damaged else self._settings.trash_for
        now = self._ledger.clock.now()
        until = now + timedelta(seconds=keep_for)
        if not self._ledger.choose(record.id, trash=removal.trash_name(record), until=until, now=now):
            return "somebody holds it"
        obstacle = None
        try:
            removal.discard(self._ledger[record.id])
        except Obstructed as error:
            obstacle = self._settle_obstructed(self._ledger[record.id], str(error))
        else:
            self._ledger.write(self._ledger.catalog.discarded, record.id)
        state = self._ledger[record.id].state
        if state not in IN_PLACE:
            self._roots[record.root].tracked.pop(record.relative_path, None)
        if state is not State.TRASHED:
            return obstacle
        back = f"`lastgood undo {record.name} --run {record.run}` until {until:%Y-%m-%d %H:%M} UTC"
        message = f"{record.name} was moved to the trash: {why}; {back}"
        self._ledger.event("removed", message, record=self._ledger[record.id])
        return None

    def _settle_obstructed(self, record: Record, why: str) -> str:
        """Why it did not go, or not as it should: the rename may be done, and only the fsync have failed."""
        found = removal.found(record)
        if found is not Found.NOWHERE:
            self._obstructed(record, why)
        elif is_ready(self._roots[record.root], self._settings, self._ledger):
            why = f"{record.name} was removed just now, not by lastgood"  # the trainer's own rotation: no alarm
        else:
            self._ledger.write(self._ledger.catalog.spared, record.id)  # it was unmounted under our eyes
            return why
        self._settle(record, found)
        return why

    # --- what a person asks for; each says whether it was done, and how it stands ---

    def remove(self, record: Record) -> tuple[bool, str]:
        """One checkpoint, on somebody's word: guards stand before it, rules do not."""
        if record.state is not State.VERIFIED:
            return False, f"{record.name} is {record.state}"
        if trouble := self._standstill(record.root):
            return False, trouble
        decision = next(d for d in self._plan(record.run).decisions if d.record.id == record.id)
        if guard := retention.why_kept(decision):
            return False, f"{record.name} is kept: {guard.message}"
        reason = retention.Reason(retention.Why.ASKED, "somebody asked for it")
        why_not = self._discard(retention.Decision(record, keep=False, reasons=(reason,)))
        if why_not:
            return False, why_not
        return True, f"{record.name} is in the trash until {self._ledger[record.id].until:%Y-%m-%d %H:%M} UTC"

    def undo(self, record: Record) -> tuple[bool, str]:
        """Back from the trash; or handed out again, where jobs could not start from it."""
        if record.state is State.VERIFIED and record.failures:
            self._ledger.write(self._ledger.catalog.count_failures, record.id, 0)
            self._ledger.event("failures-forgotten", f"{record.name} may be handed out again", record=record)
            return True, f"{record.name} may be handed out again"
        if record.state is not State.TRASHED:
            return False, f"{record.name} is {record.state}: there is nothing to undo"
        if trouble := self._standstill(record.root):
            return False, trouble
        try:
            removal.take_back(record)
        except Obstructed as error:
            if removal.found(record) is not Found.IN_PLACE:  # fsync may fail afterwards
                return False, str(error)
        self._is_back(record)
        return True, f"{record.name} is in its place again, and pinned: `lastgood unpin {record.name}` lets it go"

    def _is_back(self, record: Record) -> None:
        """Pinned, or the next plan would remove it for the same reason."""
        back = self._ledger.write(self._ledger.catalog.undone, record.id)
        self._ledger.catalog.pin(record.id, holder="undo", now=self._ledger.clock.now())
        self._ledger.event("undone", f"{record.name} is back from the trash, and pinned", record=back)

    def apply(self, run: str, confirm: str | None) -> tuple[bool, str]:
        """The run's whole plan, on somebody's word."""
        records = self._ledger.of_run(run)
        if not records:
            return False, f"there is no run {run!r}"
        if trouble := self._standstill(records[0].root):
            return False, trouble
        plan = self._plan(run)
        if confirm is not None and confirm != plan.id:
            return False, f"the plan is another one by now: {plan.id}"
        known = next(found for found in self._ledger.catalog.runs() if found.name == run)
        if plan.removes_most and str(plan.policy) != known.policy and confirm is None:
            return False, f"it would remove more than half of {run}: confirm plan {plan.id}"
        self._ledger.catalog.remember_policy(run, str(plan.policy))
        self._asked.add(run)
        self._ledger.to_plan.add(run)
        return True, f"to the trash: {counted(len(plan.removals), 'checkpoint')} of {run}"

    def _standstill(self, root: str) -> str | None:
        view = self._roots.get(root)
        if view is None or view.frozen:
            return f"{root} is frozen: nothing in it is touched"
        return self._ledger.clock_trouble()

    # --- the trash ---

    def empty_trash(self, ready: Iterable[RootView], free_bytes: Callable[[str], int | None]) -> None:
        """Deletes for good what has been there long enough, or takes more room than it may: one at a time."""
        if self._ledger.clock_trouble():
            return
        now = self._ledger.clock.now()
        for root in ready:
            trash = [r for r in self._ledger.in_trash() if r.root == root.path and r.state is State.TRASHED]
            trash = [record for record in trash if self._may_be_tried(record)]
            if trash and (found := _overdue(trash, now) or self._too_much(trash, root, free_bytes)):
                self._purge(*found)

    def _too_much(
        self, trash: list[Record], root: RootView, free_bytes: Callable[[str], int | None]
    ) -> tuple[Record, str] | None:
        free = free_bytes(root.path)
        if free is None:
            return None
        first = min(trash, key=lambda record: (record.verdict in SOUND, record.until, record.id))
        saves = [record.bytes for record in self._ledger.present() if record.root == root.path]
        least = self._settings.min_free_space or 2 * max(saves, default=0)
        if free < least:
            return first, "the disk is nearly full"
        if sum(record.bytes for record in trash) > max(free // 10, *(record.bytes for record in trash)):
            return first, "the trash takes too much room"
        return None

    def _obstructed(self, record: Record, why: str) -> None:
        """Told once for each reason; tried again from time to time."""
        self._not_before[record.id] = self._ledger.clock.monotonic() + _TRY_AGAIN_AFTER
        if self._obstacles.get(record.id) != why:
            self._obstacles[record.id] = why
            self._ledger.event("not-removed", why, Severity.WARNING, record)

    def _purge(self, record: Record, why: str) -> None:
        try:
            removal.purge(record)
        except Obstructed as error:
            self._obstructed(record, str(error))
            return
        gone = self._ledger.write(self._ledger.catalog.purged, record.id)
        if not any(other.path == record.path for other in self._ledger.present()):
            self._verdicts.forget(record)
        self._ledger.event("purged", f"{record.name} was deleted from the trash: {why}", record=gone)


def _overdue(trash: Iterable[Record], now: datetime) -> tuple[Record, str] | None:
    return next(((record, "its time was over") for record in trash if record.until and record.until <= now), None)
