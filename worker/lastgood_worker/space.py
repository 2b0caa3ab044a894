"""Telling that a disk will be full before it is."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from lastgood.findings import Severity
from lastgood.forecast import forecast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lastgood.settings import Settings
    from lastgood_worker.ledger import Ledger
    from lastgood_worker.roots import RootView

_LOOK_EVERY: Final = 10.0
_SAVES_LEFT: Final = 3  #: with room for fewer than this many a person should know
_GB: Final = 1e9


def free_bytes(path: str) -> int | None:
    """What whoever runs us may still write there; None where the disk does not say."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


class Space:
    """Warns once for each time that room runs short."""

    def __init__(self, settings: Settings, ledger: Ledger, free: Callable[[str], int | None] = free_bytes) -> None:
        self._settings, self._ledger, self.free = settings, ledger, free
        self._looked_at = float("-inf")
        self._short: set[str] = set()

    def look(self, ready: Iterable[RootView]) -> None:
        now = self._ledger.clock.monotonic()
        if now - self._looked_at < _LOOK_EVERY:
            return
        self._looked_at = now
        for run in self._ledger.runs():
            records = self._ledger.of_run(run)
            if any(root.path == records[0].root for root in ready):
                self._look_at(run, records[0].root)

    def _look_at(self, run: str, root: str) -> None:
        free = self.free(root)
        found = None if free is None else forecast(self._ledger.of_run(run), free, self._ledger.clock.now())
        if free is None or found is None:
            return
        short = found.room_for < _SAVES_LEFT or free < self._settings.min_free_space
        if short and run not in self._short:
            self._short.add(run)
            full = f"; full at about {found.full_at:%Y-%m-%d %H:%M} UTC" if found.full_at else ""
            room = f"{free / _GB:.3g} GB free, {found.bytes_per_save / _GB:.3g} GB a save"
            message = f"the disk of run {run} has room for {found.room_for} more saves ({room}){full}"
            self._ledger.event("disk-nearly-full", message, Severity.WARNING, self._ledger.of_run(run)[-1])
        elif found.room_for >= 2 * _SAVES_LEFT and not short:
            self._short.discard(run)
