"""Which stretches of a checkpoint were fetched, so that an end of ours costs no more than what was under way."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from lastgood.remote.local import Stretch


class Journal:
    """Which stretches are there. A line for each, written when its bytes were."""

    def __init__(self, path: str) -> None:
        self._path, self._lock = path, threading.Lock()
        self._known = set(_lines(path))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - as long as we live

    @property
    def bytes(self) -> int:
        return sum(size for _path, _start, size in self._known)

    def knows(self, path: str, stretch: Stretch) -> bool:
        return (path, stretch.start, stretch.size) in self._known

    def note(self, path: str, stretch: Stretch) -> None:
        with self._lock:
            self._known.add((path, stretch.start, stretch.size))
            self._file.write(json.dumps([path, stretch.start, stretch.size]) + "\n")
            self._file.flush()

    def forget(self, paths: Collection[str]) -> None:
        """What is there of them is wrong."""
        with self._lock:
            self._known = {line for line in self._known if line[0] not in paths}
            self._file.truncate(0)
            self._file.writelines(json.dumps(line) + "\n" for line in sorted(self._known))
            self._file.flush()

    def end(self) -> None:
        self._file.close()
        os.unlink(self._path)


def _lines(path: str) -> Iterator[tuple[str, int, int]]:
    """Those that are whole: the last one may have been cut."""
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                try:
                    name, start, size = json.loads(line)
                except (ValueError, TypeError, RecursionError):
                    continue
                yield str(name), int(start), int(size)
    except FileNotFoundError:
        return
