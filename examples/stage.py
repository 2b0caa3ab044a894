"""What the demo plays on: its folder, the programs that it started, and what lastgood answers."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from lastgood.client import Service
from lastgood.errors import LastgoodError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLACE: Final = Path(".demo")
LASTGOOD: Final = (sys.executable, "-c", "from lastgood.cli import main; main()")
TRAIN: Final = (sys.executable, str(Path(__file__).with_name("train.py")))
PATIENCE_SECONDS: Final = 120.0
_VERDICTS: Final = ("verified", "damaged")  # the events that tell one


class Failed(Exception):
    """What went wrong, and where to read more."""


class Program:
    """A process that we started; what it says goes to a file."""

    def __init__(self, name: str, command: tuple[str, ...], environ: dict[str, str]) -> None:
        self.name, self.log = name, PLACE / f"{name.replace(' ', '-')}.log"
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C comes to us alone, and we end it in order.
            self.process = subprocess.Popen(
                command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self.process.poll()

    def kill(self) -> None:
        """SIGKILL: it cannot do anything about it."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        if self.code is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()

    def said(self, beginning: str = "") -> str:
        """Its last line that begins so; "" where there is none."""
        lines = reversed(self.log.read_text(errors="replace").splitlines())
        return next((line for line in lines if line.strip() and line.startswith(beginning)), "")

    def failure(self) -> Failed:
        last = self.said() or "it said nothing"
        return Failed(f"the program {self.name!r} ended with code {self.code}: {last}; its log: {self.log}")


class Stage:
    """The watcher, and the jobs beside it. All of them end with it."""

    def __init__(self) -> None:
        self.url = f"http://127.0.0.1:{_free_port()}"
        # No setting of the person at this machine gets in.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LASTGOOD_")}
        self.environ = {**clean, "LASTGOOD_URL": self.url, "LASTGOOD_STATE_DIR": str(PLACE.absolute() / "state")}
        self._service, self._told = Service(self.url), 0
        self._programs: list[Program] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # nothing keeps us from ending them
        for program in reversed(self._programs):
            program.end()

    def watch(self, output: Path) -> None:
        """`lastgood up`, ready."""
        arguments = ("up", str(output), "--port", self.url.rpartition(":")[2])
        show(" ".join(["$ lastgood", *arguments]))
        self.watcher = self._start("lastgood", LASTGOOD, *arguments)
        self.wait("lastgood to be ready", lambda: self.ask("/readyz"))

    def train(self, name: str, output: Path, *flags: str) -> Program:
        arguments = ("--model-output", str(output), *flags)
        show(" ".join(["$ python examples/train.py", *arguments]))
        return self._start(name, TRAIN, *arguments)

    def _start(self, name: str, program: tuple[str, ...], *arguments: str) -> Program:
        started = Program(name, (*program, *arguments), self.environ)
        self._programs.append(started)
        return started

    def wait(self, what: str, done: Callable[[], object]) -> None:
        """Until it is so; meanwhile the verdicts are told. Failed where it takes too long."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not done():
            self._tell_verdicts()
            if self.watcher.code is not None:
                raise self.watcher.failure()
            if time.monotonic() > until:
                raise Failed(f"waited {PATIENCE_SECONDS:.0f} s in vain for {what}; logs: {PLACE}/*.log")
            time.sleep(0.25)
        self._tell_verdicts()

    def wait_for_end(self, job: Program) -> None:
        self.wait(f"the end of {job.name}", lambda: job.code is not None)
        if job.code:
            raise job.failure()

    def ask(self, path: str, **params: Any) -> dict[str, Any]:
        """What the service answers; {} where it has no answer just now."""
        try:
            answer: dict[str, Any] = self._service.get(path, params, patience=5)
        except LastgoodError:
            return {}
        return answer

    def latest(self) -> str:
        """The name of the checkpoint that is handed out; "" where there is none."""
        return str(self.ask("/checkpoints/latest").get("name", ""))

    def verdicts(self) -> dict[str, str | None]:
        """By the name of each checkpoint; None where it is not judged yet."""
        return {item["name"]: item["verdict"] for item in self.ask("/checkpoints", limit=100).get("items", ())}

    def _tell_verdicts(self) -> None:
        for event in self.ask("/events", since=self._told, limit=100).get("items", ()):
            self._told = event["id"]
            if event["kind"] in _VERDICTS:
                show(f"lastgood: {event['message']}")


@contextmanager
def place_of_our_own() -> Iterator[None]:
    """The demo's folder, empty. Failed while another demo plays in it."""
    PLACE.mkdir(exist_ok=True)
    descriptor = os.open(PLACE, os.O_RDONLY)
    try:
        _lock(descriptor)
        for path in PLACE.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Failed(f"another demo is running in {PLACE}: end it first") from None


def show(line: str) -> None:
    print(f"   {line}".rstrip(), flush=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
