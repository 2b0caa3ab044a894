"""The same samples in the same order, whoever interrupts."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from typing import Any, Final

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lastgood.training import DataManager, ResumableLoader, ShuffledOrder, ranks, set_seed
from lastgood.training.data import split


class Numbers:
    """The samples 0, 1, 2, and so on."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: int) -> int:
        if place >= self.length:
            raise IndexError(place)
        return place


def batches(loader: ResumableLoader, count: int) -> list[list[int]]:
    """The next so many batches, over as many epochs as it takes."""
    found: list[Any] = []
    while len(found) < count:
        for batch in loader:
            found.append(batch.tolist())
            if len(found) == count:
                break
    return found


@given(count=st.integers(0, 200), share=st.floats(0, 1), seed=st.integers(0, 2**40))
def test_a_split_holds_every_sample_once_and_is_the_same_each_time(count: int, share: float, seed: int) -> None:
    train, validation = split(count, share, seed)
    assert sorted(train + validation) == list(range(count))
    assert (train, validation) == split(count, share, seed)


@pytest.mark.parametrize("share", [-0.1, 1.1, 10, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        DataManager(Numbers(20), validation_share=share)


@given(
    length=st.integers(1, 30),
    size=st.integers(1, 8),
    stop=st.integers(1, 12),
    drop_last=st.booleans(),
    seed=st.integers(0, 2**40),
)
def test_an_interrupted_order_goes_on_as_if_it_had_not_been(
    length: int, size: int, stop: int, drop_last: bool, seed: int
) -> None:
    size = min(size, length)
    whole = batches(ResumableLoader(Numbers(length), size, seed=seed, drop_last=drop_last), stop + 6)
    first = ResumableLoader(Numbers(length), size, seed=seed, drop_last=drop_last)
    assert batches(first, stop) == whole[:stop]
    resumed = ResumableLoader(Numbers(length), size, seed=0, drop_last=drop_last)
    resumed.load_state_dict(first.state_dict())
    assert batches(resumed, 6) == whole[stop:]


@given(length=st.integers(0, 50), seed=st.integers(0, 2**40), epoch=st.integers(0, 100))
def test_each_epoch_gives_out_every_sample_once(length: int, seed: int, epoch: int) -> None:
    order = ShuffledOrder(length, seed=seed)
    order.epoch = epoch
    assert sorted(order) == list(range(length))


def test_two_epochs_are_in_different_orders() -> None:
    loader = ResumableLoader(Numbers(20), 20)
    assert len({str(list(loader)) for _epoch in range(3)}) == 3


def test_workers_that_fetch_ahead_do_not_move_the_position() -> None:
    loader = ResumableLoader(Numbers(40), 2, num_workers=2)
    batches(loader, 3)
    assert loader.state_dict()["position"] == 6


_JOB: Final = """
import signal, sys, time
from lastgood.training import ResumableLoader
came = []
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, _frame: came.append(number))
loader = ResumableLoader(range(40), 2, num_workers=2, multiprocessing_context=sys.argv[1])
given_out = iter(loader)
seen = next(given_out).tolist()
print("ready", flush=True)
while len(came) < 2:
    time.sleep(0.01)
for batch in given_out:
    seen += batch.tolist()
assert sorted(seen) == list(range(40)), seen
assert sorted(came) == [signal.SIGUSR1, signal.SIGTERM], came
print("done", flush=True)
"""


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_signal_to_all_processes_of_a_job_ends_no_loader_worker(start: str) -> None:
    job = subprocess.Popen(
        [sys.executable, "-c", _JOB, start],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert job.stdout is not None
    ready = job.stdout.readline()
    os.killpg(job.pid, signal.SIGTERM)
    os.killpg(job.pid, signal.SIGUSR1)
    printed, complaint = job.communicate(timeout=120)
    assert (job.returncode, ready + printed) == (0, "ready\ndone\n"), complaint


def test_the_loader_itself_can_end_its_workers() -> None:
    given_out = iter(ResumableLoader(Numbers(40), 2, num_workers=2))
    next(given_out)
    workers = multiprocessing.active_children()
    for worker in workers:
        worker.terminate()
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0]


class Noise(Numbers):
    """Random augmentation by all three generators, as workers do it."""

    def __getitem__(self, place: int) -> Any:
        drawn = random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002 - what old code draws from
        return torch.tensor([super().__getitem__(place), *drawn], dtype=torch.float64)


class NoiseByBatches(Noise):
    """The same, for a whole batch at once."""

    def __getitems__(self, places: list[int]) -> list[Any]:
        return [self[place] for place in places]


@pytest.mark.parametrize("kind", [Noise, NoiseByBatches])
@pytest.mark.parametrize(
    ("workers", "options"),
    [
        pytest.param(2, {}, id="as many workers"),
        pytest.param(1, {}, id="fewer workers"),
        pytest.param(2, {"persistent_workers": True}, id="workers that stay"),
        pytest.param(1, {"multiprocessing_context": "spawn"}, id="workers that are not forked"),
    ],
)
def test_what_workers_draw_is_the_same_wherever_another_process_goes_on(
    kind: type[Numbers], workers: int, options: dict[str, Any]
) -> None:
    loader = ResumableLoader(kind(8), 2, num_workers=2)
    first, second = (torch.stack(list(loader)) for _epoch in (1, 2))
    other = ResumableLoader(kind(8), 2, num_workers=workers, **options)
    other.load_state_dict({**loader.state_dict(), "epoch": 0, "position": 2})
    assert torch.equal(torch.stack(list(other)), first[1:])
    assert torch.equal(torch.stack(list(other)), second)
    assert not set(first[..., 1:].flatten().tolist()) & set(second[..., 1:].flatten().tolist())


def test_in_the_jobs_own_process_samples_draw_from_the_generators_that_are_saved() -> None:
    set_seed(3)
    expected = (random.random(), float(np.random.rand()), float(torch.rand(())))  # noqa: NPY002
    set_seed(3)
    assert next(iter(ResumableLoader(Noise(8), 1)))[0, 1:].tolist() == list(expected)


class Opened(Numbers):
    """Samples out of a file that each worker opens for itself."""

    offset = 0

    def __getitem__(self, place: int) -> int:
        return super().__getitem__(place) + self.offset


def _open(_worker: int) -> None:
    samples = torch.utils.data.get_worker_info().dataset
    assert isinstance(samples, Opened)
    assert (len(samples), samples[3]) == (4, 3)
    samples.offset = 100


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_what_a_worker_is_to_call_at_its_start_finds_the_samples(start: str) -> None:
    loader = ResumableLoader(Opened(4), 2, num_workers=1, worker_init_fn=_open, multiprocessing_context=start)
    assert sorted(torch.cat(list(loader)).tolist()) == [100, 101, 102, 103]


def test_what_a_worker_is_to_call_at_its_start_is_called() -> None:
    loader = ResumableLoader(Numbers(4), 2, num_workers=1, worker_init_fn=_fail)
    with pytest.raises(RuntimeError, match="it was called with 0"):
        list(loader)


def _fail(worker: int) -> None:
    raise RuntimeError(f"it was called with {worker}")


def test_an_iteration_draws_nothing_from_torchs_own_generator() -> None:
    before = torch.get_rng_state()
    list(ResumableLoader(Numbers(10), 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_that_all_processes_of_a_job_are_given_the_same_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    list(ResumableLoader(Numbers(4), 2))
    assert "the same batches" not in caplog.text
    monkeypatch.setattr(ranks, "count", lambda: 2)
    list(ResumableLoader(Numbers(4), 2))
    assert "each of 2 processes is given the same batches" in caplog.text


def test_the_order_of_other_data_is_refused() -> None:
    with pytest.raises(ValueError, match="saved for 10 samples, here are 11"):
        ResumableLoader(Numbers(11), 2).load_state_dict(ResumableLoader(Numbers(10), 2).state_dict())


class Stream(torch.utils.data.IterableDataset):  # type: ignore[misc]
    """Samples without places."""

    def __iter__(self) -> Any:
        return iter(range(4))

    def __len__(self) -> int:
        return 4


def test_a_stream_of_samples_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="a Stream has no samples by their places: take torchdata's"):
        ResumableLoader(Stream(), 2)


def test_batches_in_whatever_order_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing would tell which batches were given out"):
        ResumableLoader(Numbers(4), 2, num_workers=2, in_order=False)


def test_samples_that_say_they_come_one_by_one_do() -> None:
    samples = Numbers(4)
    samples.__getitems__ = None  # type: ignore[attr-defined]
    assert sorted(torch.cat(list(ResumableLoader(samples, 2))).tolist()) == [0, 1, 2, 3]


def test_the_split_is_logged_with_its_seed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lastgood"):
        data = DataManager(Numbers(20))
    assert "seed=42: 18 samples to train on, 2 to validate" in caplog.text
    assert [batch.tolist() for batch in data.validation_loader(2)] == [list(data.validation)]
