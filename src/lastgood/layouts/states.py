"""What the states of torch's optimizers and schedulers, and of the random generators, tell of themselves. Pure."""

from __future__ import annotations

from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from lastgood import naming
from lastgood.facts import OptimizerFacts, Presence, TensorFact
from lastgood.formats.inert_pickle import ArrayFact, Opaque
from lastgood.layouts import base, counts, forms, schedules
from lastgood.layouts.within import each_once, parts_of, within

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lastgood.facts import FileFacts

_BYTES_OF_TORCHS: Final = (5056, 5048)  # a state of the CPU's generator, and of its first versions: no other is taken
_PARTS_OF_PYTHONS: Final = 3  # random.getstate: version, numbers, the next normal one
_NUMBERS_OF_PYTHONS: Final = 625
_NUMBERS_OF_NUMPYS: Final = 624  # np.random.get_state: the generator's name, its numbers, and where it is in them

# The names under which the generators lie: in rng_state.pth of Trainer, in `rng_states` of a training_state.pt, in
# random_states_N.pkl of Accelerate.
GENERATORS: Final[Mapping[str, tuple[str, ...]]] = {
    "python": ("python", "python_rng_state", "random_state"),
    "numpy": ("numpy", "numpy_rng_state", "numpy_random_seed"),
    "torch": ("cpu", "torch", "torch_rng_state", "torch_manual_seed"),
    "cuda": ("cuda", "cuda_rng_state", "cuda_rng_state_all", "torch_cuda_manual_seed"),
}


def optimizer_facts(value: Any, prefix: str, file: FileFacts) -> OptimizerFacts | None:
    """What is told by the optimizer's state at `prefix` (a path of keys with a closing dot, or nothing) of the file.

    Of several optimizers in one state, what all of them tell. None where it is not the state of an optimizer.
    """
    found = list(forms.optimizers_in(value, prefix))
    if not found:
        return None
    lacking = (words for _path, optimizer in found for words in forms.lacking_in(optimizer))
    moments: dict[str, TensorFact] = {}
    for path, optimizer in found:
        moments |= {path.removeprefix(prefix) + name: moment for name, moment in _moments(optimizer)}
    return OptimizerFacts(
        steps=tuple(sorted({step for path, optimizer in found for step in _steps(optimizer, path, file.values)})),
        rates=tuple(rate for path, optimizer in found for rate in _rates(optimizer, path, file.values)),
        unsound_rates=tuple(rate for _path, optimizer in found for rate in _unsound_rates(optimizer)),
        parameters=sum(_length(group.get("params")) for _path, optimizer in found for group in _groups(optimizer)),
        options=frozenset(str(name) for _path, optimizer in found for group in _groups(optimizer) for name in group),
        moments=moments,
        lacking=tuple(islice(lacking, forms.MOST_TOLD)),
    )


def schedule_step(value: Any) -> int | None:
    """The `last_epoch` of a scheduler's state: how often it was stepped. The largest of several side by side.

    None also for ReduceLROnPlateau: it counts measurements, and how many steps lie between two of them is not told.
    """
    told = (_own_step(part) for _keys, part in within(value, _uncounted_schedulers))
    return max((step for step in told if step is not None), default=None)


def _own_step(scheduler: Any) -> int | None:
    if not isinstance(scheduler, dict) or "num_bad_epochs" in scheduler:
        return None
    return counts.whole_number(scheduler.get("last_epoch"))


def _uncounted_schedulers(value: Any) -> Iterable[tuple[Any, Any]]:
    """SequentialLR counts for itself as well; ChainedScheduler leaves that to its parts."""
    if isinstance(value, dict) and ("num_bad_epochs" in value or _own_step(value) is not None):
        return ()
    return schedules.schedulers_of(value)


def rng_kinds(value: Any) -> frozenset[str]:
    """Which of python, numpy, torch and cuda have a state here."""
    if not isinstance(value, dict):
        return frozenset()
    return frozenset(kind for kind, keys in GENERATORS.items() if any(_is_state(kind, value.get(key)) for key in keys))


def is_baseline(value: Any) -> bool:
    """Whether the random states were put there when the checkpoint was mended."""
    return isinstance(value, dict) and value.get(naming.BASELINE) is True


