"""lastgood as it really runs: processes of their own on a free port and a state folder of their own.

Whatever is started is ended, by its process id; logs are shown where a wait is in vain.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_LOOK_EVERY: Final = 0.05
_LOG_SHOWN: Final = 6000

# A fifteenth of the defaults, all in the same ratio: what takes 30 s with those takes 2 s with these.
SHORT: Final = {
    "LASTGOOD_QUIET_SECONDS": "0.2",
    "LASTGOOD_QUIET_SURE_SECONDS": "0.033",
    "LASTGOOD_SCAN_LANDING_SECONDS": "0.033",
    "LASTGOOD_SCAN_IDLE_SECONDS": "0.33",
    "LASTGOOD_SCAN_BLIND_SECONDS": "0.067",
}


class Program:
    """One process, started as often as wished; its log grows in a file."""

    def __init__(self, name: str, arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        self.name, self._arguments, self._environ, self.log = name, list(arguments), dict(environ), log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                env=self._environ,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stderr=log,
                stdout=log,
            )

    def kill(self) -> None:
        """SIGKILL, and nothing left of it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def end(self, number: int = signal.SIGTERM) -> int:
        """As a person would end it. Its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        try:
            return self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end; its log:\n{self.said()}") from None

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-_LOG_SHOWN:] if self.log.exists() else ""


@dataclass
class Watcher:
    """A worker and a service on one state folder, and a client of theirs."""

    root: Path
    place: Path  #: state, logs, working folder
    port: int
    programs: dict[str, Program]
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def state_dir(self) -> Path:
        return self.place / "state"

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """What the service answers, problems too; under "status", where it has no other, the HTTP status."""
        response = self.client.get(path, params=params)
        return {"status": response.status_code, **response.json()}

    def latest(self, run: str | None = None, **wishes: Any) -> dict[str, Any]:
        return self.get("/checkpoints/latest", **({"run": run} if run else {}), **wishes)

    def latest_name(self, run: str | None = None, **wishes: Any) -> str | None:
        """The name of the resume point; None where there is none, or nobody answers just now."""
        try:
            name = self.latest(run, **wishes).get("name")
        except httpx.HTTPError:
            return None
        return str(name) if name else None

    def records(self, run: str | None = None) -> dict[str, dict[str, Any]]:
        """Every checkpoint that is there, by its name."""
        found = self.get("/checkpoints", limit=500, **({"run": run} if run else {}))
        return {item["name"]: item for item in found["items"]}

    def record(self, run: str | None, name: str) -> dict[str, Any]:
        """One of them; empty where it is not listed."""
        return self.records(run).get(name, {})

    def events(self, **which: str) -> list[dict[str, Any]]:
        """Everything that happened, oldest first, as far as it fits."""
        found: list[dict[str, Any]] = []
        while items := self.get("/events", since=found[-1]["id"] if found else 0, limit=500)["items"]:
            found += items
        return [event for event in found if all(event[key] == value for key, value in which.items())]

    def wait(self, what: str, done: Callable[[], object], seconds: float = 60) -> None:
        """Until it is so. AssertionError, with both logs, where that takes too long or a process ended."""
        wait_for(what, done, seconds, self._trouble)

    def logs(self) -> str:
        return "\n".join(f"--- {name} ---\n{program.said()}" for name, program in self.programs.items())

    def is_ready(self) -> bool:
        try:
            return self.client.get("/readyz").is_success
        except httpx.HTTPError:
            return False

    def _trouble(self) -> str | None:
        dead = [name for name, program in self.programs.items() if program.ended]
        return f"{', '.join(dead)} ended" if dead else None


def wait_for(
    what: str, done: Callable[[], object], seconds: float = 60, trouble: Callable[[], str | None] = lambda: None
) -> None:
    """Until it is so. AssertionError where that takes too long, or `trouble` has something to say."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not done():
        if (why := trouble()) or time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what}: {why or f'not within {seconds} s'}")
        pause.wait(_LOOK_EVERY)


