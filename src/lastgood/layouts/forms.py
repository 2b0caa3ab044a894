"""What the saved state of an optimizer or a scheduler must be like, for its loader to take it and the next step to run.

After torch/optim/optimizer.py (`load_state_dict`), adam.py (`_init_group`) and lr_scheduler.py, of torch 2.13. What
others write is judged only where it can be the state of nothing. Pure.
"""

from __future__ import annotations

import re
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from lastgood.facts import Component, TensorFact
from lastgood.findings import Code, Finding
from lastgood.formats.inert_pickle import ArrayFact, Opaque
from lastgood.layouts import counts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Keys = tuple[Any, ...]

_DEEPEST: Final = 4  # wrappers put the state of torch's optimizer a few levels down, or several of them side by side
_LONGEST_KEY: Final = 200  # letters
MOST_TOLD: Final = 8  # findings about one state: it can be wrong in a million places, and the first few say it
_OF_TORCH: Final = frozenset({"state", "param_groups"})
# What torch's optimizers with a `capturable` keep of a parameter, the same of each. Where there is more, it is a
# stranger's under the same options: in 8 bits, with factors, with another variance.
_KEPT: Final = frozenset(
    {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "mu_product", "square_avg", "momentum_buffer",
     "grad_avg", "acc_delta", "eta", "mu", "ax", "prev", "step_size"}
)  # fmt: skip
_SINGLE: Final = frozenset({"step", "mu_product", "eta", "mu"})  # one number for all of a parameter
_NAMES_NONE: Final = (type(None), int, float, str)
_NO_STATE: Final = (str, int, float, list, tuple)
_MOST: Final = 0.5
# What schedulers count by, or compute with: torch's, timm's, DeepSpeed's, Megatron's, and what people call their own.
_OF_SCHEDULERS: Final = re.compile(
    r"step|epoch|iter|lr|rate|batch|update|warm|decay|sched|best|count|index|time|token|sample|cycle|factor|gamma"
    r"|alpha|value|metric|milestone|progress|curr?(?:ent)?(?:_|$)|pos|call|done|total|example|frac|mult|scale|stage"
    r"|phase|round|tick|elapsed|cursor|(?:^|_)(?:[ijknt]|it|num)(?:_|$)",
    re.IGNORECASE,
)
# What ResumableLoader saves, and of it what it must have to go on.
_PLACE_OF_OURS: Final = ("seed", "length", "epoch", "position")
_OF_OUR_LOADER: Final = frozenset({*_PLACE_OF_OURS, "batch_size", "batches", "workers"})
_NUMBERS_OF_SCHEDULERS: Final = ("last_epoch", "_step_count", "_last_lr", "base_lrs")


def misshapen_state(component: Component, home: str, value: Any, *, named: bool = False) -> Iterator[Finding]:
    """What is there, and can be the state of nothing: every loader would end in the middle of it.

    `named`: whoever saved it tells the kind of the object, so that it may have any form of that object's own.
    """
    yield from islice(_misshapen(component, home, value, named=named), MOST_TOLD)


def misshapen_position(home: str, value: Any) -> Iterator[Finding]:
    """The state of our own loader, or of torchdata's, that it would not take. Other loaders may save anything."""
    if isinstance(value, dict) and not isinstance(value, Opaque):
        for name in _unfit_in_loader(value):
            told = counts.shortened(value[name]) if name in value else "missing"
            yield Finding(Code.STATE_SHAPE, home, f"the {name} of the dataloader state is {told}")


def optimizers_in(value: Any, path: str) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Each state of torch's form in the value, with the path of keys to it."""
    told: set[int] = set()  # what they are made of: no optimizer has anything of another's
    for keys, part in within(value, _parts_but_of_optimizers):
        if _is_optimizer(part) and not any(id(piece) in told for piece in _pieces_of(part)):
            told.update(map(id, _pieces_of(part)))
            yield path + "".join(f"{_in_path(key)}." for key in keys), part


