"""The story in a terminal: a real job saves, is killed in mid-save, asks for its resume point, and goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE: Final = Path(__file__).parent
PLACE: Final = Path(".demo")
OUTPUT: Final = PLACE / "output"
PATIENCE_SECONDS: Final = 120
STEPS, SAVE_EVERY = 1000, 100


class Demo:
    """The watcher, the job, and what is told of them."""

    def __init__(self) -> None:
        shutil.rmtree(PLACE, ignore_errors=True)
        OUTPUT.mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.environ = {**os.environ, "LASTGOOD_STATE_DIR": str(PLACE / "state"), "LASTGOOD_URL": self.url}
        self.log = (PLACE / "lastgood.log").open("w")
        self.watcher = subprocess.Popen(
            [*_lastgood(), "up", str(OUTPUT), "--port", str(port)], env=self.environ, stderr=self.log
        )
        self.told = 0

    def train(self, resume_from: str = "") -> subprocess.Popen[str]:
        resume = ["--resume-from-checkpoint", resume_from] if resume_from else []
        command = [sys.executable, str(HERE / "train_small.py"), "--output", str(OUTPUT), *resume]
        say("job", " ".join(["python", "train_small.py", *command[2:]]))
        return subprocess.Popen([*command, "--steps", str(STEPS), "--save-every", str(SAVE_EVERY)], text=True)

    def wait(self, what: str, done: Callable[[], bool]) -> None:
        """Tells what happens until it is done. SystemExit where it takes too long, or the watcher ends."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not done():
            self.tell_events()
            if time.monotonic() > end or self.watcher.poll() is not None:
                sys.exit(f"the demo waited in vain for {what}; see {self.log.name}")
            time.sleep(0.05)
        self.tell_events()

    def tell_events(self) -> None:
        for event in self.events():
            say("watcher", event["message"])

    def events(self) -> Iterator[dict[str, str]]:
        try:
            found = httpx.get(f"{self.url}/events", params={"since": self.told, "limit": 100}, timeout=5).json()
        except httpx.HTTPError:
            return
        self.told = found["next"]
        yield from found["items"]

    def is_up(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).is_success
        except httpx.HTTPError:
            return False

    def latest(self) -> str:
        """What `lastgood latest` prints; "" where there is nothing to hand out."""
        command = [*_lastgood(), "latest", str(OUTPUT)]
        done = subprocess.run(command, env=self.environ, text=True, capture_output=True, check=False)
        return done.stdout.strip()

    def end(self) -> None:
        self.watcher.send_signal(signal.SIGINT)
        self.watcher.wait(15)
        self.log.close()


def main() -> None:
    demo = Demo()
    job: subprocess.Popen[str] | None = None
    try:
        demo.wait("the watcher", demo.is_up)
        say("demo", f"the watcher is up; its page: {demo.url}/")
        job = demo.train()
        demo.wait("three good checkpoints", lambda: _step(demo.latest()) >= 3 * SAVE_EVERY)
        victim = _kill_in_mid_save(demo, job)
        say("demo", f"the job was killed while it wrote {victim.name}: {', '.join(sorted(os.listdir(victim)))}")
        start = demo.latest()
        say("demo", f"$ lastgood latest {OUTPUT}\n{' ' * 10}{start}")
        job = demo.train(start)
        demo.wait("the job's end", lambda: job is not None and job.poll() is not None)
        demo.wait("its last checkpoint", lambda: _step(demo.latest()) == STEPS)
        say("demo", f"$ lastgood latest {OUTPUT}\n{' ' * 10}{demo.latest()}")
        _tell_all(demo)
    finally:
        if job is not None and job.poll() is None:
            job.kill()
        demo.end()
    say("demo", f"done; all of it lies in {PLACE}")


def _kill_in_mid_save(demo: Demo, job: subprocess.Popen[str]) -> Path:
    """SIGKILL as soon as a new folder appears, before its training state is whole. The folder."""
    known = set(os.listdir(OUTPUT))
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end and job.poll() is None:
        for name in set(os.listdir(OUTPUT)) - known:
            known.add(name)
            if zipfile.is_zipfile(OUTPUT / name / "training_state.pt"):
                continue  # we looked too late
            job.kill()
            job.wait()
            demo.tell_events()
            if not zipfile.is_zipfile(OUTPUT / name / "training_state.pt"):
                return OUTPUT / name
    sys.exit("the demo found no moment to kill the job in")


def _tell_all(demo: Demo) -> None:
    listed = httpx.get(f"{demo.url}/checkpoints", params={"limit": 100}, timeout=5).json()["items"]
    for item in reversed(listed):
        verdict = item["verdict"] or f"{item['state']}, {item['waiting_for']}"
        say("page", f"{item['name']:<16} step {item['step']:>4}  {verdict}")
    found = httpx.get(f"{demo.url}/checkpoints/latest", timeout=5).json()
    say("page", json.dumps({key: found[key] for key in ("name", "verdict", "evidence", "exact_resume")}))


def _step(path: str) -> int:
    return int(path.rpartition("-")[2] or 0)


def _lastgood() -> list[str]:
    return [str(Path(sys.executable).with_name("lastgood"))]


def say(who: str, what: str) -> None:
    print(f"{who:>7} | {what}", flush=True)


if __name__ == "__main__":
    main()
