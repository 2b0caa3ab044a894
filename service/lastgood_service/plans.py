"""What retention would do as of this moment, run by run, and why it does not do it by itself yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from lastgood import retention
from lastgood.latest import plan_now
from lastgood.life import State
from lastgood_service.readiness import is_alive
from lastgood_service.sharing import Shared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastgood.catalog import Catalog
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
        progress = known.worker.progress if known.worker and is_alive(known.worker, now) else {}
        busy = frozenset({progress["checkpoint_id"]} if progress else ())
        plan = plan_now(records, policy, holds, busy)
        trash = tuple(record for record in records if record.state is State.TRASHED)
        return Planned(run, plan, self._wait(known, plan, run), trash, holds)

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
