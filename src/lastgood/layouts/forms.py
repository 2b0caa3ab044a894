"""What the saved state of an optimizer must be like, for its loader to take it and the next step to run.

After torch/optim/optimizer.py (`load_state_dict`) and adam.py (`_init_group`), of torch 2.13. What others write is
judged only where it can be the state of nothing. Pure.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from lastgood.facts import Component, TensorFact
from lastgood.findings import Code, Finding
from lastgood.formats.inert_pickle import ArrayFact, Opaque
from lastgood.layouts import counts, schedules
from lastgood.layouts.within import parts_of, within

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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


def misshapen_state(component: Component, home: str, value: Any, *, named: bool = False) -> Iterator[Finding]:
    """What is there, and can be the state of nothing: every loader would end in the middle of it.

    `named`: whoever saved it tells the kind of the object, so that it may have any form of that object's own.
    """
    yield from islice(_misshapen(component, home, value, named=named), MOST_TOLD)


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


def _misshapen(component: Component, home: str, value: Any, *, named: bool) -> Iterator[Finding]:
    if value is None or isinstance(value, Opaque):
        return
    if not isinstance(value, dict | list | tuple):
        yield Finding(Code.STATE_SHAPE, home, f"the {component.value} state is no state but {counts.shortened(value)}")
    elif component is Component.OPTIMIZER:
        own = named and isinstance(value, dict) and not value.keys() & _OF_TORCH
        yield from () if own else _misshapen_optimizers(home, value)
    elif component is Component.SCHEDULER:
        yield from schedules.unsound(home, value)
        if _is_optimizer(value) and not named:
            yield Finding(Code.SCHEDULER_STRANGE, home, "it is the state of an optimizer")
        elif not named:
            yield from schedules.misshapen(home, value)


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
