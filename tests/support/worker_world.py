"""A worker on a simulated clock: real folders, a real catalog, the real judge; only time is moved by hand."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from builders import write_file
from lastgood import naming, resume
from lastgood.catalog import WorkerCatalog
from lastgood.errors import Refusal
from lastgood.latest import resume_point_now
from lastgood.settings import Settings
from lastgood_worker.judging import Judging, Reading
from lastgood_worker.ledger import Clock
from lastgood_worker.reconciler import Reconciler
from lastgood_worker.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from lastgood.catalog import Event
    from lastgood.records import Record
    from lastgood_worker.judging import Job

NOON: Final = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
_DEADLINE: Final = 60.0
_NEVER: Final = 1e9


class CountingJudging(Judging):
    """The real one; it remembers what it was asked to read."""

    def __init__(self, wake: threading.Event, reading: Reading) -> None:
        super().__init__(wake, time.monotonic, _NEVER, reading)
        self.read: list[str] = []
        self.just_before: Callable[[], None] | None = None  #: done once, when the next is settled and not yet read

    def start(self, job: Job) -> None:
        self.read.append(job.name)
        if self.just_before is not None:
            self.just_before()
            self.just_before = None
        super().start(job)

    def crawl(self, *, crawling: bool) -> None:
        """Whether the next judges come to no end."""
        self._reading = replace(self._reading, max_rate=int(crawling))


@dataclass
class World:
    """One worker, its folders, and the time."""

    folder: Path
    roots: tuple[str, ...] = ("output",)
    settings_changed: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.at = 1000.0
        for root in self.roots:
            (self.folder / root).mkdir(parents=True, exist_ok=True)
        self.root = self.folder / self.roots[0]
        self._running = False
        self.start()

    # --- the worker's life ---

    def start(self, boot: str = "this boot", roots: tuple[str, ...] | None = None) -> None:
        """Starts the worker, as a process would: all that it knows, it reads from the catalog."""
        self.roots = roots or self.roots
        paths = tuple(str(self.folder / root) for root in self.roots)
        state_dir = str(self.folder / "state")
        self.settings = Settings(roots=paths, state_dir=state_dir, events=False, **self.settings_changed)
        self.catalog = WorkerCatalog(state_dir)
        self.wake = threading.Event()
        self.judging = CountingJudging(self.wake, Reading.of(self.settings))
        clock = Clock(lambda: self.at, lambda: self.now)
        watch = Watch(self.wake, events=False)
        self.worker = Reconciler(self.settings, self.catalog, watch, self.judging, clock, boot=boot, wake=self.wake)
        self._running = True

    def stop(self) -> None:
        """Ends it: whatever it held in memory is lost."""
        if self._running:
            self.worker.stop()
            self.judging.stop()
            self.catalog.close()
            self._running = False

    def restart(self, boot: str = "this boot", roots: tuple[str, ...] | None = None) -> None:
        self.stop()
        self.start(boot, roots)

    # --- time ---

    @property
    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.at - 1000.0)

    def look(self) -> float:
        return self.worker.look()

    def advance(self, seconds: float) -> None:
        """Time passes; the worker looks as often as it wishes to."""
        end = self.at + seconds
        while True:
            wait = self.worker.look()
            if self.at >= end:
                return
            self.at = min(end, self.at + wait)

    def skip(self, seconds: float) -> None:
        """Time passes while the worker sleeps; then it looks, twice: what the first look brings about may need it."""
        self.at += seconds
        self.look()
        self.at += 1
        self.look()

    def advance_until_read(self) -> None:
        """Time passes until a judge has been set to work; what it finds is not looked at yet."""
        while self.judging.job is None:
            self.worker.look()
            self.at += 0.5

    def judge(self) -> None:
        """Until the judge has nothing left that could be read at this moment."""
        end = time.monotonic() + _DEADLINE
        while True:
            self.wake.clear()
            self.worker.look()
            if self.judging.job is None:
                return
            self.wake.wait(max(end - time.monotonic(), 0))
            assert time.monotonic() < end, f"nobody judged {self.judging.job.name}"

    def settle(self, seconds: float = 5.0) -> None:
        """Long enough for what is finished to settle, and to be judged."""
        self.advance(seconds)
        self.judge()

    # --- files ---

    def path(self, step: int, run: str = "", root: str | None = None) -> Path:
        return (self.folder / root if root else self.root) / run / f"checkpoint-{step}"

    def write_slowly(self, folder: Path, files: Iterable[tuple[str, bytes]], pause: float) -> None:
        """File by file; after each one time passes, what has settled is judged, and it must not be handed out yet."""
        files = list(files)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files[:-1]:
            write_file(folder, name, content)
            self.advance(pause)
            self.judge()
            assert str(folder) not in self.handed_out(), f"handed out before {files[-1][0]} was there"
        write_file(folder, *files[-1])

    # --- what is asked of it ---

    def ask(self, kind: str, name: str = "", run: str = ".", **arguments: Any) -> str:
        """What the worker answered: "done: ..." or "refused: ..."."""
        found = [record.id for record in self.catalog.records(run) if record.name == name]
        about = found[-1] if found else None
        made = self.catalog.add_request(
            kind, run=run, name=name, now=self.now, checkpoint_id=about, arguments=arguments
        )
        while (answer := self.catalog.request(made.id)).state == "open":
            self.look()
        return f"{answer.state}: {answer.result}"

    # --- what it says ---

    def in_place(self, run: str = "") -> list[int]:
        """The steps of the checkpoints that lie in the run's folder."""
        steps = (naming.step_in_name(path.name) for path in (self.root / run).iterdir())
        return sorted(step for step in steps if step is not None)

    def in_trash(self, run: str = "") -> list[str]:
        """What lies in the run's trash."""
        trash = self.root / run / ".lastgood/trash"
        return sorted(path.name.partition(".")[0] for path in trash.iterdir()) if trash.exists() else []

    def records(self, run: str | None = None) -> list[Record]:
        return self.catalog.records(run, gone=False)

    def record(self, name: str = "", run: str | None = None) -> Record:
        """The present record of that name, or the only one."""
        found = [record for record in self.records(run) if name in ("", record.name)]
        assert len(found) == 1, [(record.run, record.name, record.state) for record in self.records(run)]
        return found[0]

    def latest(self, run: str = ".") -> str | None:
        """The name of the resume point; None where there is none."""
        try:
            return self.answer(run).record.name
        except Refusal:
            return None

    def answer(self, run: str = ".") -> resume.Answer:
        return resume_point_now(self.catalog.records(run), resume.Wishes())

    def handed_out(self) -> set[str]:
        """The paths of all resume points."""
        found = set()
        for run in {record.run for record in self.catalog.records()}:
            try:
                found.add(self.answer(run).record.path)
            except Refusal:
                continue
        return found

    def events(self, kind: str | None = None) -> list[Event]:
        return [event for event in self.catalog.events(limit=100_000) if kind in (None, event.kind)]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events()]


@contextmanager
def world_in(folder: Path, *roots: str, **settings: Any) -> Iterator[World]:
    """A world of its own below `folder`, ended with the block."""
    world = World(folder, roots or ("output",), settings)
    try:
        yield world
    finally:
        world.stop()


def rewrite_in_place(path: Path, *, mtime_back: bool = False) -> None:
    """Flips the last byte: same inode, same size."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 0x40]))
    after = (before.st_atime_ns, before.st_mtime_ns if mtime_back else before.st_mtime_ns + 1_000_000)
    os.utime(path, ns=after)
