"""The child process that reads one checkpoint. A file that kills or hangs it takes nothing else along.

One JSON line in on stdin: {"path", "inodes"}. Lines out: {"read": bytes} now and then, last {"report"} or
{"trouble"}.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from typing import Any, Final

from lastgood.errors import LastgoodError
from lastgood.facts import report_as_json
from lastgood.verify import verify

_SET_PARENT_DEATH_SIGNAL: Final = 1  # prctl(2)
_TELL_EVERY: Final = 0.2


def main() -> None:
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the worker ends us
    line = sys.stdin.readline()
    if not line or os.getppid() == 1:
        return
    job = json.loads(line)
    progress = _Progress()
    try:
        report = verify(job["path"], inodes=job["inodes"], on_bytes=progress.heard)
    except LastgoodError as error:
        _tell({"trouble": str(error)})
        return
    _tell({"report": report_as_json(report)})


class _Progress:
    def __init__(self) -> None:
        self.read, self.told_at = 0, time.monotonic()

    def heard(self, count: int) -> None:
        self.read += count
        if time.monotonic() - self.told_at >= _TELL_EVERY:
            self.told_at = time.monotonic()
            _tell({"read": self.read})


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
