"""The same samples in the same order, whoever interrupts."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lastgood.training import DataManager, ResumableLoader, ShuffledOrder
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


def test_an_iteration_draws_nothing_from_torchs_own_generator() -> None:
    before = torch.get_rng_state()
    list(ResumableLoader(Numbers(10), 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_order_of_other_data_is_refused() -> None:
    with pytest.raises(ValueError, match="saved for 10 samples, here are 11"):
        ResumableLoader(Numbers(11), 2).load_state_dict(ResumableLoader(Numbers(10), 2).state_dict())


def test_the_split_is_logged_with_its_seed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lastgood"):
        data = DataManager(Numbers(20))
    assert "seed=42: 18 samples to train on, 2 to validate" in caplog.text
    assert [batch.tolist() for batch in data.validation_loader(2)] == [list(data.validation)]
