"""The signals by which a machine is taken away: they are noted, and the job saves when its step is done."""

from __future__ import annotations

import logging
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger("lastgood")
# SLURM and Kubernetes send the first; SLURM's --signal and submitit the second, where there is one.
USUAL: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Preemption:
    """Which signal came. A second one of a kind does what it would have done without us: it may be in earnest."""

    def __init__(self, signals: Sequence[int] = USUAL) -> None:
        """RuntimeError outside of the main thread: Python lets no other one take signals."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("signals can be taken in the main thread alone: call save_on_signals there")
        self.received: signal.Signals | None = None
        self._before = {number: signal.signal(number, self._on_signal) for number in signals}

    def _on_signal(self, number: int, _frame: Any) -> None:
        self.received = signal.Signals(number)
        # In the middle of a step, weights and moments are not of one step: the job saves at its end.
        _log.warning("%s came: the job saves after this step", self.received.name)
        signal.signal(number, self._before[number] or signal.SIG_DFL)

    def restore(self) -> None:
        """As it was before."""
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)
