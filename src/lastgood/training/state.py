"""`training_state.pt`: what is put in, and what is made of the files of other writers. No pickle is trusted."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

import numpy as np
import torch

from lastgood import naming
from lastgood.errors import Damaged
from lastgood.facts import Presence
from lastgood.layouts import base, plain
from lastgood.training import plainly

_log = logging.getLogger("lastgood")
FILE: Final = "training_state.pt"
MODEL: Final = "model_state_dict"
RNG: Final = "rng_states"
DATALOADER: Final = "dataloader"
NOT_SAVED: Final = "not_saved"  # what the job chose to leave out
_FILES: Final = (FILE, "training_state.pth")
# Ours first, then Forgather's.
_KEYS: Final = {
    "optimizer": ("optimizer_state_dict", "optimizer"),
    "scheduler": ("scheduler_state_dict", "lr_scheduler"),
    "scaler": ("scaler_state_dict",),
}
_NO_SCHEDULER: Final = "constant_lr"

State = Mapping[str, Any]
Load = Callable[[str], Any]


def states_of(
    optimizer: Any, scheduler: Any, scaler: Any, dataloader: Any, left_out: Collection[str] = ()
) -> dict[str, Any]:
    """The states of those that there are, and are not left out, under the keys of the file.

    TypeError where one of them has no state.
    """
    for name, part in (("optimizer", optimizer), ("scheduler", scheduler), ("scaler", scaler)):
        if part is not None and not hasattr(part, "state_dict"):
            raise TypeError(f"the {name} is one object with a state_dict(), not a {type(part).__name__}")
    states = {
        "optimizer_state_dict": optimizer.state_dict() if optimizer is not None else None,
        "scheduler_state_dict": scheduler.state_dict() if scheduler is not None else _constant_rate(optimizer),
    }
    states |= {f"{name}_state_dict": None for name in left_out}
    if scaler is not None:
        states["scaler_state_dict"] = scaler.state_dict()
    if dataloader is not None:
        require_state(dataloader)
        states[DATALOADER] = dataloader.state_dict()
    return states


def is_of_this_kind(state: State, scheduler: Any) -> bool:
    """Whether the scheduler keeps what was saved. Says so where it does not: its rates will be others."""
    saved = _saved("scheduler", state)
    if scheduler is None or not isinstance(saved, Mapping) or _NO_SCHEDULER in saved:
        return True
    alike = set(saved) == set(scheduler.state_dict())
    if not alike:
        _log.warning("the state of the scheduler was saved by another one than a %s", type(scheduler).__name__)
    return alike


def saved_in(state: State) -> set[str]:
    """Of optimizer, scheduler, scaler and dataloader those whose state is there."""
    found = {what for what in _KEYS if (saved := _saved(what, state)) and _NO_SCHEDULER not in saved}
    if base.optimizer_presence(_saved("optimizer", state)) is not Presence.PRESENT:
        found.discard("optimizer")
    return found | ({"dataloader"} if DATALOADER in state else set())


def _saved(what: str, state: State) -> Any:
    return next((state[key] for key in _KEYS[what] if state.get(key)), None)


def require_loadable(state: State, wanted: Mapping[str, Any]) -> None:
    """To be called before anything is changed. Damaged where a state is none, ValueError where it does not fit.

    `wanted`: by "optimizer", "scheduler" and "scaler" what is to get a state; None: nothing. TypeError where it cannot.
    """
    for what, target in wanted.items():
        if target is not None and not hasattr(target, "load_state_dict"):
            raise TypeError(f"the {what} is one object with a load_state_dict(), not a {type(target).__name__}")
    for what, key in ((what, key) for what, keys in _KEYS.items() for key in keys if wanted.get(what) is not None):
        value = state.get(key)
        if isinstance(value, list | tuple):
            raise ValueError(f"the saved state of the {what} is that of several ones, and here is one")  # noqa: TRY004
        if value is not None and not isinstance(value, Mapping):
            raise Damaged(f"the state of the {what} is not loaded: it is no state but a {type(value).__name__}")
    saved, optimizer = _saved("optimizer", state) or {}, wanted.get("optimizer")
    if optimizer is None or not saved.get("param_groups"):
        return
    try:
        there, here = (_lengths(groups["param_groups"]) for groups in (saved, optimizer.state_dict()))
    except (TypeError, KeyError) as error:
        raise ValueError(f"the saved state of the optimizer does not fit: {type(error).__name__}: {error}") from error
    if there != here:
        raise ValueError(f"the optimizer's state is of groups of {there} parameters, and here are groups of {here}")


def _lengths(groups: Any) -> list[int]:
    return [len(group["params"]) for group in groups]


def restore(what: str, target: Any, state: State) -> None:
    """Gives the optimizer, scheduler or scaler its state. Where there is none, says so and leaves it as it is."""
    if target is None or (what == "scaler" and not is_enabled(target)):
        return
    found = _saved(what, state)
    if found is None or (what == "scheduler" and _NO_SCHEDULER in found):
        _log.warning("no state of the %s was saved: it starts anew", what)
        return
    if what == "optimizer" and base.optimizer_presence(found) is not Presence.PRESENT:
        _log.warning("the state of the optimizer is empty: its moments start anew")
        if not found.get("param_groups"):
            return
    try:
        target.load_state_dict(found)
        if what == "optimizer":
            _require_options(target)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"the saved state of the {what} does not fit a {type(target).__name__}: {why}") from error
    _log.info("restored the state of the %s", what)


def _require_options(optimizer: Any) -> None:
    """KeyError where the groups lack what this optimizer's step looks up: they were another kind's."""
    for group in optimizer.param_groups:
        for name in getattr(optimizer, "defaults", {}):
            group[name]


def is_enabled(scaler: Any) -> bool:
    """One that is switched off has no state. Those of others may not be able to be."""
    return bool(scaler.is_enabled()) if hasattr(scaler, "is_enabled") else True


def require_state(dataloader: Any) -> None:
    if not (hasattr(dataloader, "state_dict") and hasattr(dataloader, "load_state_dict")):
        raise TypeError(
            f"a {type(dataloader).__name__} does not tell where in the data it stands: take "
            "lastgood.training.ResumableLoader, or torchdata's StatefulDataLoader"
        )


def restore_dataloader(target: Any, state: State) -> None:
    if target is None:
        return
    require_state(target)
    if DATALOADER in state:
        saved = state[DATALOADER]
        if type(target).__module__.startswith("torchdata.") and not _is_of_torchdata(saved):
            raise ValueError("the position in the data was saved by another loader than torchdata's StatefulDataLoader")
        target.load_state_dict(saved)
    else:
        _log.warning("no position in the data was saved: the epoch starts anew")


def _is_of_torchdata(saved: Any) -> bool:
    """It takes any other without a word, and begins anew."""
    return isinstance(saved, Mapping) and bool(saved.keys() & {"_num_yielded", "_snapshot"})


def progress_of(state: State, folder: str) -> dict[str, Any]:
    """Step, epochs that are done, and losses. What cannot be counts for nothing, as for the judge.

    `batches_done`: of the epoch that was in work, where the writer counts batches.
    """
    told = plain.progress_in(state, {key: as_number(state[key]) for key in plain.COUNTS if key in state})
    epoch, batches = told.epoch or 0, {}
    if told.counts_batches and (place := told.place) is not None:
        epoch = place.epoch if place.finished else place.epoch - 1
        batches = {"batches_done": 0 if place.finished else place.done}
    return {
        "epoch": epoch,
        **batches,
        "global_step": _step_by_name(folder) if told.step is None else told.step,
        "best_loss": as_number(state.get("best_loss", float("inf"))),
        "epoch_losses": losses_in(state.get("epoch_losses")),
        "metrics": _by_name("metrics", state),
        "additional_state": _by_name("additional_state", state),
    }


def losses_in(value: Any) -> list[Any]:
    """As a list, in whatever they were gathered. TypeError where they are no numbers."""
    found = value.tolist() if isinstance(value, torch.Tensor | np.ndarray) else value
    if isinstance(found, str):
        raise TypeError(f"losses are numbers, not {found!r}")
    return list(found or ()) if found is None or isinstance(found, Iterable) else [found]


def _by_name(key: str, state: State) -> dict[str, Any]:
    value = state.get(key)
    if value is None or isinstance(value, Mapping):
        return dict(value or {})
    _log.warning('%s were saved without names, as a %s: they are under ""', key, type(value).__name__)
    return {"": value}


def _step_by_name(folder: str) -> int:
    name = os.path.basename(os.path.abspath(folder))
    step = naming.step_in_name(name)
    found = f"step {step} is taken from its name" if step is not None else "training begins with step 0"
    _log.warning("%s does not tell its step: %s", name, found)
    return step or 0


def as_number(value: Any) -> Any:
    """What a tensor of one element, or a number of NumPy, holds; anything else as it is."""
    is_one = isinstance(value, np.generic) or (isinstance(value, torch.Tensor) and value.numel() == 1)
    return value.item() if is_one else value


def read_state(folder: str) -> dict[str, Any]:
    """The training state in the folder; {} where there is none. Damaged where something else is there."""
    path = next((p for name in _FILES if os.path.isfile(p := os.path.join(folder, name))), None)
    if path is None:
        _log.warning("%s holds no training state: its weights alone are taken", folder)
        return {}
    state = plainly.load(path)
    if not isinstance(state, dict):
        raise Damaged(f"{path} is not loaded: it holds no training state but a {type(state).__name__}")
    return state


def _constant_rate(optimizer: Any) -> dict[str, Any] | None:
    """What stands for the state of no scheduler: the rates. None where one was used, and not given to be saved."""
    if optimizer is None:
        return None
    if any("initial_lr" in group for group in optimizer.param_groups):  # every scheduler of torch leaves it there
        _log.warning("the optimizer has a scheduler, which was not given to be saved")
        return None
    return {_NO_SCHEDULER: [float(group["lr"]) for group in optimizer.param_groups]}
