"""What people and jobs ask of the worker, beside word of a finished save."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastgood.findings import Severity
from lastgood.life import State

if TYPE_CHECKING:
    from lastgood.catalog import Request
    from lastgood.records import Record
    from lastgood_worker.ledger import Ledger
    from lastgood_worker.retaining import Retaining
    from lastgood_worker.verdicts import Verdicts

Outcome = tuple[bool, str]  #: whether it was done, and how it stands


class Orders:
    """Carries out one request at once."""

    def __init__(self, ledger: Ledger, verdicts: Verdicts, retaining: Retaining) -> None:
        self._ledger, self._verdicts, self._retaining = ledger, verdicts, retaining

    def carry_out(self, request: Request) -> Outcome:
        if request.kind == "apply":
            return self._retaining.apply(request.run, request.arguments.get("confirm"))
        if request.checkpoint_id is None or request.checkpoint_id not in self._ledger:
            return False, f"there is no checkpoint with the id {request.checkpoint_id} below a watched folder"
        record = self._ledger[request.checkpoint_id]
        if request.kind == "remove":
            return self._retaining.remove(record)
        if request.kind == "undo":
            return self._retaining.undo(record)
        if request.kind == "verify":
            return self._verify(record)
        if request.kind == "outcome":
            return self._note_outcome(record, **request.arguments)
        return False, f"this worker does not know how to carry out {request.kind!r}"

    def _verify(self, record: Record) -> Outcome:
        if record.state is State.VERIFIED:
            self._verdicts.recheck(record)
            return True, f"{record.name} is read again"
        if record.state in (State.LANDING, State.SETTLED):
            return True, f"{record.name} is {record.state}: it will be read anyway"
        return False, f"{record.name} is {record.state}"

    def _note_outcome(self, record: Record, outcome: str, error: str | None = None) -> Outcome:
        """How a job fared that started from it. Two failures in a row, and no other job is sent there."""
        if record.state is not State.VERIFIED:
            return False, f"{record.name} is {record.state}"
        failures = record.failures + 1 if outcome == "failed" else 0
        if failures == record.failures:
            return True, f"{record.name} goes on being handed out"
        noted = self._ledger.write(record.id, "count_failures", failures)
        if not failures:
            return True, f"{record.name} is handed out: its failures are forgotten"
        message = f"a job could not start from {record.name}: {error or 'it did not say why'}"
        if noted.failed:
            message += f"; it is no longer handed out, until `lastgood undo {record.name}`"
        self._ledger.event("marked-failed" if noted.failed else "load-failed", message, Severity.WARNING, noted)
        return True, message
