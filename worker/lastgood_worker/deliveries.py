"""What the courier brought, recorded: each errand's result, or why there is none and who is to blame."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lastgood.cloud import CopyState, Proof
from lastgood.cloud.committing import copy_from_json
from lastgood.cloud.words import capabilities_from_json
from lastgood.findings import Severity
from lastgood.life import State
from lastgood.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastgood.cloud import Capabilities, CloudCopy
    from lastgood.records import Record
    from lastgood_worker.copies import Copies
    from lastgood_worker.done import Done
    from lastgood_worker.errands import Errand, Errands
    from lastgood_worker.ledger import Ledger
    from lastgood_worker.verdicts import Verdicts

_ANOTHER_UPLOADER = "AnotherUploader"


class Blame(StrEnum):
    """Whose fault it is that an errand failed."""

    STORE = "store"  #: nothing would fare better now
    CHECKPOINT = "checkpoint"  #: the next one may


class Deliveries:
    def __init__(self, ledger: Ledger, verdicts: Verdicts, copies: Copies, errands: Errands) -> None:
        self._ledger, self._verdicts, self._copies, self._errands = ledger, verdicts, copies, errands
        self._told: set[tuple[str, int | str]] = set()
        self._by_kind = {
            "probe": self._probe,
            "list": self._list,
            "send": self._send,
            "fetch": self._fetch,
            "drill": self._drill,
            "retire": self._retire,
            "sweep": self._sweep,
        }

    def done(self, errand: Errand, result: Mapping[str, Any], seconds: float) -> Done:
        """How it stands now."""
        if self._copies.place.trouble is not None:
            self._ledger.event("cloud-back", f"{self._copies.remote.url()} takes copies again")
            self._copies.note(trouble=None)
        return self._by_kind[errand.kind](errand, result, seconds)

    def failed(self, errand: Errand, failure: Mapping[str, Any]) -> tuple[Blame, Done | None]:
        """Whose fault it was, and how it stands; None where it is simply tried again."""
        message, record = str(failure["message"]), self._record(errand)
        if failure["what"] == "NoLongerAsJudged" and record is not None:
            return Blame.CHECKPOINT, self._changed(errand, record, message)
        if failure["what"] == "NotACopy":
            return Blame.CHECKPOINT, self._not_a_copy(errand, record, message)
        if failure["code"] == _ANOTHER_UPLOADER:
            self._tell_once("upload-waits", message, record)
            self._give_up_for_now(errand, message)
            return Blame.CHECKPOINT, None
        if failure["what"] in ("RemoteError", ""):
            self._trouble(errand, record, message)
            return Blame.STORE, None if failure["transient"] else (False, message)
        self._tell_once(f"{errand.kind}-failed", message, record)  # our own disk, say
        self._give_up_for_now(errand, message)
        return Blame.CHECKPOINT, (False, message)

    # --- what went wrong ---

    def _changed(self, errand: Errand, record: Record, message: str) -> Done:
        """Where nobody wrote to it, and its bytes are others all the same, the judge has to look again."""
        self._give_up_for_now(errand, message)
        if record.state is State.VERIFIED:
            self._verdicts.recheck(record)
        self._ledger.event("upload-failed", message, Severity.WARNING, record)
        return False, message

    def _not_a_copy(self, errand: Errand, record: Record | None, message: str) -> Done:
        if errand.copy is not None:
            state = CopyState.CONFLICT if errand.kind == "send" else CopyState.FAILED
            self._copies.write(errand.copy, state, error=message)
        kind = {"send": "copy-conflict", "drill": "drill-failed"}.get(errand.kind, "copy-damaged")
        self._ledger.event(kind, message, Severity.WARNING, record)
        return False, message

    def _trouble(self, errand: Errand, record: Record | None, message: str) -> None:
        if self._copies.place.trouble is None:
            text = f"{self._copies.remote.url()} does not take copies at the moment: {message}"
            self._ledger.event("cloud-trouble", text, Severity.WARNING, record)
        self._copies.note(trouble=message)
        self._give_up_for_now(errand, message)

    def _give_up_for_now(self, errand: Errand, message: str) -> None:
        if errand.kind == "send" and errand.copy is not None:
            row = self._copies.at(errand.copy.key)
            attempts = row.attempts + 1 if row else 1
            copy = row.copy if row is not None else errand.copy
            self._copies.write(copy, CopyState.FAILED, error=message, attempts=attempts)

    def _tell_once(self, kind: str, message: str, record: Record | None) -> None:
        what = (kind, record.id if record else message)
        if what not in self._told:
            self._told.add(what)
            self._ledger.event(kind, message, Severity.WARNING, record)

    def _record(self, errand: Errand) -> Record | None:
        known = errand.record_id is not None and errand.record_id in self._ledger
        return self._ledger[errand.record_id or 0] if known else None

    # --- what was done, by kind ---

    def _probe(self, _errand: Errand, result: Mapping[str, Any], _seconds: float) -> Done:
        able = capabilities_from_json(result["able"])
        self._errands.probe_asked = False
        before = self._copies.place.able
        self._copies.note(able=able, probed_at=self._ledger.clock.now())
        if before != able:
            severity = Severity.INFO if able.conditional else Severity.WARNING
            self._ledger.event("store-probed", f"{self._copies.remote.url()} {_in_words(able)}", severity)
        return True, f"{self._copies.remote.url()} {_in_words(able)}"

    def _list(self, _errand: Errand, result: Mapping[str, Any], _seconds: float) -> Done:
        found = {data["key"]: copy_from_json(data, data["key"]) for data in result["copies"]}
        for key, copy in found.items():
            row = self._copies.at(key)
            if row is None or not (row.suspect or row.state is CopyState.PROVEN):
                self._copies.write(copy, CopyState.PROVEN, error=None, attempts=0)
        for row in self._copies.proven():
            if row.copy.key not in found:
                self._copies.write(row.copy, CopyState.MISSING)
                message = f"the copy of {row.copy.name} of run {row.copy.run} is gone, not by lastgood"
                self._ledger.event("copy-missing", message, Severity.WARNING)
        for why in result["broken"].values():
            self._tell_once("copy-damaged", why, None)
        self._errands.listed = True
        self._copies.note(listed_at=self._ledger.clock.now())
        return True, counted(len(found), "copy", "copies")

    def _send(self, errand: Errand, result: Mapping[str, Any], seconds: float) -> Done:
        copy = _copy(result["copy"])
        record_id = errand.record_id
        self._copies.write(copy, CopyState.PROVEN, checkpoint_id=record_id, error=None, attempts=0)
        self._told.discard(("upload-waits", record_id or 0))
        url = self._copies.remote.url(copy.key)
        if result["ours"]:
            message = f"{copy.name} is copied to {url}: {copy.bytes:,} bytes in {seconds:.1f} s, proof {copy.proof}"
        else:
            message = f"{copy.name} has a copy of the same bytes already: {url}"
        self._ledger.event("uploaded", message, record=self._record(errand))
        return True, message

    def _fetch(self, errand: Errand, result: Mapping[str, Any], seconds: float) -> Done:
        assert errand.copy is not None
        message = (
            f"{errand.copy.name} is back from the cloud: {result['path']}, {errand.total:,} bytes in {seconds:.1f} s"
        )
        self._copies.write(errand.copy, CopyState.PROVEN, checked_at=self._ledger.clock.now())
        self._ledger.event("pulled", message, record=self._record(errand))
        return True, message

    def _drill(self, errand: Errand, result: Mapping[str, Any], seconds: float) -> Done:
        assert errand.copy is not None
        now = self._ledger.clock.now()
        self._copies.write(errand.copy, CopyState.PROVEN, checked_at=now)
        self._copies.note(drilled_at=now)
        message = (
            f"the copy of {errand.copy.name} of run {errand.copy.run} came back whole ({result['verdict']}): "
            f"{errand.total:,} bytes in {seconds:.1f} s"
        )
        self._ledger.event("drill", message)
        return True, message

    def _retire(self, errand: Errand, result: Mapping[str, Any], _seconds: float) -> Done:
        for key in result["removed"]:
            row = self._copies.at(key)
            if row is not None:
                self._copies.write(row.copy, CopyState.RETIRED)
                message = f"the copy of {row.copy.name} of run {errand.run} was removed from the cloud"
                self._ledger.event("copy-removed", message)
        return True, f"removed: {counted(len(result['removed']), 'copy', 'copies')}"

    def _sweep(self, _errand: Errand, result: Mapping[str, Any], _seconds: float) -> Done:
        self._copies.note(swept_at=self._ledger.clock.now())
        if result["swept"]:
            self._ledger.event("cloud-swept", f"{result['swept']} abandoned uploads were cleared away")
        return True, f"{result['swept']} abandoned uploads"


def _copy(data: Mapping[str, Any]) -> CloudCopy:
    return copy_from_json(data, data["key"])


def _in_words(able: Capabilities) -> str:
    proofs = {able.proof(parts=False), able.proof(parts=True)}
    weakest = max(proofs, key=list(Proof).index)
    said = f"proves copies by {weakest}"
    if not able.conditional:
        said += "; it lets several write the same object at once: let one lastgood alone send there"
    return said
