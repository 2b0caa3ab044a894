"""What retention would do as of this moment, run by run, and why it does not do it by itself yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from lastgood import retention
from lastgood.cloud import plan_of_copies
from lastgood.latest import plan_now
from lastgood.life import State
from lastgood_service.copies import pinned_in, unproven
from lastgood_service.readiness import is_alive
from lastgood_service.sharing import Shared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from lastgood.catalog import Catalog, WorkerStatus
    from lastgood.cloud import CopiesPlan, Remote
    from lastgood.records import Hold, Record
    from lastgood.retention import Plan, Wait
    from lastgood.settings import Settings
    from lastgood_service.clock import Clock
    from lastgood_service.knowledge import Known


@dataclass(frozen=True, slots=True)
class Planned:
    """One run's plan."""

    run: str
    plan: Plan
    wait: Wait | None
    trash: tuple[Record, ...]
    holds: Mapping[int, Sequence[Hold]]
    remote: Remote | None  #: where its copies are; None: no place for copies is set
    of_copies: CopiesPlan | None

    def decision(self, checkpoint_id: int) -> retention.Decision | None:
        """None where it is not in its place."""
        return next((decision for decision in self.plan.decisions if decision.record.id == checkpoint_id), None)


class Plans:
    """Ask as often as you like: each run is looked at once at a time, for however many ask."""

    def __init__(self, catalog: Catalog, clock: Clock, settings: Settings) -> None:
        self._catalog, self._clock, self._settings = catalog, clock, settings
        self._known: dict[str, Known] = {}
        self._looking: dict[str, Shared[Planned]] = {}

    async def of_run(self, known: Known, run: str) -> Planned:
        """CannotTell where its disk does not answer."""
        self._known[run] = known
        if run not in self._looking:
            self._looking[run] = Shared(lambda: self._plan(run), run)
        return await self._looking[run].fresh()

    def _plan(self, run: str) -> Planned:
        known, now = self._known[run], self._clock.now()
        records, policy = known.records[run], retention.policy_of(self._settings, run)
        holds = self._catalog.holds(now)
        needed = unproven(known.copies, self._settings, run, records, pinned_in(holds))
        plan = plan_now(records, policy, holds, _in_work(known.worker, now), needed)
        trash = tuple(record for record in records if record.state is State.TRASHED)
        remote, of_copies = None, None
        if known.copies is not None:
            remote = known.copies.remote
            rules = retention.remote_policy_of(self._settings, run)
            carried_out = known.runs[run].remote_policy
            of_copies = plan_of_copies(known.copies.of_run(run), rules, holds, now=now, carried_out=carried_out)
        return Planned(run, plan, self._wait(known, plan, run), trash, holds, remote, of_copies)

    def _wait(self, known: Known, plan: Plan, run: str) -> Wait | None:
        if plan.policy.is_empty:
            return None
        row = known.runs[run]
        root = next((root for root in known.roots if root.path == row.root), None)
        return retention.waits_for(
            plan,
            now=self._clock.now(),
            frozen=root.frozen if root else None,
            known_since=root.known_since if root else None,
            observe_for=timedelta(seconds=self._settings.observe_for),
            carried_out=row.policy,
        )


def _in_work(worker: WorkerStatus | None, now: datetime) -> frozenset[int]:
    """Ids of what is read again, or sent to the cloud, at the moment."""
    if worker is None or not is_alive(worker, now):
        return frozenset()
    errand = worker.cloud.get("errand") or {}
    sent = errand if errand.get("kind") == "send" else {}
    found = (progress.get("checkpoint_id") for progress in (worker.progress, sent))
    return frozenset(checkpoint_id for checkpoint_id in found if checkpoint_id is not None)
