"""`RUN/.lastgood/manifests/`: what was read of each accepted checkpoint, for when it or the next one is read."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from lastgood import naming
from lastgood.findings import Severity
from lastgood.manifest import write_manifest

if TYPE_CHECKING:
    from lastgood.facts import Report
    from lastgood.records import Record
    from lastgood_worker.ledger import Ledger


def path_of(record: Record) -> str:
    """Where the checkpoint's manifest lies, if it has one."""
    return os.path.join(_folder(record), f"{record.name}.json")


class Keeper:
    """Writes manifests, and removes those of what is gone. Where it cannot, that is told once a run."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._told: set[str] = set()

    def keep(self, record: Record, report: Report) -> None:
        """Nothing where not every byte was read."""
        if report.manifest is None:
            return
        try:
            write_manifest(_folder(record), report.manifest)
        except OSError as error:
            if record.run not in self._told:
                self._told.add(record.run)
                message = f"manifests of run {record.run} cannot be written: {error.strerror or error}"
                self._ledger.event("manifest-not-written", message, Severity.WARNING, record)
        else:
            self._told.discard(record.run)

    def forget(self, record: Record) -> None:
        """It speaks of bytes that are no longer there, or are being rewritten."""
        with contextlib.suppress(OSError):  # one that stays says by its fingerprint that it is of other bytes
            os.unlink(path_of(record))


def _folder(record: Record) -> str:
    return os.path.join(os.path.dirname(record.path), naming.OWN_FOLDER, "manifests")