@contextmanager
def up(root: Path, place: Path, *, until_ready: bool = True, **settings: str) -> Iterator[Watcher]:
    """`lastgood up ROOT`, ready, or just started."""
    place.mkdir(parents=True, exist_ok=True)
    port = free_port()
    program = Program(
        "up", [*LASTGOOD, "up", str(root), "--port", str(port)], environ(place, **settings), place / "log"
    )
    with _ended(Watcher(root, place, port, {"up": program}), until_ready=until_ready) as watcher:
        yield watcher


@contextmanager
def both(root: Path, place: Path, **settings: str) -> Iterator[Watcher]:
    """Worker and service as two processes that can be killed and started one by one, ready."""
    place.mkdir(parents=True, exist_ok=True)
    port = free_port()
    environment = environ(place, LASTGOOD_ROOTS=str(root), LASTGOOD_PORT=str(port), **settings)
    programs = {
        name: Program(name, [sys.executable, "-m", f"lastgood_{name}"], environment, place / f"{name}.log")
        for name in ("worker", "service")
    }
    with _ended(Watcher(root, place, port, programs)) as watcher:
        yield watcher


@contextmanager
def _ended(watcher: Watcher, *, until_ready: bool = True) -> Iterator[Watcher]:
    try:
        for program in watcher.programs.values():
            program.start()
        if until_ready:
            watcher.wait("lastgood to be ready", watcher.is_ready)
        yield watcher
    except (AssertionError, httpx.HTTPError):
        print(watcher.logs())
        raise
    finally:
        watcher.client.close()
        for program in watcher.programs.values():
            if not program.ended:
                program.end()


LASTGOOD: Final = (sys.executable, "-c", "from lastgood.cli import main; main()")


def environ(place: Path, **settings: str) -> dict[str, str]:
    """Nothing of ours but what is needed: no setting of the person who runs the tests gets in."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "HOME": str(place), "LASTGOOD_STATE_DIR": str(place / "state"), **settings}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Asker:
    """Somebody who asks for the resume point again and again, as fast as it is answered."""

    def __init__(self, watcher: Watcher, runs: Sequence[str | None] = (None,), **wishes: str) -> None:
        self._watcher, self._runs, self._wishes = watcher, runs, wishes
        self._stop, self._begun = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._ask_on, name="asker", daemon=True)
        self.first_seen: dict[
            tuple[str | None, str], float
        ] = {}  #: when each (run, name) was first answered, by time.time
        self.answers = 0
        self.failures: list[BaseException] = []

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._begun.wait(30), "nobody asked"
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self.failures, self.failures

    def handed_out(self, run: str | None = None) -> set[str]:
        """Every name that was ever answered."""
        return {name for asked, name in list(self.first_seen) if asked == run}

    def _ask_on(self) -> None:
        with httpx.Client(base_url=self._watcher.url, trust_env=False, timeout=10) as client:
            while not self._stop.wait(_LOOK_EVERY):
                for run in self._runs:
                    try:
                        self._ask(client, run)
                    except httpx.TransportError:
                        continue  # it was killed just now, or is not up again yet
                    except Exception as error:  # noqa: BLE001 - told to the test by __exit__
                        self.failures.append(error)
                        self._begun.set()
                        return
                self._begun.set()

    def _ask(self, client: httpx.Client, run: str | None) -> None:
        params = {**self._wishes, **({"run": run} if run else {})}
        response = client.get("/checkpoints/latest", params=params)
        answer = response.json()
        if response.status_code == 200:
            self.answers += 1
            self.first_seen.setdefault((run, answer["name"]), time.time())
            self.check(answer)
        else:
            assert answer["code"] in ("no-checkpoints-yet", "none-acceptable", "not-ready", "unknown"), answer

    def check(self, answer: Mapping[str, Any]) -> None:
        """For others to look closer at each answer; what it raises fails the test."""