def _pieces_of(optimizer: Mapping[Any, Any]) -> Iterator[Any]:
    """Its states and groups as a whole, then each of them, and each group's list of parameters."""
    wholes = [optimizer[key] for key in _OF_TORCH if optimizer.get(key) is not None]
    yield from wholes
    for _key, piece in (part for whole in wholes for part in parts_of(whole)):
        if isinstance(piece, dict | list):
            yield piece
        if isinstance(named := _named(piece), list):
            yield named


def _in_path(key: Any) -> Any:
    """The key, or what stands for one that is longer than any name: a short pickle can have it in a million paths."""
    return "#" if isinstance(key, str | bytes) and len(key) > _LONGEST_KEY else key


def within(value: Any, parts: Callable[[Any], Iterable[tuple[Any, Any]]]) -> Iterator[tuple[Keys, Any]]:
    """The value, its parts and theirs, a few levels down, each with the keys that lead to it; the nearest first.

    What lies in several places is told once: a short pickle can name the same list a billion times over.
    """
    seen: set[int] = set()
    level: list[tuple[Keys, Any]] = [((), value)]
    for _ in range(_DEEPEST + 1):
        below: list[tuple[Keys, Any]] = []
        for keys, part in level:
            if isinstance(part, dict | list | tuple):
                if id(part) in seen:
                    continue
                seen.add(id(part))
                below.extend(((*keys, key), inner) for key, inner in parts(part))
            yield keys, part
        level = below


def each_once(values: Iterable[dict[Any, Any]]) -> list[dict[Any, Any]]:
    """Without those that are there a second time: a short pickle can name the same one a million times over."""
    return list({id(value): value for value in values}.values())


def parts_of(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)


def holds_nothing(states: Any) -> bool:
    """Whether no parameter has a state. An empty one comes of a mere look at it, and is as good as none."""
    if not isinstance(states, dict) or isinstance(states, Opaque):
        return False
    return all(isinstance(state, dict) and not isinstance(state, Opaque) and not state for state in states.values())


def lacking_in(optimizer: Mapping[Any, Any]) -> Iterator[str]:
    """What the next step would look for in the state of a parameter, and not find. In words, by group."""
    states = optimizer.get("state")
    if not isinstance(states, dict):
        return
    found = (group for group in optimizer["param_groups"] if isinstance(group, dict) and "capturable" in group)
    groups = {id(group.get("params")): group for group in found}  # the same list of them need be looked at once only
    for group in groups.values():
        yield from _lacking_in_group(group, states)


def _unfit_in_loader(state: Mapping[Any, Any]) -> Iterator[str]:
    """By name. One of them may be lost, and the others still tell whose state it is."""
    if len(_OF_OUR_LOADER & state.keys()) >= len(_OF_OUR_LOADER) - 1:
        yield from (name for name in _PLACE_OF_OURS if not _is_count(state.get(name), signed=name == "seed"))
    if "_num_yielded" in state and not _is_count(state["_num_yielded"]):
        yield "_num_yielded"
    if "_snapshot" in state and not isinstance(state["_snapshot"], dict | Opaque):
        yield "_snapshot"


def _is_count(value: Any, *, signed: bool = False) -> bool:
    return type(value) is int and (signed or value >= 0)


def _misshapen(component: Component, home: str, value: Any, *, named: bool) -> Iterator[Finding]:
    if value is None or isinstance(value, Opaque):
        return
    if not isinstance(value, dict | list | tuple):
        yield Finding(Code.STATE_SHAPE, home, f"the {component.value} state is no state but {counts.shortened(value)}")
    elif component is Component.OPTIMIZER:
        own = named and isinstance(value, dict) and not value.keys() & _OF_TORCH
        yield from () if own else _misshapen_optimizers(home, value)
    elif component is Component.SCHEDULER:
        yield from _unsound_schedule(home, value)
        yield from () if named else _misshapen_scheduler(home, value)


