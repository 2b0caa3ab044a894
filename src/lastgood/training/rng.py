"""The random generators that a training step draws from: Python's, NumPy's, torch's, those of every CUDA device."""

from __future__ import annotations

import hashlib
import logging
import operator
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from lastgood.layouts.states import GENERATORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_log = logging.getLogger("lastgood")
_KINDS: Final = {"python": "Python", "numpy": "NumPy", "torch": "torch", "cuda": "CUDA"}
_NUMPY_SEEDS: Final = 2**32
_USUAL_OF_NUMPY: Final = "MT19937"  # any other is set by np.random.set_bit_generator


def set_seed(seed: int = 42) -> None:
    """Seeds every generator. TypeError where the seed is no whole number."""
    seed = operator.index(seed)
    random.seed(seed)
    np.random.seed(seed % _NUMPY_SEEDS)  # noqa: NPY002 - the generator that old code draws from
    torch.manual_seed(seed)  # those of all CUDA devices as well


def begin_anew(*by: int) -> None:
    """The generators of this process, by these numbers alone. Not those of CUDA: it is for workers that load data."""
    number = int.from_bytes(hashlib.blake2b(repr(by).encode(), digest_size=8).digest())
    random.seed(number)
    np.random.seed(number % _NUMPY_SEEDS)  # noqa: NPY002 - the generator that old code draws from
    torch.default_generator.manual_seed(number)


def save_rng_states() -> dict[str, Any]:
    """The states as they are now, of plain values and tensors alone. Nothing is drawn."""
    states: dict[str, Any] = {
        "python_rng_state": random.getstate(),
        "numpy_rng_state": _state_of_numpy(),
        "torch_rng_state": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda_rng_state"] = torch.cuda.get_rng_state()
        states["cuda_rng_state_all"] = torch.cuda.get_rng_state_all()
    return states


def _state_of_numpy() -> Any:
    """As plain numbers, which every loader takes; an array would need an allow-list.

    A dict where the job has set another generator than NumPy's usual one: a tuple holds the state of that one alone.
    """
    state = np.random.get_state(legacy=False)  # noqa: NPY002
    if state["bit_generator"] != _USUAL_OF_NUMPY:
        return _as_numbers(state)
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return kind, _as_numbers(keys), *rest


def _as_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_numbers(part) for key, part in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def restore_rng_states(rng_states: Mapping[str, Any] | None) -> None:
    """Sets the generators to these states. Says which are not there, and leaves those as they are."""
    states = rng_states if isinstance(rng_states, Mapping) else {}
    found = {kind: state for kind in _KINDS if (state := _state_of(kind, states)) is not None}
    wanted = _KINDS.keys() - (set() if torch.cuda.is_available() else {"cuda"})
    if lacking := [name for kind, name in _KINDS.items() if kind in wanted - found.keys()]:
        _log.warning("no random state of %s was saved: what they draw differs from now on", ", ".join(lacking))
    for kind in found.keys() & _SETTERS.keys():
        _SETTERS[kind](found[kind])
    _warn_of_other_devices(states)
    for device, state in _of_devices(states):
        torch.cuda.set_rng_state(state.cpu(), device)


def require_restorable(rng_states: Any) -> None:
    """ValueError where one of them is no state of its generator. The generators are as they were."""
    before = save_rng_states()
    states = rng_states if isinstance(rng_states, Mapping) else {}
    try:
        for kind, setter in _SETTERS.items():
            if (state := _state_of(kind, states)) is not None:
                setter(state)
        kind = "cuda"
        for device, state in _of_devices(states):
            torch.cuda.set_rng_state(state.cpu(), device)
    except (TypeError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"the saved random state of {_KINDS[kind]} does not fit: {why}") from error
    finally:
        restore_rng_states(before)


def is_restorable(name: str, state: Any) -> bool:
    """Whether it is a state of the generator that goes by this name, as far as it can be tried here."""
    try:
        require_restorable({name: state})
    except ValueError:
        return False
    return True


def _set_numpy(state: Any) -> None:
    np.random.set_state(state if isinstance(state, dict) else tuple(state))  # noqa: NPY002


def without(known: Mapping[str, Any], states: Mapping[str, Any]) -> dict[str, Any]:
    """Of these states those whose kind has none among the known ones, under whatever name."""
    there = {kind for kind in _KINDS if _state_of(kind, known) is not None}
    taken = {key for kind in there for key in GENERATORS[kind]}
    return {key: state for key, state in states.items() if key not in taken}


def _state_of(kind: str, states: Mapping[str, Any]) -> Any:
    """Under the name that one of the known writers gives it."""
    return next((states[key] for key in GENERATORS[kind] if states.get(key) is not None), None)


def _of_devices(states: Mapping[str, Any]) -> Iterator[tuple[int | str, Any]]:
    """Each CUDA device that is here, with its state: one of each was saved, or that of the usual one."""
    if not torch.cuda.is_available():
        return
    if every := _of_every_device(states):
        yield from enumerate(every[: torch.cuda.device_count()])
    elif (found := _state_of("cuda", states)) is not None and not isinstance(found, list | tuple):
        yield "cuda", found


def _of_every_device(states: Mapping[str, Any]) -> Sequence[Any]:
    """Saved where there is none, it is an empty list."""
    for found in (states.get("cuda_rng_state_all"), _state_of("cuda", states)):
        if isinstance(found, list | tuple) and found:
            return found
    return ()


def _warn_of_other_devices(states: Mapping[str, Any]) -> None:
    saved, here = len(_of_every_device(states)), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if saved and here and saved != here:
        _log.warning("the random states of %d CUDA devices were saved, here are %d", saved, here)


_SETTERS: Final[Mapping[str, Callable[[Any], None]]] = {
    "python": lambda state: random.setstate(_as_tuples(state)),
    "numpy": _set_numpy,
    "torch": lambda state: torch.set_rng_state(state.cpu()),
}


def _as_tuples(value: Any) -> Any:
    """Python takes its state in tuples alone, and some writers make lists of them."""
    return tuple(_as_tuples(part) for part in value) if isinstance(value, list | tuple) else value
