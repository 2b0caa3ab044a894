"""What a save consists of: the job's own objects, as plain values and tensors.

A checkpoint is the model as Hugging Face lays it out, where it has a configuration, and one `training_state.pt` with
everything else; of a model without one, the weights lie in there too.
"""

from __future__ import annotations

import dataclasses
import json
import math
import operator
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Required, TypedDict

import numpy as np
import torch

from lastgood.facts import Component
from lastgood.layouts import counts
from lastgood.training import fitting, plainly, ranks, rng, state, weights
from lastgood.training.background import copied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastgood.training.options import SaveOptions

_MARGIN: Final = 1.02  # headers, names, JSON
_LEAST: Final = 1 << 20
_INDEX: Final = 8  # of a sparse value in each dimension


@dataclass(frozen=True, slots=True)
class Save:
    """All that one save writes. Nothing in it is the job's own once it was `copied`."""

    content: Mapping[str, Any]  #: of training_state.pt
    weights: weights.Weights | None  #: for files of their own; None: they lie in the state
    config: Mapping[str, Any] | None
    generation: Mapping[str, Any] | None
    tokenizer: Any
    safetensors: bool
    packed: bool
    expected: frozenset[Component]  #: what must be there afterwards

    def copied(self) -> Save:
        """As the job's state is now, whatever it trains meanwhile; the tokenizer alone is the job's own."""
        with plainly.naming_offenders(self.content):
            content, own, config, generation = copied((dict(self.content), self.weights, self.config, self.generation))
        return replace(self, content=content, weights=own, config=config, generation=generation)

    @property
    def bytes(self) -> int:
        """What it takes on the disk, about."""
        storages: dict[Any, int] = {}
        _measure((self.content, self.weights), storages)
        copies = 2 if self.packed else 1  # before and after
        return int(sum(storages.values()) * _MARGIN * copies) + _LEAST


class Parts(TypedDict, total=False):
    """What a job has to save: objects with a `state_dict`, and what it knows of its progress."""

    model: Required[Any]
    optimizer: Any
    scheduler: Any
    scaler: Any
    dataloader: Any
    tokenizer: Any  #: saved by its `save_pretrained`
    epoch: float  #: how many are done
    best_loss: float
    epoch_losses: Sequence[float]
    metrics: Mapping[str, Any] | None
    additional_state: Mapping[str, Any] | None  #: plain values and tensors


def collect(step: int, options: SaveOptions, parts: Parts) -> Save:
    """The save, of the job's own tensors. TypeError where a name is unknown, or something has no state."""
    _require_parts(parts)
    left_out = _left_out(parts.get("optimizer"), parts.get("scheduler"), options)
    content = _content(step, parts, left_out)
    bare = weights.unwrapped(parts["model"])
    config, own = _as_mapping(getattr(bare, "config", None)), weights.weights_of(parts["model"])
    if config is None:
        content[state.MODEL] = own
    given = {
        Component.CONFIG: config,
        Component.OPTIMIZER: parts.get("optimizer") if Component.OPTIMIZER not in left_out else None,
        Component.SCHEDULER: parts.get("scheduler") if Component.SCHEDULER not in left_out else None,
    }
    always = {Component.WEIGHTS, Component.TRAINING_STATE, Component.RNG}
    return Save(
        content=content,
        weights=own if config is not None else None,
        config=None if config is None else {"architectures": [type(bare).__name__], **config},
        generation=_as_mapping(getattr(bare, "generation_config", None)),
        tokenizer=parts.get("tokenizer"),
        safetensors=options.save_safetensors,
        packed=options.compress_state,
        expected=frozenset(always | {component for component, value in given.items() if value is not None}),
    )


def _require_parts(parts: Parts) -> None:
    if unknown := parts.keys() - Parts.__annotations__.keys():
        raise TypeError(f"a save takes no {min(unknown)}; it takes {', '.join(Parts.__annotations__)}")
    if "model" not in parts:
        raise TypeError("a save takes a model")
    if not hasattr(parts["model"], "state_dict"):
        raise TypeError(
            f"the model is one object with a state_dict(), not a {type(parts['model']).__name__}; of several, save the "
            "others under additional_state"
        )


