"""A bar for what takes longer than about a second, on a terminal."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final

from lastgood.errors import LastgoodError
from lastgood.inventory import take_inventory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_AFTER: Final = 1.0


@contextmanager
def progress_bar(path: str, stream: IO[str], total: int | None = None) -> Iterator[Callable[[int], None]]:
    """What is to hear of every block that was read of the checkpoint at `path`, or of `total` bytes of that name."""
    if not stream.isatty():
        yield lambda _count: None
        return
    bar = _Bar(path, stream, total)
    try:
        yield bar.heard
    finally:
        bar.close()


class _Bar:
    def __init__(self, path: str, stream: IO[str], total: int | None) -> None:
        self._path, self._stream, self._total = path, stream, total
        self._lock = threading.Lock()  # several threads read
        self._started, self._read = time.monotonic(), 0
        self._shown: Any = None

    def heard(self, count: int) -> None:
        with self._lock:
            self._read += count
            if self._shown is None and time.monotonic() - self._started >= _AFTER:
                self._shown = _shown(self._path, self._stream, self._total)
            if self._shown is not None:
                self._shown.update(self._shown.task_ids[0], completed=self._read)

    def close(self) -> None:
        if self._shown is not None:
            self._shown.stop()


def _shown(path: str, stream: IO[str], total: int | None) -> Any:
    # Loaded here: most verifications are over before rich would be.
    from rich import progress  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(file=stream),
        transient=True,
    )
    bar.add_task(path, total=total if total is not None else _bytes_of(path))
    bar.start()
    return bar


def _bytes_of(path: str) -> int | None:
    try:
        return take_inventory(path).bytes
    except LastgoodError:
        return None
