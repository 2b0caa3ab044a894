"""The catalog's checkpoints, held in memory by their only writer: a look at 1,000 of them asks the disk nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec

from lastgood.findings import Severity
from lastgood.life import IN_PLACE, State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from datetime import datetime

    from lastgood.catalog import WorkerCatalog
    from lastgood.records import Record

P = ParamSpec("P")
_log = logging.getLogger("lastgood")
_CLOCK_ALLOWANCE: Final = timedelta(seconds=5)  # time servers put a clock right all day


@dataclass(frozen=True, slots=True)
class Clock:
    """Our two clocks: one that never steps, for durations in seconds, and the time of day in UTC, for the records."""

    monotonic: Callable[[], float]
    now: Callable[[], datetime]


class Ledger:
    """Every write goes through it and is read back; `changed` collects the runs whose answer it may move."""

    def __init__(self, catalog: WorkerCatalog, clock: Clock, roots: Collection[str]) -> None:
        """Holds what lies below `roots`; the catalog also remembers what was watched on other days."""
        self.catalog, self.clock = catalog, clock
        self._records = {record.id: record for record in catalog.records() if record.root in roots}
        self.changed: set[str] = self.runs()
        self.to_plan: set[str] = self.runs()  #: runs for which retention may have something new to do
        last = catalog.worker()
        self._latest = last.heartbeat_at if last else clock.now()

    def __getitem__(self, checkpoint_id: int) -> Record:
        return self._records[checkpoint_id]

    def __contains__(self, checkpoint_id: int) -> bool:
        return checkpoint_id in self._records

    def runs(self) -> set[str]:
        return {record.run for record in self._records.values()}

    def clock_trouble(self) -> str | None:
        """Why nothing that depends on the time of day may be done; None where the clock has never stepped back."""
        now = self.clock.now()
        self._latest = max(self._latest, now)
        if self._latest - now <= _CLOCK_ALLOWANCE:
            return None
        until = self._latest.isoformat(timespec="seconds")
        return f"the clock stepped back: nothing is removed before {until}, or before the worker is started again"

    def of_run(self, run: str) -> list[Record]:
        return [record for record in self._records.values() if record.run == run]

    def present(self) -> Iterator[Record]:
        """What lies where the trainer saved it."""
        return (record for record in self._records.values() if record.state in IN_PLACE)

    def in_trash(self) -> list[Record]:
        return [record for record in self._records.values() if record.state in (State.REMOVING, State.TRASHED)]

    def add(self, run_id: int, **columns: Any) -> Record:
        return self._read_back(self.catalog.add_checkpoint(run_id, **columns, now=self.clock.now()))

    def write(
        self, verb: Callable[Concatenate[int, P], None], checkpoint_id: int, *args: P.args, **columns: P.kwargs
    ) -> Record:
        """Calls a method of the catalog for the checkpoint; the record afterwards."""
        verb(checkpoint_id, *args, **columns)
        return self._read_back(checkpoint_id)

    def choose(self, checkpoint_id: int, **columns: Any) -> bool:
        """It is to go to the trash. False where somebody holds it."""
        chosen: bool = self.catalog.choose(checkpoint_id, **columns)
        self._read_back(checkpoint_id)
        return chosen

    def event(self, kind: str, message: str, severity: Severity = Severity.INFO, record: Record | None = None) -> None:
        """One line in the event log, and in our own."""
        level = logging.WARNING if severity is Severity.WARNING else logging.INFO
        _log.log(level, "%s run=%s %s", kind, record.run if record else "-", message)
        self.catalog.log(
            kind,
            message,
            now=self.clock.now(),
            severity=severity,
            run=record.run if record else None,
            checkpoint_id=record.id if record else None,
            name=record.name if record else None,
        )

    def _read_back(self, checkpoint_id: int) -> Record:
        record, _report = self.catalog.record(checkpoint_id)
        self._records[checkpoint_id] = record
        self.changed.add(record.run)
        self.to_plan.add(record.run)
        return record
