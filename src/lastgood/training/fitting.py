"""Whether what was saved fits what the job has, and whether the run that goes on will be the same one."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import torch

from lastgood import naming
from lastgood.checks.optimizer import LIKE_ITS_PARAMETER
from lastgood.errors import Damaged
from lastgood.training import data, of_trainer, ranks, state, weights
from lastgood.wording import counted

if TYPE_CHECKING:
    from lastgood.training.targets import Targets

_GROUPS: Final = "param_groups"


def require_fits(found: state.State, targets: Targets) -> None:
    """To be called before anything is changed: Damaged where a state is none, ValueError where it is of something else,
    TypeError where what is given takes no state.
    """
    for what in state.PARTS:
        target = getattr(targets, what)
        if target is None:
            continue
        if not hasattr(target, "load_state_dict"):
            raise TypeError(f"the {what} is one object with a load_state_dict(), not a {type(target).__name__}")
        for value in state.all_saved(what, found):
            if isinstance(value, list | tuple):
                raise ValueError(f"the states of several {what}s were saved, and here is one")  # noqa: TRY004
            if not isinstance(value, Mapping):
                raise Damaged(f"the state of the {what} is not loaded: it is no state but a {type(value).__name__}")
    saved = state.saved("optimizer", found)
    if targets.optimizer is not None and saved and saved.get(_GROUPS):
        _require_optimizer_fits(saved, targets.optimizer)
    if targets.dataloader is not None:
        state.require_position_fits(targets.dataloader, found)


def _require_optimizer_fits(saved: state.State, optimizer: Any) -> None:
    optimizer = _own(optimizer)
    if getattr(optimizer, _GROUPS, None) is None or _has_hooks(optimizer):
        return  # it knows itself what becomes of what was saved
    try:
        _require_like(saved, optimizer)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"the saved state of the optimizer does not fit: {type(error).__name__}: {error}") from error


def _require_like(saved: state.State, optimizer: Any) -> None:
    here = optimizer.param_groups
    lengths = [[len(group["params"]) for group in groups] for groups in (saved[_GROUPS], here)]
    if lengths[0] != lengths[1]:
        raise ValueError(
            f"the optimizer's state is of groups of {lengths[0]} parameters, and here are groups of {lengths[1]}: "
            "restore_optimizer_state=False goes on without it"
        )
    for there, now in zip(saved[_GROUPS], here, strict=True):
        both = (_bare(there["param_names"]), _bare(now["param_names"])) if _are_named(there, now) else ((), ())
        for name, own in zip(*both, strict=True):
            if name != own:
                raise ValueError(f"the optimizer's state is of the parameter {name}, where {own} is here")
    if type(optimizer).__module__.startswith("torch.optim"):
        _require_shapes(saved, optimizer)


def _own(optimizer: Any) -> Any:
    """The optimizer itself, out of Accelerate's wrapper."""
    inside = getattr(optimizer, "optimizer", None)
    return inside if type(optimizer).__module__.startswith("accelerate.") and inside is not None else optimizer


def _has_hooks(optimizer: Any) -> bool:
    """Whether the job changes what is loaded: torch's own names for where it keeps such hooks."""
    return any(getattr(optimizer, f"_optimizer_load_state_dict_{when}_hooks", None) for when in ("pre", "post"))


def _are_named(*groups: Mapping[str, Any]) -> bool:
    return all("param_names" in group for group in groups)


def _bare(names: list[str]) -> list[str]:
    bare = naming.bare_names(names)
    return [bare[name] for name in names]


def _require_shapes(saved: state.State, optimizer: Any) -> None:
    for moments, parameter in _pairs(saved, optimizer):
        for key in LIKE_ITS_PARAMETER & moments.keys():
            shape = getattr(moments[key], "shape", parameter.shape)
            if shape != parameter.shape:
                there, here = list(shape), list(parameter.shape)
                raise ValueError(f"the optimizer's state is of a parameter of {there}, where one of {here} is here")


