"""Data in the same order in every run: a seeded split, and a shuffled order that goes on where it stood."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.utils.data import DataLoader, Sampler, Subset

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sized

_log = logging.getLogger("lastgood")
SEED: Final = 42


def split(count: int, validation_share: float, seed: int = SEED) -> tuple[list[int], list[int]]:
    """The places of the training samples and those of the validation samples, each once in either."""
    places = list(range(count))
    random.Random(seed).shuffle(places)  # noqa: S311 - an order, no secret
    held_out = round(count * validation_share)
    return places[held_out:], places[:held_out]


class DataManager:
    """A data set in two parts, the same ones for the same seed."""

    def __init__(self, samples: Sized, *, seed: int = SEED, validation_share: float = 0.1) -> None:
        self.seed = seed
        train, validation = split(len(samples), validation_share, seed)
        self.train, self.validation = Subset(samples, train), Subset(samples, validation)
        _log.info("split with seed=%d: %d samples to train on, %d to validate", seed, len(train), len(validation))

    def train_loader(self, batch_size: int, **options: Any) -> ResumableLoader:
        """Shuffled batches of the training part; give it to `save` and `restore_latest` as `dataloader`."""
        return ResumableLoader(self.train, batch_size, seed=self.seed, **options)

    def validation_loader(self, batch_size: int, **options: Any) -> Any:
        """Batches of the validation part, always in the same order."""
        return DataLoader(self.validation, batch_size, generator=_own_generator(self.seed), **options)


class ShuffledOrder(Sampler):  # type: ignore[misc]
    """Places in another order each epoch, which seed and epoch decide alone. An iteration gives out what is to come.

    It moves on by `advance` alone: loader workers fetch ahead of what is trained on.
    """

    def __init__(self, length: int, *, seed: int = SEED) -> None:
        self.length, self.seed = length, seed
        self.epoch = self.position = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return iter(self.rest())

    def rest(self) -> list[int]:
        """What is still to come in this epoch."""
        chance = torch.Generator().manual_seed(self.seed + self.epoch)
        places: list[int] = torch.randperm(self.length, generator=chance).tolist()
        return places[self.position :]

    def advance(self, count: int) -> None:
        """So many more samples of this epoch are done with."""
        self.position = min(self.position + count, self.length)

    def begin_next_epoch(self) -> None:
        self.epoch, self.position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        return {"seed": self.seed, "length": self.length, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """ValueError where the state is that of other data: the order would be another one."""
        if state["length"] != self.length:
            raise ValueError(f"the order was saved for {state['length']} samples, here are {self.length}")
        self.seed, self.epoch, self.position = state["seed"], state["epoch"], state["position"]


class ResumableLoader:
    """Shuffled batches, in whatever number of loader workers. A new iteration goes on after the last batch given out.

    An iteration that was broken off is continued by the next one.
    """

    def __init__(self, samples: Sized, batch_size: int, *, seed: int = SEED, **options: Any) -> None:
        self.order, self.batch_size = ShuffledOrder(len(samples), seed=seed), batch_size
        # A loader draws one number as each iteration begins: from torch's own generator, a resumed run would draw
        # one more than an uninterrupted run.
        generator = _own_generator(seed)
        self._loader = DataLoader(samples, batch_size, sampler=self.order, generator=generator, **options)

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            # Counted before it is given out: a save in mid-batch is one after that batch's step.
            self.order.advance(self.batch_size)
            yield batch
        self.order.begin_next_epoch()

    def state_dict(self) -> dict[str, int]:
        """That of the order, and what others need to tell how many batches that is."""
        return {**self.order.state_dict(), "batch_size": self.batch_size, "batches": len(self)}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.order.load_state_dict(state)


def _own_generator(seed: int) -> Any:
    return torch.Generator().manual_seed(seed)
