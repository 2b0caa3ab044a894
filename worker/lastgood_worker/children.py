"""Processes that do what takes long or may go wrong. What kills or hangs one takes nothing else along.

They are forked from one that has loaded all it needs (decision 0009), and tell in JSON: what comes from there is never
unpickled.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import signal
import threading
from multiprocessing import forkserver
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from multiprocessing.connection import Connection

    Work = Callable[[Mapping[str, Any], Connection], None]

_LOADED_BEFORE: Final = ["lastgood_worker.judge", "lastgood.formats.floats"]
_SET_PARENT_DEATH_SIGNAL: Final = 1  # prctl(2)
_forking: Final = multiprocessing.get_context("forkserver")


def get_ready(more: Sequence[str] = ()) -> None:
    """Loads now, while nothing waits for it: numpy takes a while, and so does what `more` names."""
    _forking.set_forkserver_preload([*_LOADED_BEFORE, *more])
    forkserver.ensure_running()


def is_orphan() -> bool:
    """To be called first in a child: from now on it ends with the worker. True where that is gone already."""
    # Our parent forks for the worker and ends with it.
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the worker ends us
    return os.getppid() == 1


def tell(telling: Connection, message: Mapping[str, Any]) -> None:
    telling.send_bytes(json.dumps(message).encode())


class Child:
    """A process, and the thread that listens to it. Its last word is what holds no "progress"."""

    def __init__(
        self, name: str, work: Work, wake: threading.Event, monotonic: Callable[[], float], job: Mapping[str, Any]
    ) -> None:
        self._wake, self._monotonic = wake, monotonic
        self.progress: Mapping[str, Any] = {}
        self.message: Mapping[str, Any] | None = None
        self.ended = False
        self._heard_at = monotonic()
        self._told, telling = _forking.Pipe(duplex=False)
        self.process = _forking.Process(target=work, args=(job, telling), name=name, daemon=True)
        try:
            self.process.start()
            threading.Thread(target=self._listen, name=name, daemon=True).start()
        except (OSError, EOFError):  # what forks for us was killed; the next start brings it back
            self._end()
        finally:
            telling.close()

    def stalled(self, seconds: float) -> bool:
        return self._monotonic() - self._heard_at > seconds

    def kill(self) -> None:
        if self.process.pid is not None:
            self.process.kill()
            self.process.join()

    def _listen(self) -> None:
        while True:
            try:
                message = json.loads(self._told.recv_bytes())
            except (OSError, EOFError):
                break
            self._heard_at = self._monotonic()
            if "progress" in message:
                self.progress = message["progress"]
            else:
                self.message = message
        self._end()

    def _end(self) -> None:
        self._told.close()
        self.ended = True
        self._wake.set()
