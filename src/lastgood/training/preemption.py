"""The signals by which a machine is taken away: they are noted, and the job saves when its step is done."""

from __future__ import annotations

import logging
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

from lastgood.training import ranks

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger("lastgood")
# SLURM and Kubernetes send the first; SLURM's --signal and submitit the second, where there is one.
USUAL: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Preemption:
    """Which signal came. Until the job has saved, more of them change nothing: schedulers send them several times.

    After that one does what it would have done without us.
    """

    def __init__(self, signals: Sequence[int] = USUAL) -> None:
        """RuntimeError outside of the main thread: Python lets no other one take signals."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("signals can be taken in the main thread alone: call save_on_signals there")
        self.received: int | None = None
        self.saved = False  #: everything, since it came
        self._before: dict[int, Any] = {}
        try:
            for number in signals:
                self._before[number] = signal.signal(number, self._on_signal)
        except (OSError, ValueError):  # one that nobody can take
            self.restore()
            raise

    def asks(self) -> bool:
        """A signal came in one of the job's processes, and nothing was saved since; all of them must call it."""
        return ranks.any_of(self.received is not None) and not self.saved

    def _on_signal(self, number: int, _frame: Any) -> None:
        if self.saved:
            signal.signal(number, self._before[number] or signal.SIG_DFL)
            signal.raise_signal(number)
            return
        # In the middle of a step, weights and moments are not of one step: the job saves at its end.
        if self.received is None:
            _log.warning("%s came: the job saves after this step", _name_of(number))
        self.received = number

    def restore(self) -> None:
        """As it was before; once: whoever took one since then has it."""
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, handler or signal.SIG_DFL)


def _name_of(number: int) -> str:
    """Of the real-time signals Python names the first and the last alone."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
