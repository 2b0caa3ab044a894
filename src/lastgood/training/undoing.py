"""What a checkpoint was to be loaded into, as it was before, where loading could not be ended."""

from __future__ import annotations

import copy
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from lastgood.training import rng
from lastgood.training.data import ResumableLoader, ShuffledOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lastgood.training.targets import Targets


@contextmanager
def as_before_on_error(targets: Targets) -> Iterator[None]:
    """Optimizer, scheduler, scaler, our own loaders and random generators; the model sees to itself, and comes last."""
    ways_back = [way for way in _ways_back(targets) if way is not None]
    try:
        yield
    except BaseException:
        for way in ways_back:
            with suppress(Exception):  # why it could not be loaded is to be told
                way()
        raise


def _ways_back(targets: Targets) -> Iterator[Callable[[], object] | None]:
    if isinstance(targets.optimizer, torch.optim.Optimizer):
        # Loading makes new ones: the old ones stay what they are, and nothing large is copied.
        before = {"state": targets.optimizer.state, "param_groups": targets.optimizer.param_groups}
        yield partial(targets.optimizer.__setstate__, before)
    yield _by_state(targets.scheduler)
    yield _by_state(targets.scaler)
    if isinstance(targets.dataloader, ResumableLoader | ShuffledOrder):
        yield _by_state(targets.dataloader)
    yield partial(rng.restore_rng_states, rng.save_rng_states())


def _by_state(target: Any) -> Callable[[], object] | None:
    with suppress(Exception):  # what cannot be copied cannot be given back
        return partial(target.load_state_dict, copy.deepcopy(target.state_dict()))
    return None
