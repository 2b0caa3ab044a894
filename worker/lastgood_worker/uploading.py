"""Copies in the cloud: one errand at a time is sent out, and what became of it is recorded.

What is to be sent, fetched or removed is told anew before each errand, from what is known at that moment. A store that
does not answer is left alone for a while; nothing here ever holds up the watching.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from lastgood.cloud import CopyState, Remote, may_be_copied
from lastgood.life import State
from lastgood_worker import courier
from lastgood_worker.children import Child
from lastgood_worker.copies import Copies
from lastgood_worker.deliveries import Blame, Deliveries
from lastgood_worker.errands import Errands, how_to_speak

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping

    from lastgood.records import Record
    from lastgood.settings import Settings
    from lastgood_worker.done import Done
    from lastgood_worker.errands import Errand
    from lastgood_worker.ledger import Ledger
    from lastgood_worker.roots import RootView
    from lastgood_worker.verdicts import Verdicts

_FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 600.0
_AGAIN_AFTER: Final = 60.0  #: seconds, where one checkpoint alone could not be sent
_STALL: Final = 120.0  #: the courier speaks up twice a second, whatever the network does
_NOWHERE: Final = "no place for copies is set: LASTGOOD_REMOTE=s3://BUCKET/PREFIX names it"
_DIED: Final = {"what": "", "message": "the process that was sent out died", "code": "", "transient": True}


class Uploading:
    """Ask `tend` at every look. What a person asks for comes by `push`, `pull` and `probe`: None means later."""

    def __init__(
        self,
        settings: Settings,
        remote: Remote,
        ledger: Ledger,
        verdicts: Verdicts,
        wake: threading.Event,
        monotonic: Callable[[], float],
    ) -> None:
        """`monotonic`: real time, by which the courier is watched; all else goes by the ledger's clock."""
        self._settings, self._ledger, self._verdicts = settings, ledger, verdicts
        self._wake, self._monotonic = wake, monotonic
        self._copies = Copies(settings, ledger, remote)
        self._errands = Errands(settings, ledger, self._copies)
        self._deliveries = Deliveries(ledger, verdicts, self._copies, self._errands)
        self._errand: Errand | None = None
        self._child: Child | None = None
        self._started = 0.0
        self._failures = 0
        self._not_before = float("-inf")
        self._records_not_before: dict[int, float] = {}
        self._pushed: dict[int, int] = {}  #: request, by the id of the checkpoint
        self._pulls: dict[int, Errand] = {}  #: by request
        self._probes: list[int] = []  #: requests
        self._outcomes: dict[int, Done] = {}  #: by request

    # --- at every look ---

    def tend(self, ready: Iterable[RootView]) -> None:
        """Records what the courier brought, and sends it out again."""
        self._collect()
        self._copies.forget_rewritten()
        if self._child is not None or self._ledger.clock.monotonic() < self._not_before:
            return
        errand = self._next(list(ready))
        if errand is not None:
            self._errand, self._started = errand, self._monotonic()
            job = {"kind": errand.kind, "remote": how_to_speak(self._copies), **errand.job}
            if errand.kind == "send" and errand.copy is not None:
                row = self._copies.at(errand.copy.key)
                copy = row.copy if row is not None else errand.copy  # that it had a COMMIT must not be forgotten
                self._copies.write(copy, CopyState.SENDING, checkpoint_id=errand.record_id, error=None)
            self._child = Child("courier", courier.run, self._wake, self._monotonic, job)

    def _next(self, ready: list[RootView]) -> Errand | None:
        errands = self._errands
        if upkeep := errands.upkeep():
            return upkeep
        if self._pulls:
            return next(iter(self._pulls.values()))
        paths = {root.path for root in ready}
        if sending := errands.sending(lambda record: self._may_be_sent(record, paths), self._pushed):
            return sending
        for run in sorted(self._ledger.runs()):
            if not self._ledger.clock_trouble() and (retiring := errands.retiring(run)):
                return retiring
        return errands.sweep() or errands.drill(self._folders(paths))

    def _may_be_sent(self, record: Record, paths: set[str]) -> bool:
        waits = self._records_not_before.get(record.id, float("-inf")) > self._ledger.clock.monotonic()
        return record.root in paths and not waits and record.id not in self._verdicts.in_work()

    def _folders(self, paths: set[str]) -> dict[str, str]:
        """By run, where its checkpoints lie."""
        return {r.run: os.path.dirname(r.path) for r in self._ledger.present() if r.root in paths and not r.copy}

    def in_work(self) -> frozenset[int]:
        """What is being sent: it stays where it is meanwhile."""
        sending = self._errand is not None and self._errand.kind == "send"
        return frozenset({self._errand.record_id or 0}) if sending and self._errand else frozenset()

    def unproven(self, run: str) -> frozenset[int]:
        return self._copies.unproven(run)

    def as_answer(self, record: Record) -> dict[str, Any] | None:
        return self._copies.as_answer(record)

    def progress(self) -> dict[str, Any]:
        """What the courier is out for, and how far it is; and what keeps it from going."""
        told: dict[str, Any] = {"url": self._copies.remote.url(), "trouble": self._copies.place.trouble, "errand": None}
        if self._errand is not None and self._child is not None:
            done = min(int(self._child.progress.get("bytes", 0)), self._errand.total)
            seconds = max(self._monotonic() - self._started, 0.001)
            told["errand"] = {
                "kind": self._errand.kind,
                "run": self._errand.run,
                "name": self._errand.copy.name if self._errand.copy else None,
                "checkpoint_id": self._errand.record_id,
                "bytes_done": done,
                "bytes_total": self._errand.total,
                "bytes_per_second": round(done / seconds),
            }
        return told

    def stop(self) -> None:
        if self._child is not None:
            self._child.kill()

    # --- what a person asks for ---

    def push(self, request: int, record: Record) -> Done | None:
        if request in self._outcomes:
            return self._outcomes.pop(request)
        row = self._copies.of(record)
        if row is not None and row.state is CopyState.PROVEN:
            self._pushed.pop(record.id, None)
            return True, f"{record.name} is copied to {self._copies.remote.url(row.copy.key)} ({row.copy.proof})"
        if record.state is not State.VERIFIED or not may_be_copied(record):
            self._pushed.pop(record.id, None)
            what = record.verdict if record.state is State.VERIFIED else record.state
            return False, f"{record.name} is {what}: only what was judged and can be handed out is copied"
        self._pushed[record.id] = request
        return None

    def pull(self, request: int, record: Record) -> Done | None:
        if request in self._outcomes:
            return self._outcomes.pop(request)
        if request not in self._pulls:
            row = self._copies.of(record)
            if row is None or row.state is not CopyState.PROVEN:
                return False, f"no proven copy of {record.name} is known"
            if any(other.path == record.path for other in self._ledger.present()):
                return False, f"{record.path} is there already; nothing is fetched over it: move it away first"
            self._pulls[request] = self._errands.fetching(record, row.copy)
        return None

    def probe(self, request: int) -> Done | None:
        if request in self._outcomes:
            return self._outcomes.pop(request)
        self._errands.probe_asked = True
        if request not in self._probes:
            self._probes.append(request)
        return None

    def confirm(self, run: str, plan: str) -> bool:
        """A person wants the plan for the run's copies carried out. False where there is none of that name."""
        if self._errands.told_of_plans.get(run) != plan:
            return False
        self._errands.confirmed[run] = plan
        return True

    # --- what the courier brought ---

    def _collect(self) -> None:
        child, errand = self._child, self._errand
        if child is None or errand is None:
            return
        if not child.ended and child.stalled(_STALL):
            child.kill()
        if not child.ended:
            return
        self._child = self._errand = None
        message = child.message or {"failed": _DIED}
        if "done" in message:
            self._failures = 0
            result = message["done"]
            outcome: Done | None = self._deliveries.done(errand, result, self._monotonic() - self._started)
        else:
            outcome = self._failed(errand, message["failed"])
        self._answer(errand, outcome)

    def _failed(self, errand: Errand, failure: Mapping[str, Any]) -> Done | None:
        """What is to blame waits: the one checkpoint, or, where the store itself does not do it, everything."""
        now = self._ledger.clock.monotonic()
        blame, outcome = self._deliveries.failed(errand, failure)
        if blame is Blame.STORE:
            pause = min(_FIRST_PAUSE * 2**self._failures, _LONGEST_PAUSE)
            self._failures += 1
            self._not_before = now + pause
        elif errand.record_id is not None:
            self._records_not_before[errand.record_id] = now + _AGAIN_AFTER
        else:
            self._not_before = now + _AGAIN_AFTER
        return outcome

    def _answer(self, errand: Errand, outcome: Done | None) -> None:
        """Whoever asked for it is told; None: it is tried again."""
        if outcome is None:
            return
        requests: list[int] = []
        if errand.kind == "send" and errand.record_id is not None:
            requests = [r for r in (self._pushed.pop(errand.record_id, None),) if r is not None]
        elif errand.kind == "fetch":
            requests = [request for request, pull in self._pulls.items() if pull is errand]
        elif errand.kind == "probe":
            requests, self._probes = self._probes, []
        for request in requests:
            self._pulls.pop(request, None)
            self._outcomes[request] = outcome


class NoCloud:
    """Where no place for copies is set: nothing leaves this machine."""

    def tend(self, ready: Iterable[RootView]) -> None:
        """Nothing."""

    def in_work(self) -> frozenset[int]:
        return frozenset()

    def unproven(self, _run: str) -> frozenset[int]:
        return frozenset()

    def as_answer(self, _record: Record) -> None:
        return None

    def progress(self) -> dict[str, Any]:
        return {}

    def stop(self) -> None:
        """Nothing."""

    def push(self, _request: int, _record: Record) -> Done:
        return False, _NOWHERE

    def pull(self, _request: int, _record: Record) -> Done:
        return False, _NOWHERE

    def probe(self, _request: int) -> Done:
        return False, _NOWHERE

    def confirm(self, _run: str, _plan: str) -> bool:
        return False


Cloud = Uploading | NoCloud


def cloud_of(
    settings: Settings,
    ledger: Ledger,
    verdicts: Verdicts,
    wake: threading.Event,
    monotonic: Callable[[], float],
) -> Cloud:
    """What the settings ask for."""
    remote = Remote.of(settings)
    return Uploading(settings, remote, ledger, verdicts, wake, monotonic) if remote is not None else NoCloud()