def _pairs(saved: state.State, optimizer: Any) -> Iterator[tuple[Mapping[str, Any], Any]]:
    """What was saved of each parameter, and the parameter."""
    numbers = [number for group in saved[_GROUPS] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        if isinstance(moments := saved.get("state", {}).get(number), Mapping):
            yield moments, parameter


def keep_kinds(saved: state.State, optimizer: Any) -> bool:
    """The states of an optimizer that was just loaded, in the kinds of numbers in which they were saved.

    torch rounds all but `step` to the kind of the parameter: NAdam's products, moments in float32 of bfloat16 weights.
    False where the job has a way of its own, and something is of another kind now.
    """
    optimizer = _own(optimizer)
    if not isinstance(optimizer, torch.optim.Optimizer):
        return True
    pairs = [] if _has_hooks(optimizer) else list(_of_other_kinds(saved, optimizer))
    if type(optimizer).load_state_dict is not torch.optim.Optimizer.load_state_dict:
        return not pairs
    for loaded, key, value in pairs:
        loaded[key] = value.to(loaded[key].device)
    return not _has_hooks(optimizer)


def _of_other_kinds(saved: state.State, optimizer: Any) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """What is kept of a parameter now, the name of a tensor in it that was rounded, and the tensor as it was saved."""
    for moments, parameter in _pairs(saved, optimizer):
        loaded = optimizer.state.get(parameter, {})
        for key, value in moments.items():
            now = loaded.get(key)
            if isinstance(value, torch.Tensor) and isinstance(now, torch.Tensor) and value.dtype is not now.dtype:
                yield loaded, key, value


def kinds_of(optimizer: Any, scheduler: Any) -> dict[str, str]:
    """What they are, for the next one that goes on with them."""
    found = {"optimizer": _kind_of(optimizer, "optimizer"), "scheduler": _kind_of(scheduler, "scheduler")}
    return {what: kind for what, kind in found.items() if kind is not None}


def _kind_of(part: Any, inside: str) -> str | None:
    """Its class, and those of its parts. Accelerate wraps either under that name."""
    if part is None:
        return None
    name = type(part).__qualname__
    if name.startswith("Accelerated") and getattr(part, inside, None) is not None:
        return _kind_of(getattr(part, inside), inside)
    parts = [str(_kind_of(each, inside)) for each in getattr(part, "_schedulers", None) or ()]
    parts += [told for each in getattr(part, "lr_lambdas", None) or () if (told := _in_words(each))]
    return f"{name}({', '.join(parts)})" if parts else name


def _in_words(rate: Any) -> str:
    """Those of transformers are functions that some numbers were given to; a lambda tells nothing of itself."""
    if not isinstance(rate, functools.partial):
        return ""
    numbers = [f"{key}={value}" for key, value in sorted(rate.keywords.items()) if isinstance(value, int | float)]
    return " ".join((getattr(rate.func, "__name__", ""), *numbers))


def differences(found: state.State, targets: Targets) -> Iterator[str]:
    """Why the run will not be, bit for bit, the one that was never interrupted, although all was saved and fits."""
    loader = targets.dataloader
    length = None
    with suppress(TypeError, NotImplementedError):  # there is none, or nobody knows how long its data is
        length = len(loader)
    numbers = (
        ("the batch size", "batch_size", getattr(loader, "batch_size", None), "the data comes in other pieces"),
        ("the number of batches", "total_batches", length, "an epoch has another end"),
        ("the number of processes", "world_size", ranks.count(), "each step sees other data"),
    )
    for what, key, now, so in numbers:
        saved = found.get(key)
        if isinstance(saved, int) and isinstance(now, int) and saved != now:
            yield f"{what} was {saved} when it was saved, and is {now}: {so}, and the loss may jump"
    yield from _other_kinds(found, targets)
    if found.get(of_trainer.BY_TRAINER):
        yield "Trainer saved it, which does not save where in the data it stands: what comes next may be other data"
    if strangers := _trained_besides(targets):
        yield f"the optimizer trains {strangers} tensors that are not the model's: their values were not saved with it"
    yield from _other_generators(found.get(state.DATALOADER), loader)
    if loader is not None and data.draws_with_the_model(loader):
        yield (
            "the loader draws when an iteration begins, from the generator that the model uses or that it shuffles by: "
            "give it one of its own, and another one to its sampler"
        )
    if loader is not None and data.shuffles_without_a_state(loader):
        yield (
            "the loader's sampler keeps no state: after the first epoch what comes next is other data; take "
            "torchdata.stateful_dataloader.sampler.RandomSampler"
        )


def _other_generators(saved: Any, loader: Any) -> Iterator[str]:
    """In workers samples draw from generators of their own, without them from those of the job."""
    if not isinstance(loader, data.ResumableLoader) or not isinstance(saved, Mapping):
        return
    now = loader.state_dict()["workers"]
    before = saved.get("workers", now)
    if bool(before) != bool(now):
        yield f"the loader had {counted(before, 'worker')} when it was saved, and has {now}: samples draw otherwise"


def _other_kinds(found: state.State, targets: Targets) -> Iterator[str]:
    before = found.get(state.KINDS)
    for what, kind in kinds_of(targets.optimizer, targets.scheduler).items():
        saved = before.get(what, kind) if isinstance(before, Mapping) else kind
        if saved != kind:
            yield f"the {what} was a {saved} when it was saved, and is a {kind}"
        elif what == "scheduler" and not state.is_of_this_kind(found, targets.scheduler):
            yield f"the state of the scheduler was saved by another one than a {kind}"


def _trained_besides(targets: Targets) -> int:
    """How many parameters the optimizer has that are none of the model's; 0 where nobody can tell."""
    model = weights.unwrapped(targets.model)
    if not isinstance(model, torch.nn.Module) or targets.optimizer is None:
        return 0
    own = {id(parameter) for parameter in model.parameters()}
    groups = getattr(targets.optimizer, _GROUPS, ())
    return sum(id(parameter) not in own for group in groups for parameter in group.get("params", ()))
