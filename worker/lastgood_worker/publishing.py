"""`RUN/.lastgood/latest.json`: the service's answer as a file, for when the service cannot be reached."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

from lastgood import durable, naming, resume
from lastgood.errors import Refusal
from lastgood.findings import Severity, Verdict
from lastgood.latest import resume_point_now

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

    from lastgood.records import Record
    from lastgood.settings import Settings
    from lastgood_worker.ledger import Ledger

_UNWRITABLE: Final = ""


class Publisher:
    """Writes each run's file when its answer changed, and tells when the resume point did."""

    def __init__(self, settings: Settings, ledger: Ledger, copy_of: Callable[[Record], dict[str, Any] | None]) -> None:
        """`copy_of`: what is said of a checkpoint's copy in the cloud."""
        self._settings, self._ledger, self._copy_of = settings, ledger, copy_of
        self._texts: dict[str, str] = {}
        self._last: dict[str, int | None] = {}
        self.folders: dict[str, str] = {}  #: where each run lies

    @property
    def answers(self) -> AbstractSet[int | None]:
        """The ids of the present resume points."""
        return set(self._last.values())

    def publish(self, frozen: AbstractSet[str]) -> None:
        """Brings up to date what may have changed since the last call; nothing below a root in `frozen`."""
        changed, self._ledger.changed = self._ledger.changed, set()
        for run in changed:
            records = self._ledger.of_run(run)
            if run not in self.folders or records[0].root in frozen:
                self._ledger.changed.add(run)
                continue
            accept = Verdict(self._settings.of_run(run).accept)
            wishes = resume.Wishes(accept=accept, order=self._settings.order)
            answer = answer_for_file(records, wishes, self._copy_of)
            self._write(run, json.dumps(answer, indent=1))
            self._note(run, answer)

    def _write(self, run: str, text: str) -> None:
        if self._texts.get(run) == text:
            return
        try:
            path = os.path.join(self.folders[run], naming.OWN_FOLDER, "latest.json")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            durable.write_text(path, text + "\n")
        except OSError as error:
            if self._texts.get(run) != _UNWRITABLE:
                message = f"latest.json of run {run} cannot be written: {error.strerror or error}"
                self._ledger.event("latest-not-written", message, Severity.WARNING)
            text = _UNWRITABLE
        self._texts[run] = text

    def _note(self, run: str, answer: dict[str, Any]) -> None:
        before, now = self._last.get(run), answer.get("id")
        self._last[run] = now
        if now is not None and now != before:
            self._ledger.event("latest", f"the resume point is {answer['name']}", record=self._ledger[now])
        elif now is None and before is not None:
            message = f"run {run} has no resume point any more: {answer['refusal']['message']}"
            self._ledger.event("latest", message, Severity.WARNING)


def answer_for_file(
    records: Sequence[Record],
    wishes: resume.Wishes,
    copy_of: Callable[[Record], dict[str, Any] | None] = lambda _record: None,
) -> dict[str, Any]:
    """The resume point of one run as JSON; under "refusal" where there is none."""
    try:
        answer = resume_point_now(records, wishes)
        return resume.answer_as_json(answer, cloud_copy=copy_of(answer.record))
    except Refusal as refusal:
        return {"refusal": {"code": refusal.code, "message": refusal.message, **refusal.details}}