def _lacking_in_group(group: Mapping[Any, Any], states: Mapping[Any, Any]) -> Iterator[str]:
    named = group.get("params")
    keys = [key for key in named if isinstance(key, int | str)] if isinstance(named, list | tuple) else []
    if unfit := sum(isinstance(states.get(key, {}), _NO_STATE) or states.get(key, {}) is None for key in keys):
        yield f"the states of {unfit} of {len(keys)} parameters are none"
    # A parameter without a gradient has no state: it is frozen, or no batch has used it so far.
    found = [state for key in keys if isinstance(state := states.get(key), dict) and state]
    if any(isinstance(state, Opaque) or not state.keys() <= _KEPT for state in found):
        return
    for wanted in sorted(_wanted(group, found)):
        lacking = sum(not _can_be(wanted, state.get(wanted)) for state in found)
        if lacking:
            yield f"{lacking} of {len(found)} parameters have no {wanted}, and the next step looks for it"


def _can_be(wanted: str, value: Any) -> bool:
    """A number can be a count or a factor, and no moment."""
    return value is not None and not isinstance(value, str if wanted in _SINGLE else str | int | float)


def _wanted(group: Mapping[Any, Any], states: list[dict[Any, Any]]) -> frozenset[str]:
    """What Adam always keeps, and of the others what most parameters have."""
    usual = frozenset(key for key in _KEPT if sum(key in state for state in states) > _MOST * len(states))
    if not {"betas", "amsgrad"} <= group.keys():
        return usual
    largest = {"max_exp_avg_sq"} if group["amsgrad"] is True else set()
    return usual | {"step", "exp_avg", "exp_avg_sq"} | largest


def _misshapen_optimizers(home: str, value: Any) -> Iterator[Finding]:
    side_by_side = (value,) if isinstance(value, dict) else value
    parts = (part for part in side_by_side if isinstance(part, dict) and not isinstance(part, Opaque) and part)
    # By their groups, which take the time: a short pickle can give the same ones to a million of them.
    each = {id(part.get("param_groups", part)): part for part in parts}.values()
    for part in islice((part for part in each if not _is_whole(part)), MOST_TOLD):
        yield from _misshapen_optimizer(home, part)
    for _path, optimizer in optimizers_in(value, ""):
        yield from (Finding(Code.OPTIMIZER_STRANGE, home, why) for why in _misnamed(optimizer))


def _misnamed(optimizer: Mapping[Any, Any]) -> Iterator[str]:
    """What does not come of torch's `state_dict`: it numbers the parameters of all groups, and then their states."""
    states = optimizer.get("state")
    lists = {id(named): named for group in optimizer["param_groups"] if isinstance(named := _named(group), list)}
    groups = [frozenset(key for key in named if type(key) is int) for named in lists.values()]
    if not isinstance(states, dict) or any(type(key) is not int for named in lists.values() for key in named):
        return
    known: frozenset[int] = frozenset().union(*groups)
    stray = sum(type(key) is int and key not in known for key in states)
    if stray:
        yield f"{stray} of {len(states)} states are of parameters that no group names"
    if len(known) < sum(map(len, groups)):
        yield f"{sum(map(len, groups)) - len(known)} parameters are in more than one group"


def _named(group: Any) -> Any:
    return group.get("params") if isinstance(group, dict) else None


def _misshapen_optimizer(home: str, optimizer: dict[Any, Any]) -> Iterator[Finding]:
    """Torch's own would be refused by torch. A stranger's may have any form, and holds something at least."""
    complete = optimizer.keys() >= _OF_TORCH
    if complete:
        why = _wrong_in(optimizer)
    elif optimizer.keys() & _OF_TORCH or not any(optimizers_in(optimizer, "")):
        why = f"the optimizer state has no {' and no '.join(sorted(_OF_TORCH - optimizer.keys()))}"
    else:
        why = None
    if why is None or _is_flattened(optimizer) or _is_wrapped(optimizer):
        return
    if optimizer.keys() <= _OF_TORCH or not _holds_numbers(optimizer):
        yield Finding(Code.STATE_SHAPE, home, why)
    elif not complete:
        yield Finding(Code.OPTIMIZER_STRANGE, home, why, "nothing, where an optimizer of the job's own saves it so")


def _is_whole(optimizer: Mapping[Any, Any]) -> bool:
    return optimizer.keys() >= _OF_TORCH and _wrong_in(optimizer) is None