def _content(step: int, parts: Parts, left_out: frozenset[str]) -> dict[str, Any]:
    """Of `training_state.pt`, but for weights that lie inside."""
    optimizer, scheduler, dataloader = (parts.get(name) for name in ("optimizer", "scheduler", "dataloader"))
    return {
        "global_step": step,
        "epoch": _epochs(parts.get("epoch", 0)),
        "best_loss": state.as_number(parts.get("best_loss", math.inf)),
        "epoch_losses": [state.as_number(loss) for loss in state.losses_in(parts.get("epoch_losses"))],
        "metrics": {name: state.as_number(value) for name, value in _named(parts, "metrics").items()},
        "additional_state": dict(_named(parts, "additional_state")),
        **_circumstances(dataloader),
        **({state.NOT_SAVED: sorted(left_out)} if left_out else {}),
        state.KINDS: fitting.kinds_of(optimizer, scheduler),
        **state.states_of(optimizer, scheduler, parts.get("scaler"), dataloader, left_out),
        state.RNG: rng.save_rng_states(),
    }


def _epochs(value: Any) -> float:
    """TypeError or ValueError where it is no number of epochs."""
    number = state.as_number(value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"an epoch is a number, not {value!r}")
    if counts.epochs(number) is None:
        raise ValueError(f"an epoch is 0 or above, not {number}")
    return number


def whole_step(step: Any) -> int:
    """TypeError or ValueError where it is no number of steps: what is saved under such a name is never found again."""
    if isinstance(step, bool):
        raise TypeError(f"a step is a whole number, not {step}")
    try:
        number = operator.index(step)
    except TypeError:
        raise TypeError(f"a step is a whole number, not {step!r}") from None
    if number < 0:
        raise ValueError(f"a step is 0 or above, not {number}")
    if counts.count(number) is None:
        raise ValueError(f"a step is below 2**63, not {number}")
    return number


def _named(parts: Parts, name: Literal["metrics", "additional_state"]) -> Mapping[str, Any]:
    value = parts.get(name) or {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a mapping, by name, not a {type(value).__name__}")
    return value


def _left_out(optimizer: Any, scheduler: Any, options: SaveOptions) -> frozenset[str]:
    switched_off = {
        Component.OPTIMIZER.value: optimizer is not None and not options.save_optimizer_state,
        Component.SCHEDULER.value: scheduler is not None and not options.save_scheduler_state,
    }
    return frozenset(name for name, off in switched_off.items() if off)


def _circumstances(dataloader: Any) -> dict[str, Any]:
    """What a resumed run should have the same: its batches, and how many processes there are."""
    found: dict[str, Any] = {"world_size": ranks.count()}
    size = getattr(dataloader, "batch_size", None)
    if isinstance(size, int):
        found["batch_size"] = size
    with suppress(TypeError, NotImplementedError):  # there is none, or nobody knows how long its data is
        found["total_batches"] = len(dataloader)
    return found


def _as_mapping(config: Any) -> Mapping[str, Any] | None:
    """A configuration's fields: of Hugging Face's own classes, of a dataclass, or as they are. None: it is no such."""
    if hasattr(config, "to_json_string"):  # those of Hugging Face; it leaves out what JSON cannot hold
        parsed: dict[str, Any] = json.loads(config.to_json_string())
        return {name: value for name, value in parsed.items() if (name, value) != ("architectures", None)}
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    return dict(config) if isinstance(config, Mapping) else None


def _measure(value: Any, storages: dict[Any, int]) -> None:
    if isinstance(value, torch.Tensor):
        if value.layout is torch.strided and not value.is_meta:
            storage = value.untyped_storage()
            storages[value.device, storage.data_ptr()] = storage.nbytes()
        else:
            count = value._nnz() if value.is_sparse else value.numel()  # noqa: SLF001 - it has no public name
            storages[id(value)] = count * (value.element_size() + _INDEX * value.dim() * value.is_sparse)
    elif isinstance(value, np.ndarray):
        storages[id(value)] = value.nbytes
    elif isinstance(value, bytes | bytearray | str):
        storages[id(value)] = len(value)
    elif isinstance(value, Mapping):
        for part in value.values():
            _measure(part, storages)
    elif isinstance(value, list | tuple):
        for part in value:
            _measure(part, storages)
