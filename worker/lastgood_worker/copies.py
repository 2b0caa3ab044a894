"""The copies in the cloud that we know of, held in memory by their only writer."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lastgood.catalog import Place
from lastgood.cloud import Choice, CopyState, Upload, copy_as_answer, to_upload, waiting_for_proof
from lastgood.life import State

if TYPE_CHECKING:
    from lastgood.cloud import CloudCopy, Remote
    from lastgood.records import Record
    from lastgood.settings import Settings
    from lastgood_worker.ledger import Ledger


class Copies:
    """Every write goes through it, and marks the runs whose answers and plans it may move."""

    def __init__(self, settings: Settings, ledger: Ledger, remote: Remote) -> None:
        self._settings, self._ledger, self.remote = settings, ledger, remote
        self._rows = {upload.copy.key: upload for upload in ledger.catalog.uploads(remote.identity)}
        self.place = ledger.catalog.place(remote.identity) or Place(
            remote.identity, uuid.uuid4().hex, ledger.clock.now()
        )

    def all(self) -> list[Upload]:
        return list(self._rows.values())

    def proven(self, run: str | None = None) -> list[Upload]:
        return [row for row in self._rows.values() if row.state is CopyState.PROVEN and run in (None, row.copy.run)]

    def at(self, key: str) -> Upload | None:
        return self._rows.get(key)

    def of(self, record: Record) -> Upload | None:
        """The one of this very record, however far it is."""
        mine = (row for row in self._rows.values() if row.checkpoint_id == record.id)
        return max(mine, key=lambda row: row.id, default=None)

    def forget_rewritten(self) -> None:
        """What is being written anew is no longer what its copy holds."""
        for row in self.all():
            known = row.checkpoint_id is not None and row.checkpoint_id in self._ledger
            if known and self._ledger[row.checkpoint_id or 0].state is State.LANDING:
                self.write(row.copy, row.state, checkpoint_id=None)

    def write(self, copy: CloudCopy, state: CopyState, **changes: Any) -> Upload:
        """`changes`: other columns; those that are not named stay as they are."""
        before = self._rows.get(copy.key) or Upload(0, copy, state)
        row = replace(before, copy=copy, state=state, **changes)
        if row != before or not before.id:
            row = replace(row, id=self._ledger.catalog.write_upload(self.remote.identity, row))
            self._rows[copy.key] = row
            self._ledger.changed.add(copy.run)
            self._ledger.to_plan.add(copy.run)
        return row

    def note(self, **changes: Any) -> None:
        """What is new of the place itself."""
        place = replace(self.place, **changes)
        if place != self.place:
            self._ledger.catalog.write_place(place)
            self.place = place

    # --- what is to be copied ---

    def wanted(self, run: str) -> list[Record]:
        """Those of the run that are to have a copy and have none, the newest first."""
        choice = Choice.of(self._settings, run)
        if choice is None:
            return []
        return to_upload(self._ledger.of_run(run), choice, self._rows.values(), self._pinned(choice))

    def unproven(self, run: str) -> frozenset[int]:
        """Ids of those that may not be removed before they are in the cloud."""
        choice = Choice.of(self._settings, run)
        if choice is None or not choice.required:
            return frozenset()
        return waiting_for_proof(self._ledger.of_run(run), choice, self._rows.values(), self._pinned(choice))

    def _pinned(self, choice: Choice) -> frozenset[int]:
        if not choice.which.pinned:
            return frozenset()
        holds = self._ledger.catalog.holds(self._ledger.clock.now())
        return frozenset(found for found, held in holds.items() if any(hold.pin for hold in held))

    def as_answer(self, record: Record) -> dict[str, Any] | None:
        """What is said of the record's copy beside it."""
        row = self.of(record)
        return copy_as_answer(row, self.remote) if row is not None else None
