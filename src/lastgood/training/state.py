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
from lastgood.training import of_trainer, plainly
from lastgood.training.data import is_of

_log = logging.getLogger("lastgood")
FILE: Final = plain.STATES[0]
MODEL: Final = plain.INNER_WEIGHTS
RNG: Final = "rng_states"
DATALOADER: Final = "dataloader"
NOT_SAVED: Final = plain.NOT_SAVED  # what the job chose to leave out
KINDS: Final = plain.KINDS
PARTS: Final = ("optimizer", "scheduler", "scaler")
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
    """Whether the scheduler keeps what was saved; otherwise its rates will be others."""
    found = saved("scheduler", state)
    return not isinstance(found, Mapping) or _NO_SCHEDULER in found or set(found) == set(scheduler.state_dict())


def saved_in(state: State) -> set[str]:
    """Of optimizer, scheduler, scaler and dataloader those whose state is there."""
    found = {what for what in PARTS if (value := saved(what, state)) is not None and not _stands_for_none(value)}
    if base.optimizer_presence(saved("optimizer", state)) is not Presence.PRESENT:
        found.discard("optimizer")
    return found | ({"dataloader"} if DATALOADER in state else set())


def saved(what: str, state: State) -> Any:
    """The state of one of `PARTS`; None where there is none, or an empty one."""
    return next((value for value in all_saved(what, state) if not _is_empty(value)), None)


def _is_empty(value: Any) -> bool:
    """Of anything else, as a tensor, Python may not know whether it is true."""
    return isinstance(value, Mapping | list | tuple) and not value


def _stands_for_none(scheduler: Any) -> bool:
    return isinstance(scheduler, Mapping) and _NO_SCHEDULER in scheduler


def all_saved(what: str, state: State) -> list[Any]:
    """Whatever lies under the keys of its state."""
    return [state[key] for key in _KEYS[what] if state.get(key) is not None]


def restore(what: str, target: Any, state: State) -> bool:
    """Gives the optimizer, scheduler or scaler its state, and whether there was one.

    Where there is none, says so and leaves it as it is. ValueError where it does not fit.
    """
    if target is None or (what == "scaler" and not is_enabled(target)):
        return False
    found = saved(what, state)
    if found is None or (what == "scheduler" and _stands_for_none(found)):
        _log.warning("no state of the %s was saved: it starts anew", what)
        return False
    if what == "optimizer" and base.optimizer_presence(found) is not Presence.PRESENT:
        _log.warning("the state of the optimizer is empty: its moments start anew")
        if not found.get("param_groups"):
            return False
    needed = _options_of(target) if what == "optimizer" else []
    try:
        target.load_state_dict(found)
        for group, names in zip(target.param_groups if needed else (), needed, strict=False):
            for name in names:
                group[name]  # its step looks it up
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"the saved state of the {what} does not fit a {type(target).__name__}: {why}") from error
    _log.info("restored the state of the %s", what)
    return True


def _options_of(optimizer: Any) -> list[list[str]]:
    """By group, the options that the optimizer was made with; torch adds to its defaults when a state is loaded."""
    defaults = getattr(optimizer, "defaults", {})
    return [[name for name in defaults if name in group] for group in getattr(optimizer, "param_groups", ())]


def is_enabled(scaler: Any) -> bool:
    """One that is switched off has no state. Those of others may not be able to be."""
    return bool(scaler.is_enabled()) if hasattr(scaler, "is_enabled") else True


def require_state(dataloader: Any) -> None:
    if not (hasattr(dataloader, "state_dict") and hasattr(dataloader, "load_state_dict")):
        raise TypeError(
            f"a {type(dataloader).__name__} does not tell where in the data it stands: take "
            "lastgood.training.ResumableLoader, or torchdata's StatefulDataLoader"
        )


def require_position_fits(dataloader: Any, state: State) -> None:
    """TypeError where the loader takes none; ValueError where it takes another's without a word, or falls over it."""
    require_state(dataloader)
    if DATALOADER not in state or not is_of(dataloader, "torchdata"):
        return
    # torchdata's with loader workers, and without.
    kinds = {kind for kind in ("_snapshot", "_num_yielded") if kind in state[DATALOADER]}
    if not kinds:
        raise ValueError("the position in the data was saved by another loader than torchdata's StatefulDataLoader")
    if ("_snapshot" in kinds) != bool(dataloader.num_workers):
        there, here = ("some", "none") if "_snapshot" in kinds else ("none", str(dataloader.num_workers))
        raise ValueError(f"the position in the data was saved with {there} loader workers, and here are {here}")


def restore_dataloader(target: Any, state: State) -> None:
    if target is None:
        return
    if DATALOADER in state:
        target.load_state_dict(state[DATALOADER])
    else:
        _log.warning("no position in the data was saved: the epoch starts anew")


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
    """The training state in the folder, in one file or Trainer's; {} where there is none. Damaged where something else
    is there.
    """
    path = next((p for name in plain.STATES if os.path.isfile(p := os.path.join(folder, name))), None)
    if path is None and (found := of_trainer.read_state(folder)):
        return found
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
    groups = getattr(optimizer, "param_groups", ())
    if any("initial_lr" in group for group in groups):  # every scheduler of torch leaves it there
        _log.warning("the optimizer has a scheduler that was not given to be saved: a resume will not have its state")
        return None
    rates = [group.get("lr") for group in groups]  # transformers' Adafactor has none where it finds its own
    return {_NO_SCHEDULER: [None if rate is None else float(rate) for rate in rates]}
