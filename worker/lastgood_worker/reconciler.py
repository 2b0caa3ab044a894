"""The loop: what lies on disk and what is asked, compared with what is done; then the difference is done.

A crash at any moment costs nothing but time: the next look finds the same difference. There is no queue to lose.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from lastgood import branches, discovery, naming
from lastgood.catalog import WorkerStatus
from lastgood_worker.following import Following
from lastgood_worker.ledger import Clock, Ledger
from lastgood_worker.orders import Orders
from lastgood_worker.publishing import Publisher
from lastgood_worker.retaining import Retaining
from lastgood_worker.roots import RootView, Tracked, is_ready, make_known, open_roots
from lastgood_worker.space import Space
from lastgood_worker.uploading import cloud_of
from lastgood_worker.verdicts import Verdicts

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable
    from datetime import datetime

    from lastgood.catalog import Request, WorkerCatalog
    from lastgood.discovery import Candidate, Discovery
    from lastgood.settings import Settings
    from lastgood_worker.judging import Judging
    from lastgood_worker.watching import Watch

_HEARTBEAT_EVERY: Final = 1.0
_IDLE_HEARTBEAT_EVERY: Final = 5.0
_SHORTEST_DELAY: Final = 0.02
_UNSEEN_FOR: Final = timedelta(seconds=10)


class Reconciler:
    """Call `look` again and again; it says how many seconds the next one can wait."""

    def __init__(
        self,
        settings: Settings,
        catalog: WorkerCatalog,
        watch: Watch,
        judging: Judging,
        clock: Clock,
        *,
        boot: str,
        wake: threading.Event,
    ) -> None:
        self._settings, self._watch, self._judging, self._clock = settings, watch, judging, clock
        self._roots = open_roots(settings, catalog)
        self._run_ids: dict[str, int] = {}
        self._name_known_runs(catalog)
        self._ledger = Ledger(catalog, clock, [root.path for root in self._roots])
        self._verdicts = Verdicts(self._ledger, judging, boot, timedelta(seconds=settings.scrub_every))
        self._following = Following(settings, self._ledger, self._verdicts)
        self._cloud = cloud_of(settings, self._ledger, self._verdicts, wake, time.monotonic)
        self._publisher = Publisher(settings, self._ledger, self._cloud.as_answer)
        self._retaining = Retaining(settings, self._ledger, self._roots, self._verdicts, self._cloud)
        self._space = Space(settings, self._ledger)
        self._orders = Orders(self._ledger, self._verdicts, self._retaining, self._cloud)
        self._started_at = clock.now()
        self._heartbeat_at, self._said_busy = float("-inf"), False
        self._scanned = False
        self._verdicts.recheck_after_crash()
        self.heartbeat()  # the last one of a worker before us must not vouch for what we have not looked at

    def look(self) -> float:
        """One look at everything that may have changed. Seconds until the next is due."""
        now = self._clock.monotonic()
        self._answer_requests()
        stirred = self._watch.take_stirred()
        ready = [root for root in self._roots if is_ready(root, self._settings, self._ledger)]
        ready_paths = {root.path for root in ready}
        self._verdicts.collect(lambda record: record.root in ready_paths)
        delays = [self._look_at_root(root, _folders_of(stirred, root.path), now) for root in ready]
        self._watch.tend([r.path for r in ready], [r.path for r in ready if r.tracked], now)
        self._verdicts.start_next(lambda record: record.root in ready_paths)
        self._retaining.tend(ready)
        self._retaining.empty_trash(ready, self._space.free)
        self._space.look(ready)
        self._cloud.tend(ready)
        self._publisher.publish(frozen={root.path for root in self._roots} - ready_paths)
        if not self._scanned:
            self._scanned, self._heartbeat_at = True, float("-inf")  # said at once: answers wait for it
        self.heartbeat()
        return min(delays, default=self._settings.scan_blind_seconds)

    def stop(self) -> None:
        """What was sent out is called back; the next life goes on where it stopped."""
        self._cloud.stop()

    def heartbeat(self) -> None:
        """Says that we live, and how far the reading is. To be called at least every few seconds."""
        now, progress, cloud = self._clock.monotonic(), self._judging.progress(), self._cloud.progress()
        busy = bool(progress or cloud.get("errand"))
        ended = self._said_busy and not busy  # said at once: people would watch what is over by now
        if not ended and now - self._heartbeat_at < (_HEARTBEAT_EVERY if busy else _IDLE_HEARTBEAT_EVERY):
            return
        self._heartbeat_at, self._said_busy = now, busy
        status = self._watch.status
        watch = {
            "mode": status.mode,
            "degraded": status.degraded,
            "reason": status.reason,
            "roots": [root.path for root in self._roots],
            "free_bytes": {root.path: _about(self._space.free(root.path)) for root in self._roots if not root.frozen},
        }
        self._ledger.catalog.heartbeat(
            WorkerStatus(os.getpid(), self._started_at, self._clock.now(), self._scanned, watch, progress, cloud)
        )

    def _look_at_root(self, root: RootView, stirred: set[str], now: float) -> float:
        if not root.scanned:
            self._retaining.recover(root)
        found = discovery.discover(root.path)
        if found.candidates:
            make_known(root, self._ledger)
        self._adopt(root, found.candidates)
        delays: list[float | None] = [self._idle_seconds(root)]
        for candidate in sorted(found.candidates, key=lambda c: c.number):
            tracked = root.tracked[candidate.relative_path]
            due = candidate.relative_path in stirred or tracked.record_id in self._publisher.answers
            if due or self._following.is_due(tracked, candidate, now):
                run_id = self._run_id(root, candidate)
                delays.append(self._following.look(root, candidate, run_id, now))
        self._notice_vanished(root, found)
        root.temporary = found.temporary  # no longer: the kernel gives a removed folder's number to the next one
        root.scanned = True
        return max(min(delay for delay in delays if delay is not None), _SHORTEST_DELAY)

    def _idle_seconds(self, root: RootView) -> float:
        if self._watch.status.mode == "events" or root.disk.idle_seconds > self._settings.scan_idle_seconds:
            return root.disk.idle_seconds
        return self._settings.scan_blind_seconds

    # --- which folders there are ---

    def _name_known_runs(self, catalog: WorkerCatalog) -> None:
        """Gives the runs that we know their names of today: those follow which roots are watched."""
        roots = {root.path: root for root in self._roots}
        for run in catalog.runs():
            if root := roots.get(run.root):
                catalog.add_run(root.run_name(run.relative), run.root, run.relative, self._clock.now())

    def _adopt(self, root: RootView, candidates: Iterable[Candidate]) -> None:
        """Gives every folder that we meet for the first time its place in memory, and a row where it has none."""
        new = [candidate for candidate in candidates if candidate.relative_path not in root.tracked]
        if not new:
            return
        rows = {r.relative_path: r for r in self._ledger.present() if r.root == root.path}
        for candidate in new:
            self._run_id(root, candidate)
            if row := rows.get(candidate.relative_path):
                root.tracked[candidate.relative_path] = Tracked(row.id, candidate.mtime_ns)
        self._begin(root, [c for c in new if c.relative_path not in root.tracked])

    def _begin(self, root: RootView, candidates: list[Candidate]) -> None:
        """Rows for new folders, in the order in which they likely landed: a guess, for what lay there before us."""
        before_us = not root.scanned
        for candidate in _in_landing_order(root, candidates, before_us=before_us):
            run = self._run_name(root, candidate)
            run_id = self._run_id(root, candidate)
            record = self._following.begin(root, candidate, run, run_id, before_us=before_us)
            if not before_us:
                self._ledger.event("landing", f"{candidate.name} is landing", record=record)

    def _run_name(self, root: RootView, candidate: Candidate) -> str:
        return root.run_name(candidate.run)

    def _run_id(self, root: RootView, candidate: Candidate) -> int:
        name = self._run_name(root, candidate)
        if name not in self._run_ids:
            now = self._clock.now()
            self._run_ids[name] = self._ledger.catalog.add_run(name, root.path, candidate.run, now)
            self._publisher.folders[name] = root.run_folder(candidate.run)
        return self._run_ids[name]

    def _notice_vanished(self, root: RootView, found: Discovery) -> None:
        """Folders that are no longer there: the trainer's own rotation. What could not be listed is left alone."""
        there = {candidate.relative_path for candidate in found.candidates}
        lost = [path for path in root.tracked if path not in there and not _is_below(path, found.unlisted)]
        if not is_ready(root, self._settings, self._ledger):
            return  # it was unmounted under our eyes
        for path in lost:
            self._vanished(root.tracked.pop(path).record_id)
        if root.scanned:
            return
        tracked = {tracked.record_id for tracked in root.tracked.values()}
        for record in list(self._ledger.present()):  # it went while no worker ran
            unseen = record.root == root.path and record.id not in tracked
            if unseen and not _is_below(record.relative_path, found.unlisted):
                self._vanished(record.id)

    def _vanished(self, record_id: int) -> None:
        self._verdicts.drop(record_id)
        record = self._ledger.write(self._ledger.catalog.vanished, record_id)
        self._ledger.event("removed-externally", f"{record.name} was removed, not by lastgood", record=record)

    # --- what is asked of us ---

    def _answer_requests(self) -> None:
        for request in self._ledger.catalog.open_requests():
            now = self._clock.now()
            if outcome := self._carry_out(request, now):
                done, result = outcome
                self._ledger.catalog.close_request(request.id, done=done, result=result, now=now)

    def _carry_out(self, request: Request, now: datetime) -> tuple[bool, str] | None:
        """Whether it was done, and how it stands; None while it has to wait."""
        if request.kind != "landed":
            return self._orders.carry_out(request) if self._scanned else None
        for tracked in self._all_tracked():
            record = self._ledger[tracked.record_id]
            if (record.run, record.name) == (request.run, request.name):
                if tracked.watched is not None:
                    tracked.watched = replace(tracked.watched, declared=True)
                return True, f"{record.name} is {record.state}"
        if now - request.created_at < _UNSEEN_FOR:
            return None  # the job may speak before we have seen what it speaks of
        return False, f"there is no {request.name} in run {request.run}"

    def _all_tracked(self) -> Iterable[Tracked]:
        return (tracked for root in self._roots for tracked in root.tracked.values())


