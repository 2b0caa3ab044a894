"""What people and jobs ask of the worker, beside word of a finished save."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastgood.findings import Severity
from lastgood.life import State

if TYPE_CHECKING:
    from lastgood.catalog import Request
    from lastgood.records import Record
    from lastgood_worker.done import Done
    from lastgood_worker.ledger import Ledger
    from lastgood_worker.retaining import Retaining
    from lastgood_worker.uploading import Cloud
    from lastgood_worker.verdicts import Verdicts


class Orders:
    """Carries out one request, at once where that is possible."""

    def __init__(self, ledger: Ledger, verdicts: Verdicts, retaining: Retaining, cloud: Cloud) -> None:
        self._ledger, self._verdicts, self._retaining = ledger, verdicts, retaining
        self._cloud = cloud

    def carry_out(self, request: Request) -> Done | None:
        """None while it takes: to be asked again."""
        if request.kind == "apply":
            return self._apply(request.run, request.arguments.get("confirm"))
        if request.kind == "probe":
            return self._cloud.probe(request.id)
        if request.checkpoint_id is None or request.checkpoint_id not in self._ledger:
            return False, f"there is no checkpoint with the id {request.checkpoint_id} below a watched folder"
        return self._carry_out_on(self._ledger[request.checkpoint_id], request)

    def _carry_out_on(self, record: Record, request: Request) -> Done | None:
        match request.kind:
            case "remove":
                return self._retaining.remove(record)
            case "undo":
                return self._retaining.undo(record)
            case "verify":
                return self._verify(record)
            case "push":
                return self._cloud.push(request.id, record)
            case "pull":
                return self._cloud.pull(request.id, record)
            case "outcome":
                return self._note_outcome(record, **request.arguments)
        return False, f"this worker does not know how to carry out {request.kind!r}"

    def _apply(self, run: str, confirm: str | None) -> Done:
        if confirm is not None and self._cloud.confirm(run, confirm):
            return True, f"the plan for the copies of {run} is carried out"
        return self._retaining.apply(run, confirm)

    def _verify(self, record: Record) -> Done:
        if record.state is State.VERIFIED:
            self._verdicts.recheck(record)
            return True, f"{record.name} is read again"
        if record.state in (State.LANDING, State.SETTLED):
            return True, f"{record.name} is {record.state}: it will be read anyway"
        return False, f"{record.name} is {record.state}"

    def _note_outcome(self, record: Record, outcome: str, error: str | None = None) -> Done:
        """How a job fared that started from it. Two failures in a row, and no other job is sent there."""
        if record.state is not State.VERIFIED:
            return False, f"{record.name} is {record.state}"
        failures = record.failures + 1 if outcome == "failed" else 0
        if failures == record.failures:
            return True, f"{record.name} goes on being handed out"
        noted = self._ledger.write(self._ledger.catalog.count_failures, record.id, failures)
        if not failures:
            return True, f"{record.name} is handed out: its failures are forgotten"
        message = f"a job could not start from {record.name}: {error or 'it did not say why'}"
        if noted.failed:
            message += f"; it is no longer handed out, until `lastgood undo {record.name}`"
        self._ledger.event("marked-failed" if noted.failed else "load-failed", message, Severity.WARNING, noted)
        return True, message
