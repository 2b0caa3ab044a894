"""`python -m lastgood_worker`: reads the settings, wires the parts, runs the loop until SIGTERM."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from lastgood import ownership
from lastgood.catalog import WorkerCatalog
from lastgood.errors import CatalogError, LastgoodError, SettingsError
from lastgood.settings import Settings, read_settings
from lastgood.settings_file import settings_text
from lastgood_worker import children, courier
from lastgood_worker.judging import Judging, Reading
from lastgood_worker.ledger import Clock
from lastgood_worker.reconciler import Reconciler
from lastgood_worker.watching import Watch

if TYPE_CHECKING:
    from io import TextIOWrapper

_REQUESTS_EVERY: Final = 0.5
_LOCK_PATIENCE: Final = 1.0  # seconds: a job that asks whether a worker lives takes the lock for an instant
_SHORTEST_PAUSE: Final = 0.05  # a busy writer makes thousands of events a second: one look serves them all


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    try:
        settings = read_settings(os.environ, settings_text())
        if not settings.roots:
            raise SettingsError("no folder to watch: set LASTGOOD_ROOTS, or use `lastgood up DIR`")
        _check_roots(settings)
        catalog = WorkerCatalog(settings.state_dir)
        with _lock(settings.state_dir):
            _run(settings, catalog)
    except LastgoodError as error:  # while it runs: the catalog's disk is full, or went away
        print(f"lastgood worker: {error}", file=sys.stderr)  # noqa: T201 - the message is for the person who started us
        return 2
    return 0


def _check_roots(settings: Settings) -> None:
    for root in settings.roots:
        # Not every root is ours although the runs in it are: /data may hold the folders of several people.
        write = not ownership.can_write_in(root)
        if why := ownership.why_closed("the watched folder", root, write=write):
            raise SettingsError(why)


def _run(settings: Settings, catalog: WorkerCatalog) -> None:
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # a lease that a writer breaks would end us
    wake, stop = threading.Event(), threading.Event()

    def end(*_signal: object) -> None:
        stop.set()
        wake.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    if settings.remote:
        children.get_ready(courier.LOADED_BEFORE)
    watch = Watch(wake, events=settings.events)
    judging = Judging(wake, time.monotonic, settings.verify_stall_seconds, Reading.of(settings))
    clock = Clock(time.monotonic, lambda: datetime.now(UTC))
    reconciler = Reconciler(settings, catalog, watch, judging, clock, boot=_boot_id(), wake=wake)
    try:
        _loop(reconciler, catalog, wake, stop)
    finally:
        reconciler.stop()
        judging.stop()
        watch.stop()
        catalog.close()


def _loop(reconciler: Reconciler, catalog: WorkerCatalog, wake: threading.Event, stop: threading.Event) -> None:
    while not stop.is_set():
        wake.clear()
        seen = catalog.version()  # before the look: what is asked while it lasts must not wait for the next one
        due = time.monotonic() + reconciler.look()
        stop.wait(_SHORTEST_PAUSE)
        while not stop.is_set() and not wake.is_set() and (left := due - time.monotonic()) > 0:
            wake.wait(min(left, _REQUESTS_EVERY))
            reconciler.heartbeat()
            if (version := catalog.version()) != seen and catalog.open_requests():
                break
            seen = version


def _lock(state_dir: str) -> TextIOWrapper:
    """Held as long as we live: two workers on one catalog would undo each other's work."""
    path = os.path.join(state_dir, "worker.lock")
    if why := ownership.why_closed("the lock", path, write=True):
        raise CatalogError(why)
    lock = open(path, "w", encoding="ascii")  # noqa: SIM115 - closed by whoever runs
    until = time.monotonic() + _LOCK_PATIENCE
    while not _is_taken_by_us(lock):
        if time.monotonic() >= until:
            lock.close()
            raise CatalogError(
                f"another worker already runs on {state_dir}; stop it, or choose another folder with LASTGOOD_STATE_DIR"
            )
        time.sleep(_SHORTEST_PAUSE)
    return lock


def _is_taken_by_us(lock: TextIOWrapper) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
