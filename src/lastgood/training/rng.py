"""The random generators that a training step draws from: Python's, NumPy's, torch's, those of every CUDA device."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_log = logging.getLogger("lastgood")
_NUMPY_SEEDS: Final = 2**32


def set_seed(seed: int = 42) -> None:
    """Seeds every generator."""
    random.seed(seed)
    np.random.seed(seed % _NUMPY_SEEDS)  # noqa: NPY002 - the generator that old code draws from
    torch.manual_seed(seed)  # those of all CUDA devices as well


def save_rng_states() -> dict[str, Any]:
    """The states as they are now, of plain values and tensors alone. Nothing is drawn."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    states: dict[str, Any] = {
        "python_rng_state": random.getstate(),
        # As plain numbers every loader takes it; an array would need an allow-list.
        "numpy_rng_state": (kind, [int(key) for key in keys], *rest),
        "torch_rng_state": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda_rng_state"] = torch.cuda.get_rng_state()
        states["cuda_rng_state_all"] = torch.cuda.get_rng_state_all()
    return states


def restore_rng_states(rng_states: Mapping[str, Any] | None) -> None:
    """Sets the generators to these states. Says which are not there, and leaves those as they are."""
    states = {key: state for key, state in (rng_states or {}).items() if state is not None}
    if lacking := _lacking(states):
        _log.warning("no random state of %s was saved: what they draw differs from now on", ", ".join(lacking))
    if "python_rng_state" in states:
        random.setstate(_as_tuples(states["python_rng_state"]))
    if "numpy_rng_state" in states:
        np.random.set_state(tuple(states["numpy_rng_state"]))  # noqa: NPY002
    if "torch_rng_state" in states:
        torch.set_rng_state(states["torch_rng_state"].cpu())
    if torch.cuda.is_available():
        _restore_cuda(states)


def _lacking(states: Mapping[str, Any]) -> list[str]:
    wanted = {"Python": "python_rng_state", "NumPy": "numpy_rng_state", "torch": "torch_rng_state"}
    lacking = [kind for kind, key in wanted.items() if key not in states]
    if torch.cuda.is_available() and not states.keys() & {"cuda_rng_state", "cuda_rng_state_all"}:
        lacking.append("CUDA")
    return lacking


def _restore_cuda(states: Mapping[str, Any]) -> None:
    every: Sequence[Any] = states.get("cuda_rng_state_all") or ()
    count = torch.cuda.device_count()
    if every and len(every) != count:
        _log.warning("the random states of %d CUDA devices were saved, here are %d", len(every), count)
    for device, state in enumerate(every[:count]):
        torch.cuda.set_rng_state(state.cpu(), device)
    if not every and "cuda_rng_state" in states:
        torch.cuda.set_rng_state(states["cuda_rng_state"].cpu())


def _as_tuples(value: Any) -> Any:
    """Python takes its state in tuples alone, and some writers make lists of them."""
    return tuple(_as_tuples(part) for part in value) if isinstance(value, list | tuple) else value
