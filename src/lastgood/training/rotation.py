"""`save_total_limit`: the older ones go, by the plan and the guards of the watcher, where no watcher is at work."""

from __future__ import annotations

import fcntl
import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from lastgood import naming, removal
from lastgood.calling import service_of
from lastgood.errors import LastgoodError
from lastgood.findings import Verdict
from lastgood.latest import plan_now
from lastgood.own_look import judged_in
from lastgood.retention import Policy
from lastgood.retention.guards import LAST_SOUND
from lastgood.watched import is_at_work_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastgood.records import Record
    from lastgood.settings import Settings

_log = logging.getLogger("lastgood")


class Rotation:
    """Keeps so many good ones. What was judged once is not read again while nobody writes to it."""

    def __init__(self, folder: str, limit: int, settings: Settings) -> None:
        self._folder, self._settings = folder, settings
        self._policy = Policy(keep_last=limit, accept=Verdict(settings.accept), order=settings.order)
        self._tidied = False
        self._known: Sequence[Record] = ()
        self._own: list[str] = []  # the last of this job's: after a rollback its steps are not the highest

    def protect(self, name: str) -> None:
        """This job saved it just now, or goes on from it: it stays until as many as are kept have followed."""
        self._own = [*(other for other in self._own if other != name), name][-max(LAST_SOUND, self._policy.keep_last) :]

    def rotate(self) -> None:
        """Nothing goes where a worker watches: its rules decide there."""
        if is_watched(self._folder, self._settings):
            return
        if not self._tidied:
            removal.purge_left_by_jobs(self._folder)
            self._tidied = True  # once is enough, and what another job is just deleting is its own
        self._known = judged_in(self._folder, self._known)
        for decision in plan_now(self._known, self._policy, {}).removals:
            if decision.record.name in self._own:
                continue
            try:
                _remove(decision.record)
            except LastgoodError as error:
                _log.warning("%s stays: %s", decision.record.name, error)
            else:
                _log.info("removed %s: %s", decision.record.name, decision.reasons[0].message)


def is_watched(folder: str, settings: Settings) -> bool:
    """Whether a worker is at work on it, as the service says or, where none answers, its lock."""
    told = is_at_work_on(service_of(settings), folder, settings.root)
    if told is not None:
        return told
    return _is_locked(os.path.join(settings.state_dir, "worker.lock")) and _is_marked(folder)


def _remove(record: Record) -> None:
    """By a rename first: half a deletion never looks like a checkpoint."""
    doomed = replace(record, trash=removal.trash_name_by_job(record))
    removal.discard(doomed)
    removal.purge(doomed)


def _is_locked(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _is_marked(folder: str) -> bool:
    """Whether it lies below a folder that some worker watches, or watched."""
    while not os.path.exists(os.path.join(folder, naming.ROOT_MARKER)):
        parent = os.path.dirname(folder)
        if parent == folder:
            return False
        folder = parent
    return True
