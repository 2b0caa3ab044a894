"""Data in the same order in every run: a seeded split, and a shuffled order that goes on where it stood."""

from __future__ import annotations

import logging
import multiprocessing
import operator
import os
import random
import signal
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler, Subset, get_worker_info

from lastgood.layouts import loaders
from lastgood.training import ranks, rng
from lastgood.training.preemption import USUAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence, Sized

_log = logging.getLogger("lastgood")
SEED: Final = 42


def split(count: int, validation_share: float, seed: int = SEED) -> tuple[list[int], list[int]]:
    """The places of the training samples and those of the validation samples, each once in either.

    ValueError where the share is none.
    """
    if not 0 <= validation_share <= 1:
        raise ValueError(f"the share of samples to validate on is from 0 to 1, not {validation_share}")
    places = list(range(count))
    random.Random(seed).shuffle(places)  # noqa: S311 - an order, no secret
    held_out = round(count * validation_share)
    return places[held_out:], places[:held_out]


class DataManager:
    """A data set in two parts, the same ones for the same seed."""

    def __init__(self, samples: Sized, *, seed: int = SEED, validation_share: float = 0.1) -> None:
        self.seed = operator.index(seed)
        train, validation = split(len(samples), validation_share, self.seed)
        self.train, self.validation = Subset(samples, train), Subset(samples, validation)
        _log.info("split with seed=%d: %d samples to train on, %d to validate", self.seed, len(train), len(validation))

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
        chance = _own_generator(self.seed + self.epoch)
        # Named, for it may be that whatever is made lies on a GPU.
        places: list[int] = torch.randperm(self.length, generator=chance, device="cpu").tolist()
        return places[self.position :]

    def advance(self, count: int) -> None:
        """So many more samples of this epoch are done with."""
        self.position = min(self.position + count, self.length)

    def begin_next_epoch(self) -> None:
        self.epoch, self.position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        return {"seed": self.seed, "length": self.length, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """ValueError where the state is that of other data, or of another loader: the order would be another one."""
        wrong = next(loaders.unfit_in_place(state if isinstance(state, Mapping) else {}), None)
        if wrong is not None:
            raise ValueError(f"it is not the state of a ResumableLoader: its {wrong} is missing, or cannot be")
        if state["length"] != self.length:
            raise ValueError(f"the order was saved for {state['length']} samples, here are {self.length}")
        self.seed, self.epoch, self.position = state["seed"], state["epoch"], state["position"]


class _Places(Sampler):  # type: ignore[misc]
    """Those of the order, each with what a worker draws by, the same in every run: seed, epoch and itself."""

    def __init__(self, order: ShuffledOrder) -> None:
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        seed, epoch = self._order.seed, self._order.epoch
        return ((seed, epoch, place) for place in self._order)


class _DrawnAlike:
    """The samples, by what `_Places` gives; in a worker, getting a batch draws the same whatever was drawn before it.

    In the job's own process they draw from its generators, whose states are saved.
    """

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __getitems__(self, places: Sequence[tuple[int, int, int]]) -> Any:
        if get_worker_info() is not None:
            rng.begin_anew(*places[0])  # once a batch: to seed takes longer than to get a small sample
        wanted = [place for *_, place in places]
        at_once = getattr(self.samples, "__getitems__", None)
        return at_once(wanted) if at_once else [self.samples[place] for place in wanted]


def _begin_worker(worker: int, then: Callable[[int], Any] | None) -> None:
    """`then`, which may open files in the samples or share them out by their number, finds them as they are."""
    info = get_worker_info()
    # torch tells of what the loader was given, which is our own; it lets nobody assign, but has no other way.
    object.__setattr__(info, "dataset", info.dataset.samples)
    outlive_signals(worker, then)


class ResumableLoader:
    """Shuffled batches, in whatever number of loader workers. A new iteration goes on after the last batch given out.

    An iteration that was broken off is continued by the next one. TypeError where the samples cannot be taken by their
    places, ValueError where batches would come in whatever order workers finish them.
    """

    def __init__(self, samples: Sized, batch_size: int, *, seed: int = SEED, **options: Any) -> None:
        _require_places(samples)
        if not options.get("in_order", True):
            raise ValueError("in_order=False: nothing would tell which batches were given out, and which are to come")
        seed, self.batch_size = operator.index(seed), operator.index(batch_size)
        self.order = ShuffledOrder(len(samples), seed=seed)
        # A loader draws one number as each iteration begins: from torch's own generator, a resumed run would draw
        # one more than an uninterrupted run.
        self._generator = options["generator"] = _own_generator(seed)
        options["worker_init_fn"] = partial(_begin_worker, then=options.get("worker_init_fn"))
        self._loader = DataLoader(_DrawnAlike(samples), batch_size, sampler=_Places(self.order), **options)

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        if ranks.count() > 1:
            _log.warning(
                "each of %d processes is given the same batches: take torchdata's StatefulDataLoader with a "
                "DistributedSampler",
                ranks.count(),
            )
        self._generator.manual_seed(self.order.seed + self.order.epoch)  # what `worker_init_fn` draws is alike
        with _workers_born_deaf_to_signals(self._loader):
            batches = iter(self._loader)
        for batch in batches:
            # Counted before it is given out: a save in mid-batch is one after that batch's step.
            self.order.advance(self.batch_size)
            yield batch
        self.order.begin_next_epoch()

    def state_dict(self) -> dict[str, int]:
        """That of the order, what others need to tell how many batches that is, and who gets the samples."""
        sizes = {"batch_size": self.batch_size, "batches": len(self)}
        return {**self.order.state_dict(), **sizes, "workers": self._loader.num_workers}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """ValueError where the state is that of other data, or of another loader."""
        self.order.load_state_dict(state)


def _require_places(samples: Any) -> None:
    """Some samples that come as a stream know how many they are, and would fail with the first batch."""
    if isinstance(samples, IterableDataset):
        raise TypeError(
            f"a {type(samples).__name__} has no samples by their places: take torchdata's StatefulDataLoader for it"
        )


def draws_with_the_model(loader: Any) -> bool:
    """Whether torchdata's loader draws, as an iteration begins, from the generator that the model draws from, or from
    that of its own sampler: resumed, it draws once more than in a run that was never interrupted.
    """
    if is_of(loader, "accelerate"):
        return True  # it has every process draw alike, as each iteration begins
    if not is_of(loader, "torchdata"):
        return False
    sampler = getattr(loader, "sampler", None)
    return loader.generator is None or getattr(sampler, "generator", 0) in (None, loader.generator)


def shuffles_without_a_state(loader: Any) -> bool:
    """Whether torchdata's loader has a sampler that draws each order, and keeps none: torch's own, say.

    Resumed, it draws those of a new job: in a later epoch than the first, what comes next is other data.
    """
    if not is_of(loader, "torchdata"):
        return False
    sampler = getattr(loader.batch_sampler, "sampler", loader.sampler)
    draws = isinstance(getattr(sampler, "generator", None), torch.Generator)
    return draws and not is_of(sampler, "torchdata") and not hasattr(sampler, "state_dict")


def is_of(part: Any, package: str) -> bool:
    """Whether it, or what it is made from, is of this package."""
    return any(f"{kind.__module__}.".startswith(f"{package}.") for kind in type(part).__mro__)


def outlive_signals(worker: int, then: Callable[[int], Any] | None = None) -> None:
    """In a loader's worker: what a scheduler sends to all processes of a job is for the job alone to answer.

    Otherwise its workers die before it has saved. The loader itself still ends them: by SIGTERM, as it always does. For
    another loader: `worker_init_fn=outlive_signals`. `then`: what it would have called otherwise.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, USUAL)
    loader = multiprocessing.parent_process()  # not the parent in any case: that may be a server that forks
    asker = loader.pid if loader is not None else os.getppid()
    threading.Thread(target=_end_when_the_loader_asks, args=(asker,), daemon=True).start()
    if then is not None:
        then(worker)


@contextmanager
def _workers_born_deaf_to_signals(loader: DataLoader) -> Iterator[None]:
    """A signal may come before they get to `outlive_signals`, and reach threads that they have by then."""
    how = loader.multiprocessing_context or multiprocessing
    if loader.num_workers and how.get_start_method() != "fork":
        resource_tracker.ensure_running()  # where it starts later, it opens SIGTERM again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, USUAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_when_the_loader_asks(loader: int) -> None:
    while True:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == loader:
            os._exit(0)


def _own_generator(seed: int) -> Any:
    return torch.Generator("cpu").manual_seed(seed)
