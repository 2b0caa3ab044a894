"""A job that saves without end: it rotates its own old saves, and now and then is killed in mid-save and starts anew.

Run as a program: folder, diary, seed. It writes the diary one JSON line at a time: what it is about to save with the
digest that the finished save will have, what it finished, what it is about to remove. Ends after its last save when
its stdin is closed; that one is never killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import select
import shutil
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

KEPT: Final = 8
PAUSE: Final = 0.4  # seconds between two saves, at most
_KILLED_ONE_IN: Final = 5
_CHUNK: Final = 1 << 14


@dataclass
class Diary:
    """What the job wrote of its saves, as read at one moment."""

    digests: dict[str, str] = field(default_factory=dict)  #: what each save consists of once it is finished
    finished: list[str] = field(default_factory=list)
    removing: set[str] = field(default_factory=set)
    killed: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> Diary:
        diary = cls()
        for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
            if not line.endswith("\n"):
                break
            entry = json.loads(line)
            diary.note(entry["what"], entry["name"], entry.get("digest", ""))
        return diary

    def note(self, what: str, name: str, digest: str) -> None:
        match what:
            case "begins":
                self.digests[name] = digest
            case "finished":
                self.finished.append(name)
            case "removes":
                self.removing.add(name)
            case "killed":
                self.killed.add(name)


def digest_of(files: Iterable[tuple[str, bytes]]) -> str:
    """One digest over names and contents, whatever the order."""
    rows = sorted((name, hashlib.sha256(content).hexdigest()) for name, content in files)
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def digest_on_disk(folder: Path) -> str:
    """The same, of what lies there now. OSError where files go away meanwhile."""
    return digest_of((path.name, path.read_bytes()) for path in folder.iterdir())


class Job:
    def __init__(self, folder: Path, diary: Path, seed: int) -> None:
        self._folder, self._diary, self._random = folder, diary, random.Random(seed)
        self._step = 0

    def run(self) -> None:
        while not select.select([sys.stdin], [], [], self._random.uniform(0, PAUSE))[0]:
            self._save(killed=self._random.randrange(_KILLED_ONE_IN) == 0)
        self._save(killed=False)

    def _save(self, *, killed: bool) -> None:
        from builders import hf_files

        self._step += 10
        name = f"checkpoint-{self._step}"
        files = hf_files(self._step, weight_rows=2000)
        self._tell("begins", name, digest=digest_of(files))
        chunks = sum(len(range(0, len(content) or 1, _CHUNK)) for _name, content in files)
        child = os.fork()
        if child == 0:
            write(self._folder / name, files, die_after=self._random.randrange(1, chunks) if killed else None)
            os._exit(0)
        _pid, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) is killed
        self._tell("killed" if killed else "finished", name)
        self._rotate()

    def _rotate(self) -> None:
        saves = sorted(self._folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        for old in saves[:-KEPT]:
            self._tell("removes", old.name)
            shutil.rmtree(old)

    def _tell(self, what: str, name: str, **more: Any) -> None:
        with self._diary.open("a") as diary:
            diary.write(json.dumps({"what": what, "name": name, **more}) + "\n")


def write(folder: Path, files: Iterable[tuple[str, bytes]], die_after: int | None) -> None:
    """Writes them in pieces, safetensors under another name first; the process is killed after so many pieces."""
    written = 0
    folder.mkdir()
    for name, content in files:
        landing = folder / (".tmpA1b2C3" if name.endswith(".safetensors") else name)
        with landing.open("wb", buffering=0) as file:
            for at in range(0, len(content) or 1, _CHUNK):
                file.write(content[at : at + _CHUNK])
                written += 1
                if written == die_after:
                    os.kill(os.getpid(), signal.SIGKILL)
                threading.Event().wait(0.001)
        landing.rename(folder / name)


if __name__ == "__main__":
    Job(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])).run()
