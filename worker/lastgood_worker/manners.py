"""How the judge stays out of the training job's way: low priority, bounds on rate and memory, pauses under pressure.

Pressure is what the kernel calls stall information (PSI): the share of time in which somebody waits for the disk or a
processor. Our own reading makes pressure too, so it is measured while we pause: what is left then is the others'.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import resource
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NICER: Final = 5  # a third of a usual process's share: at 19, a busy machine would keep the answer back for a minute
_IOPRIO_SET: Final[Mapping[str, int]] = {"x86_64": 251, "aarch64": 30}  # ioprio_set(2) has no wrapper in libc
_IOPRIO_WHO_PROCESS: Final = 1
_BEST_EFFORT_LOWEST: Final = (2 << 13) | 7
_MEMORY: Final = 4 << 30

_MEASURE_EVERY: Final = 1.0  # seconds of work
_MEASURE_FOR: Final = 0.1
_SLICE: Final = 0.5  # of a pause, so that whoever listens hears that we live
_LONGEST_REST: Final = 9.0
_NEVER_SLOWER_THAN: Final = 0.1
_BOUNDS: Final[Mapping[str, float]] = {"io": 0.2, "cpu": 0.5}  # share of time; processors are shared by priority anyway
_SOME: Final = re.compile(r"^some avg10=(\d+(?:\.\d+)?) .*total=(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pressure:
    """How much somebody waits for one resource."""

    lately: float  #: share of the last ten seconds in which somebody waited
    waited: float  #: seconds since the machine started in which somebody did


Pressures = dict[str, Pressure]


def pressure_in(text: str) -> Pressure | None:
    """What a file of /proc/pressure says; None where it says nothing that we know."""
    found = _SOME.search(text)
    return Pressure(float(found[1]) / 100, int(found[2]) / 1e6) if found else None


def seems_busy(now: Mapping[str, Pressure]) -> bool:
    """Whether it is worth measuring who makes the pressure."""
    return any(pressure.lately > _BOUNDS[name] for name, pressure in now.items())


def share_of_others(before: Mapping[str, Pressure], after: Mapping[str, Pressure], seconds: float) -> float:
    """The largest share of time, beyond its bound, in which others waited while we paused; 0 where none was."""
    shares = (
        (name, min((after[name].waited - before[name].waited) / seconds, 1.0))
        for name in before.keys() & after.keys()
        if seconds > 0
    )
    return max((share for name, share in shares if share > _BOUNDS[name]), default=0.0)


def rest_after(worked: float, share: float) -> float:
    """Seconds to rest, so that we take the share of time that the others leave; never less than a tenth of it."""
    ours = max(1.0 - share, _NEVER_SLOWER_THAN)
    return min(worked * (1.0 / ours - 1.0), _LONGEST_REST)


def pause_for_rate(read: int, seconds: float, max_rate: int) -> float:
    """Seconds to wait so that `read` bytes in `seconds` are no faster than `max_rate` a second; 0: no limit."""
    return max(read / max_rate - seconds, 0.0) if max_rate else 0.0


class Manners:
    """Told of every block that was read, it holds the reader up for as long as manners ask."""

    def __init__(
        self,
        max_rate: int,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        pressures: Callable[[], Pressures],
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._max_rate, self._monotonic, self._sleep = max_rate, monotonic, sleep
        self._pressures, self._alive = pressures, alive
        self._lock = threading.Lock()  # several threads read; all of them have to wait
        self._read = 0
        self._started = self._measured_at = monotonic()

    def heard(self, count: int) -> None:
        """A block of `count` bytes was read. Returns when the next one may be."""
        with self._lock:
            self._read += count
            now = self._monotonic()
            self._pause(pause_for_rate(self._read, now - self._started, self._max_rate))
            worked = now - self._measured_at
            if worked >= _MEASURE_EVERY:
                self._yield_to_others(worked)
                self._measured_at = self._monotonic()

    def _yield_to_others(self, worked: float) -> None:
        before, at = self._pressures(), self._monotonic()
        if not seems_busy(before):
            return
        self._pause(_MEASURE_FOR)
        measured = self._monotonic() - at
        share = share_of_others(before, self._pressures(), measured)
        self._pause(rest_after(worked, share) - measured)

    def _pause(self, seconds: float) -> None:
        while seconds > 0:
            self._sleep(min(seconds, _SLICE))
            seconds -= _SLICE
            self._alive()


def read_pressures() -> Pressures:
    """What the kernel says of disks and processors; nothing where it does not, as in many containers."""
    found = {}
    for name in _BOUNDS:
        try:
            with open(f"/proc/pressure/{name}", encoding="ascii") as file:
                pressure = pressure_in(file.read())
        except OSError:
            continue
        if pressure:
            found[name] = pressure
    return found


def take_a_low_priority() -> None:
    """For this thread and those that it will start. Where that is not allowed, it stays as it is."""
    with contextlib.suppress(OSError):
        os.nice(_NICER)
    if number := _IOPRIO_SET.get(platform.machine()):
        ctypes.CDLL(None).syscall(number, _IOPRIO_WHO_PROCESS, 0, _BEST_EFFORT_LOWEST)


def bound_memory(more: int = _MEMORY) -> None:
    """What a file makes us ask for beyond `more` bytes is refused: it ends this process, not the machine."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _data_bytes() + more
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _data_bytes() -> int:
    """What we have already: numpy alone asks for more the more processors there are."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        found = re.search(r"^VmData:\s+(\d+) kB", file.read(), re.MULTILINE)
    return int(found[1]) << 10 if found else 0
