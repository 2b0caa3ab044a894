"""The service behind a real socket: as a process of its own, or in a thread of ours, which starts sooner."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from lastgood_service.app import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service_world import World

_ROOTS = [os.path.abspath(root) for root in ("src", "worker", "service")]


class Service:
    """A running service; its log is read as it comes."""

    def __init__(self, world: World, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lastgood_service"],
            cwd=world.folder,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join(_ROOTS),
                "LASTGOOD_STATE_DIR": world.settings.state_dir,
                "LASTGOOD_PORT": "0",
                **environment,
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.url = ""

    def listen(self) -> None:
        """Until it says where it listens."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"listening url=(\S+)", line):
                self.url = found[1]
                return
        raise AssertionError(f"it never listened: {self.lines}")

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=10)


@contextmanager
def running(world: World, **environment: str) -> Iterator[Service]:
    service = Service(world, **environment)
    try:
        service.listen()
        yield service
    finally:
        service.process.kill()
        service.process.wait()
        assert service.process.stderr is not None
        service.process.stderr.close()


class ServiceInThread:
    """An application behind a port of the system's choice, until `end`."""

    def __init__(self, world: World, **settings: Any) -> None:
        app = create_app(world.settings.model_copy(update=settings), world.catalog)
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="error", access_log=False))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it answers, as soon as it does."""
        deadline = time.monotonic() + 10
        while not self._server.started:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def end(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
        assert not self._thread.is_alive()


@contextmanager
def serving(world: World, **settings: Any) -> Iterator[ServiceInThread]:
    service = ServiceInThread(world, **settings)
    try:
        yield service
    finally:
        service.end()
