"""File events, turned into "something stirred here". Hints only: a timed scan runs in any case.

watchdog loses events silently (queue overflow, watch limit) and its threads can die while the observer claims to live,
so a probe file is touched again and again: where its event does not come, the watch says so.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from watchdog.events import (
    EVENT_TYPE_CLOSED,
    EVENT_TYPE_CREATED,
    EVENT_TYPE_DELETED,
    EVENT_TYPE_MODIFIED,
    EVENT_TYPE_MOVED,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from lastgood import naming, writers

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)

# Opening and reading make events too; those would wake us for what we read ourselves.
_CHANGES: Final = frozenset(
    {EVENT_TYPE_CLOSED, EVENT_TYPE_CREATED, EVENT_TYPE_DELETED, EVENT_TYPE_MODIFIED, EVENT_TYPE_MOVED}
)
_PROBE: Final = f"{naming.OWN_FOLDER}/probe"
_PROBE_EVERY: Final = 60.0
_PROBE_PATIENCE: Final = 5.0
_RETRY_EVERY: Final = 60.0


@dataclass(frozen=True, slots=True)
class WatchStatus:
    """How we learn of changes. degraded: events were asked for and do not come."""

    mode: str  #: "events" or "polling"
    degraded: bool
    reason: str | None


class Watch(FileSystemEventHandler):
    """Sets `wake` when something changes below the roots, and remembers where."""

    def __init__(self, wake: threading.Event, *, events: bool) -> None:
        self._wake, self._events = wake, events
        self._lock = threading.Lock()
        self._stirred: set[str] = set()
        self._observer: Any = None
        self._threads: frozenset[threading.Thread] = frozenset()  #: all of the observer's
        self._watched: set[str] = set()
        self._roots: tuple[str, ...] = ()  #: the same, from the first event on
        self._probe_sent: dict[str, float] = {}
        self._probe_answered: set[str] = set()
        self._next_probe = self._next_try = float("-inf")
        self._doubt: str | None = None  #: why an answered probe proves nothing
        self._trouble: str | None = "not tried yet" if events else "switched off"

    @property
    def status(self) -> WatchStatus:
        if self._trouble is None:
            return WatchStatus("events", degraded=False, reason=None)
        untried = self._trouble == "not tried yet"
        return WatchStatus("polling", degraded=self._events and not untried, reason=self._trouble)

    def take_stirred(self) -> set[str]:
        """The paths at which something changed since the last call."""
        with self._lock:
            stirred, self._stirred = self._stirred, set()
        return stirred

    def tend(self, roots: Sequence[str], probed: Sequence[str], now: float) -> None:
        """Watches the roots, asks the probe in those of them that may be written to, notices that either is silent.

        To be called at every look; `roots` are those that are there at the moment.
        """
        if not self._events or not roots:
            return
        if now >= self._next_try and self._watched != set(roots):
            self._start(roots, now)
        if self._observer is not None and probed:
            self._tend_probe(probed, now)

    def stop(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer = None
            self._watched = set()
            self._probe_sent.clear()

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in _CHANGES:
            return
        paths = {os.fsdecode(path) for path in (event.src_path, event.dest_path) if path}
        with self._lock:
            for path in paths:
                if path.endswith("/" + _PROBE):
                    self._probe_answered.add(path)
                elif not self._is_ours(path):
                    self._stirred.add(path)
                    self._wake.set()

    def _is_ours(self, path: str) -> bool:
        """What we write ourselves moves nothing. Above a root, a folder may be called as it likes."""
        below = max((root for root in self._roots if path.startswith(root)), key=len, default="")
        return f"/{naming.OWN_FOLDER}" in path[len(below) :]

    def _start(self, roots: Sequence[str], now: float) -> None:
        self.stop()
        self._roots = tuple(roots)
        self._next_try = now + _RETRY_EVERY
        others = frozenset(threading.enumerate())
        observer = Observer()
        try:
            for root in roots:
                observer.schedule(self, root, recursive=True)
            observer.start()
        except OSError as error:
            cause = error.strerror or error
            self._set_trouble(f"file events cannot be had: {cause} (is fs.inotify.max_user_watches too low?)")
            return
        self._observer, self._watched, self._next_probe = observer, set(roots), now
        self._threads = frozenset(threading.enumerate()) - others
        self._doubt = next((doubt for root in roots if (doubt := _doubt_about(root))), None)

    def _tend_probe(self, roots: Sequence[str], now: float) -> None:
        # Also those that the observer does not know of: the one that reads from the kernel does not survive that two
        # folders swap their names, as a save does with the one that it replaces.
        if not all(thread.is_alive() for thread in self._threads):
            self._give_up("what reads file events died; it is started again within a minute", now)
            return
        if now >= self._next_probe and not self._probe_sent:
            self._send_probes(roots, now)
        with self._lock:
            answered, self._probe_answered = self._probe_answered, set()
        for path in answered & self._probe_sent.keys():
            del self._probe_sent[path]
            if not self._probe_sent:
                self._set_trouble(self._doubt)
        silent = [path for path, sent in self._probe_sent.items() if now - sent > _PROBE_PATIENCE]
        if silent:
            root = silent[0].removesuffix("/" + _PROBE)
            self._give_up(f"no file events come from {root} (a network or FUSE filesystem?)", now)

    def _send_probes(self, roots: Sequence[str], now: float) -> None:
        self._next_probe = now + _PROBE_EVERY
        for root in roots:
            path = os.path.join(root, _PROBE)
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="ascii") as probe:
                    probe.write(f"{now}\n")
            except OSError as error:
                self._give_up(f"the probe {path} cannot be written: {error.strerror}", now)
                return
            self._probe_sent[path] = now

    def _give_up(self, reason: str, now: float) -> None:
        self._set_trouble(reason)
        self.stop()
        self._next_try = now + _RETRY_EVERY

    def _set_trouble(self, reason: str | None) -> None:
        if reason != self._trouble:
            _log.info("watch mode=%s reason=%s", "polling" if reason else "events", reason)
        self._trouble = reason


def _doubt_about(root: str) -> str | None:
    """The probe is ours: where others write through another mount, its event comes and theirs do not."""
    filesystem = writers.filesystem_of(root)
    if writers.is_local(filesystem):
        return None
    return f"{root} lies on {filesystem or 'an unknown filesystem'}: what others change there makes no file events"