def _about(count: int | None) -> int | None:
    """Two digits of it: more would make every answer a new one while others use the disk."""
    return None if count is None else int(float(f"{count:.1e}"))


def _in_landing_order(root: RootView, candidates: list[Candidate], *, before_us: bool) -> list[Candidate]:
    runs: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda c: (c.run, c.number)):
        runs.setdefault(candidate.run, []).append(candidate)
    if not before_us:  # several within one look: a fast run, which counts upwards
        return [candidate for run in runs.values() for candidate in run]
    return [candidate for run in runs.values() for candidate in _by_time(root, run)]


def _by_time(root: RootView, run: list[Candidate]) -> list[Candidate]:
    saved = ((root.inventory(c).newest_mtime_ns / 1e9, c.number) for c in run)
    return [run[place] for place in branches.first_look_order(saved)]


def _folders_of(paths: Iterable[str], root: str) -> set[str]:
    """Every folder on the way from the root to each path, relative to the root, the path itself among them."""
    found: set[str] = set()
    for path in paths:
        relative = path.removeprefix(root.rstrip("/") + "/")
        while relative and relative not in found:
            found.add(relative)
            relative = relative.rpartition("/")[0]
    return found


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(f in (naming.ROOT_FOLDER, path) or path.startswith(f + "/") for f in folders)