def last_rates(value: Any) -> tuple[float, ...]:
    """The learning rates that a scheduler gave last, as its state tells."""
    told = value.get("_last_lr") if isinstance(value, dict) else None
    rates = [counts.number(rate) for rate in told] if isinstance(told, list | tuple) else []
    return tuple(float(rate) for rate in rates if rate is not None)


def _is_state(kind: str, state: Any) -> bool:
    """Whether it holds something that a generator of this kind could be set to, as far as its form tells."""
    if kind == "torch" and isinstance(state, TensorFact):
        return state.bytes in _BYTES_OF_TORCHS and state.dtype == "U8"
    if kind == "python" and not isinstance(state, Opaque):
        return isinstance(state, list | tuple) and len(state) == _PARTS_OF_PYTHONS and _has(_NUMBERS_OF_PYTHONS, state)
    if kind == "numpy" and isinstance(state, list | tuple) and state and isinstance(state[0], str):
        return _has(_NUMBERS_OF_NUMPYS, state)
    return not isinstance(state, int | float | str) and _holds(state)


def _has(numbers: int, state: list[Any] | tuple[Any, ...]) -> bool:
    """Whether the second part is so many numbers. Of an object nobody can tell."""
    told = state[1] if len(state) > 1 else None
    shape = told.shape if isinstance(told, TensorFact | ArrayFact) else None
    if isinstance(told, list | tuple):
        shape = (len(told),)
    return isinstance(told, Opaque) or shape == (numbers,)


def _holds(state: Any) -> bool:
    if isinstance(state, TensorFact):
        return state.bytes > 0
    return base.state_presence(state) is Presence.PRESENT


def _groups(optimizer: dict[Any, Any]) -> list[dict[Any, Any]]:
    return each_once(group for group in optimizer["param_groups"] if isinstance(group, dict))


def _states(optimizer: dict[Any, Any]) -> Iterator[tuple[Any, dict[Any, Any]]]:
    """Each once, as `each_once`."""
    found = (item for item in parts_of(optimizer.get("state")) if isinstance(item[1], dict))
    yield from {id(item[1]): item for item in found}.values()


def _steps(optimizer: dict[Any, Any], path: str, values: Mapping[str, float]) -> Iterator[int]:
    """A parameter that some steps leave out counts fewer of them. Some optimizers count once for a whole group."""
    for parameter, state in _states(optimizer):
        yield from _whole(_scalar(state.get("step"), f"{path}state.{parameter}.step", values))
    for place, group in enumerate(_groups(optimizer)):
        yield from _whole(_scalar(group.get("step"), f"{path}param_groups.{place}.step", values))


def _rates(optimizer: dict[Any, Any], path: str, values: Mapping[str, float]) -> Iterator[float]:
    for place, group in enumerate(_groups(optimizer)):
        rate = _scalar(group.get("lr"), f"{path}param_groups.{place}.lr", values)
        if rate is not None:
            yield float(rate)


def _unsound_rates(optimizer: dict[Any, Any]) -> Iterator[str]:
    """Within a tensor they are found as in all others. Adafactor of others computes its own, and has None."""
    for group in _groups(optimizer):
        rate, of_torch = group.get("lr", 0.0), "maximize" in group
        if (isinstance(rate, float) and not isfinite(rate)) or (of_torch and (rate is None or isinstance(rate, str))):
            yield counts.shortened(rate)


def told(file: FileFacts | None, state: Mapping[Any, Any], key: str) -> Any:
    """A value of the file's state; of a tensor of one finite number that number."""
    value = state.get(key)
    return file.values.get(key, value) if file is not None and isinstance(value, TensorFact) else value


def _moments(optimizer: dict[Any, Any]) -> Iterator[tuple[str, TensorFact]]:
    for parameter, state in _states(optimizer):
        for key, part in state.items():
            if isinstance(part, TensorFact) and key != "step":
                yield f"{parameter}.{key}", part


def _scalar(value: Any, path: str, values: Mapping[str, float]) -> float | None:
    return values.get(path) if isinstance(value, TensorFact) else counts.number(value)


def _whole(value: float | None) -> Iterator[int]:
    if value is not None and float(value).is_integer():
        yield int(value)


def _length(parameters: Any) -> int:
    return len(parameters) if isinstance(parameters, list | tuple) else 0
