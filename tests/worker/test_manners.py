"""How the judge stays out of the training job's way: rates, rests under others' pressure, and a bound on memory."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood_worker.manners import (
    Manners,
    Pressure,
    pause_for_rate,
    pressure_in,
    read_pressures,
    rest_after,
    seems_busy,
    share_of_others,
)

if TYPE_CHECKING:
    from lastgood_worker.manners import Pressures

SOME = "some avg10=12.50 avg60=0.33 avg300=0.54 total=271324956\nfull avg10=9.99 avg60=0.32 avg300=0.21 total=1\n"


class World:
    """A reader that works `work` seconds for every block, and others who wait for a share of the time."""

    def __init__(
        self, *, max_rate: int = 0, work: float = 0.25, others: float = 0.0, ours: float = 0.0, resource: str = "io"
    ) -> None:
        self.now = self.slept = self.waited = 0.0
        self.alive: list[float] = []
        self.work, self.others, self.ours, self.resource = work, others, ours, resource
        self.manners = Manners(
            max_rate,
            monotonic=lambda: self.now,
            sleep=self._sleep,
            pressures=self._pressures,
            alive=lambda: self.alive.append(self.now),
        )

    def _sleep(self, seconds: float) -> None:
        self._pass(seconds, self.others)
        self.slept += seconds

    def _pass(self, seconds: float, share: float) -> None:
        self.now += seconds
        self.waited += share * seconds

    def _pressures(self) -> Pressures:
        return {self.resource: Pressure(max(self.others, self.ours), self.waited)}

    def read(self, blocks: int, size: int = 1 << 20) -> None:
        for _ in range(blocks):
            self._pass(self.work, max(self.others, self.ours))
            self.manners.heard(size)


@pytest.mark.parametrize(
    ("text", "pressure"),
    [
        pytest.param(SOME, Pressure(0.125, 271.324956), id="as the kernel writes it"),
        pytest.param("", None, id="nothing"),
        pytest.param("full avg10=1.00 avg60=0.00 avg300=0.00 total=5\n", None, id="the other line alone"),
    ],
)
def test_what_the_kernel_says_of_pressure(text: str, pressure: Pressure | None) -> None:
    assert pressure_in(text) == pressure


def test_the_pressure_of_this_machine_can_be_read_or_is_nothing() -> None:
    assert set(read_pressures()) <= {"io", "cpu"}


@pytest.mark.parametrize(
    ("resource", "lately", "busy"),
    [
        pytest.param("io", 0.19, False, id="a disk that is hardly waited for"),
        pytest.param("io", 0.3, True, id="a disk that is waited for"),
        pytest.param("cpu", 0.3, False, id="processors that most jobs keep that busy"),
        pytest.param("cpu", 0.6, True, id="processors that are waited for"),
    ],
)
def test_when_it_is_worth_measuring(resource: str, lately: float, busy: bool) -> None:
    assert seems_busy({resource: Pressure(lately, 0.0)}) is busy


@given(st.integers(0, 1 << 50), st.floats(0, 1e6), st.integers(1, 1 << 40))
def test_a_rate_is_kept(read: int, seconds: float, max_rate: int) -> None:
    pause = pause_for_rate(read, seconds, max_rate)
    assert pause >= 0
    assert read <= (seconds + pause) * max_rate * (1 + 1e-9) + 1e-6


@given(st.integers(0, 1 << 50), st.floats(0, 1e6))
def test_no_limit_is_no_pause(read: int, seconds: float) -> None:
    assert pause_for_rate(read, seconds, 0) == 0


@given(st.floats(0, 1e6), st.floats(0, 1))
def test_rests_are_bounded_so_that_every_verification_ends(worked: float, share: float) -> None:
    rest = rest_after(worked, share)
    assert 0 <= rest <= min(worked * 9 * (1 + 1e-9), 9.0)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 100))
def test_shares_are_shares(before: float, more: float, seconds: float) -> None:
    share = share_of_others({"io": Pressure(1, before)}, {"io": Pressure(1, before + more)}, seconds)
    assert 0 <= share <= 1


@pytest.mark.parametrize(
    ("world", "slept"),
    [
        pytest.param(World(), (0, 0), id="an idle machine"),
        pytest.param(World(ours=1.0), (0.09 * 10, 0.11 * 10), id="the pressure is our own: only measuring takes time"),
        pytest.param(World(others=0.1), (0, 0), id="others wait a little"),
        pytest.param(World(others=0.5), (9, 11), id="others wait half of the time: we take the other half"),
        pytest.param(World(others=1.0), (85, 91), id="others wait all the time: a tenth is left to us"),
        pytest.param(World(others=0.4, resource="cpu"), (0, 0), id="priority alone serves for processors"),
    ],
)
def test_the_share_of_time_that_others_leave_is_taken(world: World, slept: tuple[float, float]) -> None:
    world.read(40)  # ten seconds of work
    assert slept[0] <= world.slept <= slept[1]


def test_a_limit_on_the_rate_holds_the_reader_up() -> None:
    world = World(max_rate=1 << 20, work=0.0)
    world.read(10)
    assert world.now == pytest.approx(10)


def test_whoever_listens_hears_that_a_long_pause_is_no_hang() -> None:
    world = World(max_rate=1000, work=0.0)
    world.read(1, size=100_000)
    assert world.now == pytest.approx(100)
    assert max(after - before for before, after in zip(world.alive, world.alive[1:], strict=False)) <= 1


def in_a_process(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_the_low_priority_is_for_later_threads_as_well() -> None:
    child = in_a_process(
        "import os, threading\n"
        "from lastgood_worker.manners import take_a_low_priority\n"
        "take_a_low_priority()\n"
        "show = lambda: print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))\n"
        "show(); thread = threading.Thread(target=show); thread.start(); thread.join()"
    )
    assert child.stdout.split() == ["5", "5"]


@pytest.mark.parametrize(
    ("act", "ends_well"),
    [
        pytest.param("bytearray(50 << 20)", True, id="what it needs"),
        pytest.param("bytearray(500 << 20)", False, id="a bomb"),
    ],
)
def test_a_bomb_ends_its_own_process(act: str, ends_well: bool) -> None:
    child = in_a_process(f"from lastgood_worker.manners import bound_memory\nbound_memory(100 << 20)\n{act}")
    assert (child.returncode == 0) is ends_well
    assert ("MemoryError" in child.stderr) is not ends_well
