"""Following one checkpoint folder: what a walk of it shows, held against its record, and the move that follows."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from lastgood import branches, writers
from lastgood.catalog import Sighting
from lastgood.errors import CannotTell, NotACheckpoint
from lastgood.findings import Severity
from lastgood.formats import Unsteady
from lastgood.inventory import take_inventory
from lastgood.latest import saved_at
from lastgood.life import State
from lastgood.outline import Outline, outline
from lastgood.records import Evidence, Record
from lastgood.returning import MENDING, PERSON, Note, forget_note, read_note
from lastgood_worker import settling
from lastgood_worker.roots import RootView, Tracked

if TYPE_CHECKING:
    from lastgood.discovery import Candidate
    from lastgood.facts import Inventory
    from lastgood.settings import Settings
    from lastgood_worker.ledger import Ledger
    from lastgood_worker.verdicts import Verdicts

_log = logging.getLogger(__name__)
_TRY_AGAIN_AFTER: Final = 5.0
_SWEEP_SLOTS: Final = 97  # a prime, so that neighbours are swept at different times


class Following:
    """Looks at single checkpoints. Each look returns the seconds until another is worth it; None: when it changes."""

    def __init__(self, settings: Settings, ledger: Ledger, verdicts: Verdicts) -> None:
        self._settings, self._ledger, self._verdicts = settings, ledger, verdicts

    def begin(
        self,
        root: RootView,
        candidate: Candidate,
        run: str,
        run_id: int,
        *,
        before_us: bool,
    ) -> Record:
        """A new row for a folder that is seen for the first time, or written anew."""
        inventory = root.inventory(candidate)
        known = self._ledger.of_run(run)
        note = _note_of(root.run_folder(candidate.run), candidate.name, inventory)
        branch = None if candidate.copy else branches.branch_for(known, candidate.number)
        if branch is not None and note is not None:
            branch = branches.branch_of_returned(known, saved_at(inventory))
        record = self._ledger.add(
            run_id,
            name=candidate.name,
            relative_path=candidate.relative_path,
            number=candidate.number,
            copy=candidate.copy,
            before_us=before_us or note is not None,
            branch=branch,
            seen=_sighting(inventory, active=not before_us, waiting_for="it was just seen"),
        )
        before = root.tracked.get(candidate.relative_path)
        watched = replace(
            self._first_observation(record, inventory, before),
            renamed=candidate.inode in root.temporary,
        )
        if note is not None:  # what it was before, it is again
            watched = replace(watched, declared=True, earlier=frozenset())
        root.tracked[candidate.relative_path] = Tracked(record.id, candidate.mtime_ns, watched)
        if branches.concurrent_writers([*known, record]) and not branches.concurrent_writers(known):
            self._ledger.event("concurrent-writers", branches.CONCURRENT_WRITERS, Severity.WARNING, record)
        if note is not None:
            self._came_back(note, record)
        return record

    def _came_back(self, note: Note, record: Record) -> None:
        if note.by == PERSON:  # who wants it: the next plan would remove it for the same reason as before
            self._ledger.catalog.pin(record.id, holder="pull", now=self._ledger.clock.now())
        if note.by == MENDING:
            self._ledger.event("mended", f"{record.name} was mended", record=record)
        else:
            self._ledger.event("came-back", f"{record.name} came back from the cloud", record=record)
        forget_note(os.path.dirname(record.path), record.name)

    def is_due(self, tracked: Tracked, candidate: Candidate, now: float) -> bool:
        """Whether a folder in which nothing is known to have stirred is to be walked all the same."""
        if self._ledger[tracked.record_id].state is not State.VERIFIED or tracked.shrinking_since is not None:
            return True
        overdue = now - tracked.looked_at >= self._settings.sweep_seconds
        return overdue or candidate.mtime_ns != tracked.folder_mtime_ns

    def look(self, root: RootView, candidate: Candidate, run_id: int, now: float) -> float | None:
        """One walk of the folder, and what follows from it."""
        tracked = root.tracked[candidate.relative_path]
        record = self._ledger[tracked.record_id]
        try:
            inventory = take_inventory(record.path, inodes=root.disk.inodes)
        except NotACheckpoint:
            return None  # the next discovery finds it gone
        except CannotTell as error:
            _log.warning("look failed: %s", error)
            return _TRY_AGAIN_AFTER
        self._note_look(tracked, candidate, now)
        if record.state is State.VERIFIED:
            return self._look_at_verified(root, candidate, run_id, inventory, now)
        if record.state is State.SETTLED and inventory.fingerprint == record.fingerprint:
            return None
        if record.state is State.SETTLED and record.verdict is not None and self._is_same_content(record, inventory):
            # It is read again, and its metadata changed meanwhile: what was read of its bytes before still counts.
            self._metadata_changed(record, inventory)
            return None
        return self._look_at_landing(root, tracked, inventory, now)

    def _note_look(self, tracked: Tracked, candidate: Candidate, now: float) -> None:
        first = tracked.looked_at == float("-inf")
        tracked.looked_at, tracked.folder_mtime_ns = now, candidate.mtime_ns
        if first:  # 1,000 known ones are not all swept in the same second
            slot = tracked.record_id % _SWEEP_SLOTS / _SWEEP_SLOTS
            tracked.looked_at -= slot * self._settings.sweep_seconds

    def _look_at_verified(
        self, root: RootView, candidate: Candidate, run_id: int, inventory: Inventory, now: float
    ) -> float | None:
        tracked = root.tracked[candidate.relative_path]
        record = self._ledger[tracked.record_id]
        if inventory.fingerprint == record.fingerprint:
            if tracked.shrinking_since is not None:
                tracked.shrinking_since = None
                self._ledger.changed.add(record.run)
            return None
        if self._is_same_content(record, inventory):
            self._metadata_changed(record, inventory)
            return None
        settled = self._ledger.catalog.settled_content(record.id)
        if inventory.content < settled and not inventory.unfinished:
            # Files go, none changes: somebody removes it. Until it is gone, `latest` refuses it by its fingerprint.
            if tracked.shrinking_since is None:
                tracked.shrinking_since = now
                self._ledger.changed.add(record.run)  # the answer changes, though the record does not
            if now - tracked.shrinking_since < root.disk.pace.doubtful:
                return self._settings.scan_landing_seconds
        return self._rewritten(root, candidate, run_id, record)

    def _is_same_content(self, record: Record, inventory: Inventory) -> bool:
        return not inventory.unfinished and inventory.content == self._ledger.catalog.settled_content(record.id)

    def _metadata_changed(self, record: Record, inventory: Inventory) -> None:
        """A hard link or a chmod: it is read again in the background, and goes on being served."""
        seen = _sighting(inventory, active=False, waiting_for="its metadata changed")
        self._verdicts.recheck(self._ledger.write(self._ledger.catalog.metadata_changed, record.id, seen))

    def _rewritten(self, root: RootView, candidate: Candidate, run_id: int, record: Record) -> float:
        """Somebody writes into a judged checkpoint: its next generation is landing."""
        self._verdicts.drop(record.id)
        self._ledger.write(self._ledger.catalog.rewritten, record.id)
        again = self.begin(root, candidate, record.run, run_id, before_us=False)
        self._ledger.event("changed", f"{record.name} is being written again", record=again)
        return self._settings.scan_landing_seconds

    def _first_observation(
        self, record: Record, inventory: Inventory, before: Tracked | None = None
    ) -> settling.Watched:
        """What is known of a landing when it begins: the finished save that stood there, and how its writer pauses."""
        now = self._ledger.clock.monotonic()
        gap = 0.0
        if before is not None and before.last is not None:
            # It was not finished after all: that pause is one of this writer's.
            gap = max(before.last.longest_gap, 0.0 if before.finished else now - before.last.changed_at)
        return replace(settling.observe(None, inventory, now), longest_gap=gap, earlier=self._finished_content(record))

    def _finished_content(self, record: Record) -> settling.Content:
        """What the last finished save under this name consisted of: one over it must replace all of that."""
        finished = [other for other in self._ledger.of_run(record.run) if other.name == record.name and other.finished]
        newest = max(finished, key=lambda other: other.generation, default=None)
        return self._ledger.catalog.settled_content(newest.id) if newest else frozenset()

    def _look_at_landing(self, root: RootView, tracked: Tracked, inventory: Inventory, now: float) -> float | None:
        record = self._ledger[tracked.record_id]
        if record.state is State.SETTLED:
            self._verdicts.drop(record.id)
        if tracked.watched is None:  # we were restarted, or it was taken for finished
            tracked.watched = self._first_observation(record, inventory, tracked)
        tracked.watched = watched = settling.observe(tracked.watched, inventory, now)
        if (note := _note_of(os.path.dirname(record.path), record.name, inventory)) is not None:
            # It was mended, file by file, while we looked, and taken for a new save until now.
            tracked.watched = watched = replace(watched, declared=True, earlier=frozenset())
            others = [other for other in self._ledger.of_run(record.run) if other.id != record.id]
            branch = branches.branch_of_returned(others, saved_at(inventory))
            self._came_back(note, self._ledger.write(self._ledger.catalog.put_in_line, record.id, branch))
        look = None
        if settling.needs_look(watched, root.disk.pace, now):
            try:
                look = settling.Look(_outline(tracked, record, watched), _being_written(root, record, inventory))
            except Unsteady:
                return self._settings.scan_landing_seconds
        decision = settling.decide(watched, look, root.disk.pace, now, later_landed=self._later_landed(record))
        if isinstance(decision, settling.Settled):
            self._settle(record, tracked, inventory, decision)
            return None
        self._note_waiting(tracked, inventory, decision, now)
        if decision.seconds is None and not decision.active:
            return self._settings.scan_idle_seconds  # dead, as it seems: if it stirs after all, its files show it
        scan = self._settings.scan_landing_seconds
        return scan if decision.seconds is None else min(decision.seconds, scan)

    def _later_landed(self, record: Record) -> bool:
        """Whether a save that began after this one is finished."""
        return any(
            other.finished
            and other.state in (State.SETTLED, State.VERIFIED)
            and other.id > record.id
            and not other.copy
            for other in self._ledger.of_run(record.run)
        )

    def _note_waiting(self, tracked: Tracked, inventory: Inventory, wait: settling.Wait, now: float) -> None:
        """Tells the catalog what it waits for; at most once a second while only sizes grow."""
        record = self._ledger[tracked.record_id]
        seen = _sighting(inventory, active=wait.active, waiting_for=wait.why)
        told = (record.waiting_for, record.active) == (seen.waiting_for, seen.active)
        same = told and (record.fingerprint == seen.fingerprint or now - tracked.written_at < 1)
        if record.state is State.LANDING and same:
            return
        tracked.written_at = now
        self._ledger.write(self._ledger.catalog.stirred, record.id, seen)

    def _settle(self, record: Record, tracked: Tracked, inventory: Inventory, decision: settling.Settled) -> None:
        settled = self._ledger.write(
            self._ledger.catalog.settled,
            record.id,
            seen=_sighting(inventory, active=False, waiting_for="waiting to be verified"),
            content=inventory.content,
            evidence=decision.evidence,
            now=self._ledger.clock.now(),
            unfinished=decision.unfinished,
        )
        tracked.last, tracked.watched = tracked.watched, None
        tracked.finished = decision.evidence is not Evidence.QUIET
        if decision.unfinished:
            message = f"the save of {record.name} never finished: {decision.unfinished}"
            self._ledger.event("save-unfinished", message, Severity.WARNING, settled)
        else:
            message = f"{record.name} is finished (evidence: {decision.evidence})"
            self._ledger.event("settled", message, record=settled)


def _note_of(run_folder: str, name: str, inventory: Inventory) -> Note | None:
    """That it is no new save, but came back from the cloud, and is as it was put there."""
    note = read_note(run_folder, name)
    return note if note is not None and note.fingerprint == inventory.fingerprint else None


def _outline(tracked: Tracked, record: Record, watched: settling.Watched) -> Outline:
    """Headers are read once for each state of the folder, however often it is looked at while it is quiet."""
    if tracked.outline is None or tracked.outline[0] != watched.fingerprint:
        tracked.outline = watched.fingerprint, outline(record.path, watched.inventory)
    return tracked.outline[1]


def _being_written(root: RootView, record: Record, inventory: Inventory) -> str | None:
    if not root.disk.probes_writers:
        return None
    files = (entry.path for entry in inventory.entries if entry.kind == "file")
    return next((file for file in files if writers.is_open_for_writing(os.path.join(record.path, file))), None)


def _sighting(inventory: Inventory, *, active: bool, waiting_for: str | None) -> Sighting:
    return Sighting(inventory.fingerprint, inventory.bytes, saved_at(inventory), active, waiting_for)