def _wrong_in(optimizer: Mapping[Any, Any]) -> str | None:
    """Why torch does not take it, although it has the two parts that it needs."""
    states, groups = optimizer["state"], optimizer["param_groups"]
    if not isinstance(states, dict):
        return f"the state of its parameters is {counts.shortened(states)}"
    if not isinstance(groups, list | tuple) or (states and not groups):
        return f"its param_groups are {counts.shortened(groups)}"
    if any(not isinstance(group, dict) or isinstance(group.get("params"), _NAMES_NONE) for group in groups):
        return "one of its param_groups names no params"
    return None


def _is_optimizer(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("param_groups"), list)


def _parts_but_of_optimizers(value: Any) -> Iterable[tuple[Any, Any]]:
    return () if _is_optimizer(value) else parts_of(value)


def _is_flattened(optimizer: Mapping[Any, Any]) -> bool:
    """torch.distributed.checkpoint can write every number of it under a name of its own: `state.fc.weight.exp_avg`."""
    return any(isinstance(key, str) and key.startswith(("param_groups.", "state.")) for key in optimizer)


def _is_wrapped(optimizer: Mapping[Any, Any]) -> bool:
    """Under `state` lies a whole optimizer's."""
    return "param_groups" not in optimizer and any(optimizers_in(optimizer.get("state"), ""))


def _holds_numbers(value: Any) -> bool:
    """Whether there is a tensor in it, an array, or an object that may have one."""
    return any(isinstance(part, TensorFact | ArrayFact | Opaque) for _keys, part in within(value, parts_of))


def _unsound_schedule(home: str, value: Any) -> Iterator[Finding]:
    unsound = next(_unsound_numbers(value), None)
    if unsound is not None:
        yield Finding(Code.NOT_A_NUMBER, home, f"{unsound} in the scheduler state")


def _misshapen_scheduler(home: str, value: Any) -> Iterator[Finding]:
    for why in _miscounted(value):
        yield Finding(Code.SCHEDULER_STRANGE, home, why)
    # torch's loaders take whatever is there, and one that finds nothing of its own begins anew without a word.
    if _is_optimizer(value):
        yield Finding(Code.SCHEDULER_STRANGE, home, "it is the state of an optimizer")
    elif value and not any(_counts_something(part) for _keys, part in within(value, _containers_of)):
        names = counts.shortened(sorted(map(str, value))) if isinstance(value, dict) else counts.shortened(value)
        yield Finding(Code.SCHEDULER_STRANGE, home, f"nothing that a scheduler counts by: it holds {names}")


def _unsound_numbers(value: Any) -> Iterator[str]:
    """Of a scheduler, and of those that it is made of. Its `best` is infinite until something was measured."""
    seen: set[int] = set()  # as `within`
    for _keys, part in within(value, schedulers_of):
        for name in _NUMBERS_OF_SCHEDULERS if isinstance(part, dict) else ():
            told = part.get(name)
            numbers = told if isinstance(told, list | tuple) else (told,)
            if id(told) in seen:
                continue
            seen.add(id(told))
            yield from (f"{name} is {one}" for one in numbers if isinstance(one, float) and not isfinite(one))


def _miscounted(value: Any) -> Iterator[str]:
    """A scheduler's count that is none: its next step would end in an error, or lead anywhere."""
    for _keys, part in within(value, schedulers_of):
        count = part.get("last_epoch", 0) if isinstance(part, dict) else 0
        if count is None or isinstance(count, str | list | tuple | dict) or (isinstance(count, int) and count < -1):
            yield f"its last_epoch is {counts.shortened(count)}"


def schedulers_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """Those side by side, or those that a scheduler is made of."""
    return parts_of(value.get("_schedulers") if isinstance(value, dict) else value)


def _containers_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """What a list holds, and of a dict what holds more."""
    inner = parts_of(value)
    return (item for item in inner if not isinstance(value, dict) or isinstance(item[1], dict | list | tuple))


def _counts_something(value: Any) -> bool:
    """A dict by its names, and anything else but a text by itself."""
    if isinstance(value, dict) and not isinstance(value, Opaque):
        return any(not isinstance(key, str) or _OF_SCHEDULERS.search(key) for key in value)
    return isinstance(value, Opaque) or not isinstance(value, list | tuple | str)
