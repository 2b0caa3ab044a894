"""A process that writes checkpoints as it is told, step by step, and can be killed between any two of them.

Told in JSON lines on stdin, each a list of acts; answers "done" when they are. Needs nothing but Python, so that it
starts at once. Files stay open until they are closed, as a real writer's do.
"""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Act = tuple[Any, ...]

_CHUNK: Final = 1 << 20


class Writer:
    """The process, from the test's side."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def do(self, acts: Iterable[Act]) -> None:
        """Returns when all of it is done."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(list(acts)) + "\n")
        stdin.flush()
        assert stdout.readline() == "done\n", "the writer died"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


@contextmanager
def writer() -> Iterator[Writer]:
    made = Writer()
    try:
        yield made
        made.end()
    finally:
        made.kill()


def acts_of_file(folder: Path, name: str, source: Path, chunk: int = _CHUNK) -> list[Act]:
    """How one file is written: safetensors under a temporary name that is then changed, others straight."""
    final, size = folder / name, (source / name).stat().st_size
    landing = folder / ".tmpA1b2C3" if name.endswith(".safetensors") else final
    pieces = [("append", str(landing), str(source / name), at, chunk) for at in range(0, size, chunk)]
    renamed = [("rename", str(landing), str(final))] if landing != final else []
    return [("folder", str(folder)), ("create", str(landing)), *pieces, ("close", str(landing)), *renamed]


def acts_of_save(folder: Path, source: Path, names: Iterable[str], chunk: int = _CHUNK) -> list[Act]:
    """How a whole save is written, in the order of its names."""
    return [act for name in names for act in acts_of_file(folder, name, source, chunk)]


class _Actor:
    """The process itself."""

    def __init__(self) -> None:
        self._open: dict[str, IO[bytes]] = {}
        self._mapped: dict[str, mmap.mmap] = {}

    def act(self, verb: str, *details: Any) -> None:
        getattr(self, f"_{verb}")(*details)

    def _folder(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def _create(self, path: str, size: int = 0) -> None:
        """A new file, or an old one emptied; at its full size at once, where that is told."""
        self._open[path] = open(path, "wb", buffering=0)  # noqa: SIM115 - until it is told to close it
        self._open[path].truncate(size)

    def _append(self, path: str, source: str, offset: int, length: int) -> None:
        with open(source, "rb") as file:
            file.seek(offset)
            self._open[path].write(file.read(length))

    def _close(self, path: str) -> None:
        self._open.pop(path).close()

    def _map(self, path: str) -> None:
        """Maps a file shared and writable, and closes it: only the mapping holds it."""
        with open(path, "r+b") as file:
            self._mapped[path] = mmap.mmap(file.fileno(), 0)

    def _unmap(self, path: str) -> None:
        self._mapped.pop(path).close()

    def _rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def _remove(self, path: str) -> None:
        os.rmdir(path) if os.path.isdir(path) else os.unlink(path)

    def _pause(self, seconds: float) -> None:
        """The writer's own slowness: a busy device, a gather over the network."""
        threading.Event().wait(seconds)


def _main() -> None:
    actor = _Actor()
    for line in sys.stdin:
        for act in json.loads(line):
            actor.act(*act)
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
