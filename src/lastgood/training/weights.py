"""A model's weights under its own names, whatever wraps it; as files, and from the files of other writers."""

from __future__ import annotations

import errno
import functools
import json
import logging
import os
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import safetensors.torch
import torch

from lastgood import naming
from lastgood.checks.telling import some
from lastgood.errors import Damaged, NotACheckpoint
from lastgood.layouts import base
from lastgood.training import plainly, ranks
from lastgood.training.data import is_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from lastgood.training.state import Load

_log = logging.getLogger("lastgood")
SAFETENSORS: Final = "model.safetensors"
TORCH: Final = "pytorch_model.bin"

Weights = dict[str, Any]


def unwrapped(model: Any) -> Any:
    """The model itself, out of torch.compile and the data-parallel wrappers."""
    while True:
        if isinstance(model, torch.nn.parallel.DistributedDataParallel | torch.nn.DataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), torch.nn.Module):
            model = inner
        else:
            return model


def require_whole(model: Any) -> None:
    """TypeError where each process holds a part of it alone: what the first one saves would look as if it were all."""
    if not isinstance(model, torch.nn.Module):
        return
    in_parts = any(is_of(parameter, "torch.distributed.tensor") for parameter in model.parameters())
    if in_parts or (ranks.count() > 1 and any(is_of(module, "torch.distributed.fsdp") for module in model.modules())):
        raise TypeError(
            "the model is sharded over several processes (FSDP, tensor parallelism), and the first one alone saves: "
            "save it by torch.distributed.checkpoint"
        )


def weights_of(model: Any) -> Weights:
    """The model's state under its own names; parts of it may be compiled on their own."""
    return {name.replace(naming.COMPILED, ""): value for name, value in unwrapped(model).state_dict().items()}


def write_weights(folder: str, weights: Weights, *, as_safetensors: bool) -> None:
    """The weights as one file. A torch file also where there are some that safetensors cannot hold.

    OSError where it cannot be written.
    """
    if as_safetensors and all(map(_fits_safetensors, weights.values())):
        path = os.path.join(folder, SAFETENSORS)
        try:
            safetensors.torch.save_file(without_shared(weights), path, metadata={"format": "pt"})
        except safetensors.SafetensorError as error:
            raise OSError(errno.EIO, str(error), path) from error
    else:
        plainly.save(weights, os.path.join(folder, TORCH))
        plainly.require(os.path.join(folder, TORCH))


def _fits_safetensors(value: Any) -> bool:
    """Not what a module keeps beside tensors, nor tensors that are sparse, quantised or of a kind that it knows not."""
    if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.layout is not torch.strided or value.is_quantized:
        return False
    return _knows(value.dtype)


@functools.cache
def _knows(dtype: torch.dtype) -> bool:
    try:
        safetensors.torch.save({"": torch.empty(0, dtype=dtype)})
    except (KeyError, ValueError, safetensors.SafetensorError):
        return False
    return True


def without_shared(weights: Weights) -> Weights:
    """Each tensor in memory of its own, those that are one and the same once: safetensors knows no sharing."""
    kept: Weights = {}
    resolved: list[Any] = []  # kept: another one would come to lie where the last one was
    seen: set[Any] = set()
    storages: set[Any] = set()
    for name, lazy in weights.items():
        tensor = lazy.resolve_conj().resolve_neg()
        resolved.append(tensor)
        memory, storage = _memory(tensor), (tensor.device, tensor.untyped_storage().data_ptr())
        if memory is not None and memory in seen:
            continue
        kept[name] = tensor.clone().contiguous() if storage in storages else tensor.contiguous()
        seen.add(memory)
        storages.add(storage)
    return kept


def read_weights(folder: str, load: Load, inside: Any = None) -> Weights:
    """Those that lie inside the training state, or in the folder's own files, one or several.

    NotACheckpoint where there are none. Damaged where something else is there, or two files hold the same tensor:
    nothing tells which one is meant.
    """
    if isinstance(inside, Mapping) and inside:
        return _named_weights(inside, f"the training state in {folder}")
    files = _weight_files(folder)
    if not files:
        raise NotACheckpoint(f"{folder} holds no weights")
    weights: Weights = {}
    for name in files:
        path = os.path.join(folder, name)
        found = safetensors.torch.load_file(path) if name.endswith(".safetensors") else load(path)
        named = _named_weights(found, path)
        if twice := named.keys() & weights.keys():
            raise Damaged(f"{path}: {min(twice)} is in another file as well: files of two saves may be mixed")
        weights |= named
    return weights


def _named_weights(found: Any, where: str) -> Weights:
    if not isinstance(found, Mapping):
        raise Damaged(f"{where} holds no weights but a {type(found).__name__}")
    if strange := [name for name in found if not isinstance(name, str)]:
        raise Damaged(f"{where} holds no weights of one model: an entry is called {strange[0]!r}")
    return dict(found)


def _weight_files(folder: str) -> Sequence[str]:
    """As transformers chooses: a whole file before an index, safetensors before torch. Without an index, all shards."""
    names = frozenset(os.listdir(folder))
    for ending in (".safetensors", ".bin"):
        if whole := [name for name in base.SINGLE_WEIGHTS if name.endswith(ending) and name in names]:
            return whole[:1]
        index = next((name for name in base.INDEXES if name in names and name.endswith(f"{ending}.index.json")), None)
        if index is not None:
            with open(os.path.join(folder, index), encoding="utf-8") as file:
                return sorted(set(json.load(file)["weight_map"].values()))
        if shards := [name for name in base.weight_files(names) if name.endswith(ending)]:
            return shards
    return ()


def load_weights(model: Any, weights: Weights, *, strict: bool) -> bool:
    """Puts the weights into the model. Whether all had their place; those that had none are said.

    RuntimeError names those of another shape and, with `strict`, those without a place: the model is as it was then.
    """
    target = unwrapped(model)
    wanted = target.state_dict()
    others = of_other_kinds(model, weights)
    if others:
        name, here, there = others[0]
        _log.warning("%s is %s here, and was saved as %s: it is rounded", name, here, there)
    places = fitted(weights, wanted)
    state = {name: weights[saved] for name, saved in places.items()}
    state |= {name: weights[name] for name in weights.keys() - places.values()}
    state = _with_shared(state, wanted)
    with _as_before_on_error(wanted, state):
        found = target.load_state_dict(state, strict=strict)
    if found.missing_keys:
        _log.warning("not saved, and as it was in the model: %s", some(found.missing_keys))
    if found.unexpected_keys:
        _log.warning("saved, and not in the model: %s", some(found.unexpected_keys))
    return not (found.missing_keys or found.unexpected_keys or others)


@contextmanager
def _as_before_on_error(wanted: Mapping[str, Any], state: Weights) -> Iterator[None]:
    """torch puts in what fits before it complains. Copied is only a model that the weights seem not to fit."""
    fits = wanted.keys() == state.keys() and all(map(_is_of_one_shape, wanted.values(), map(state.get, wanted)))
    tensors = {} if fits else {name: tensor for name, tensor in wanted.items() if _has_values(tensor)}
    before = {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(before[name])
        raise


def _has_values(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not value.is_meta


def _is_of_one_shape(wanted: Any, saved: Any) -> bool:
    return not isinstance(wanted, torch.Tensor) or getattr(saved, "shape", None) == wanted.shape


def of_other_kinds(model: Any, saved: Weights) -> list[tuple[str, torch.dtype, torch.dtype]]:
    """Of the model's tensors those that were saved in another kind of numbers: name, kind here, kind there."""
    wanted = unwrapped(model).state_dict()
    pairs = ((name, wanted[name], saved[place]) for name, place in fitted(saved, wanted).items())
    tensors = ((name, *both) for name, *both in pairs if all(isinstance(each, torch.Tensor) for each in both))
    return [(name, here.dtype, there.dtype) for name, here, there in tensors if here.dtype is not there.dtype]


def fitted(saved: Collection[str], wanted: Collection[str]) -> dict[str, str]:
    """By each wanted name, the one under which it was saved: the prefixes of wrappers, on either side, do not count."""
    by_bare_name = {bare: name for name, bare in naming.bare_names(saved).items()}
    places: dict[str, str] = {}
    for name, bare in naming.bare_names(wanted).items():
        # Bare names first: among names with a wrapper's prefix, an equal one may be that of another tensor.
        found = by_bare_name.get(bare, name)
        if found in saved:
            places[name] = found
    return places


def _with_shared(state: Weights, wanted: Mapping[str, Any]) -> Weights:
    """Under each wanted name that was not saved, what was saved of the same tensor under another."""
    saved = {memory: state[name] for name, tensor in wanted.items() if name in state and (memory := _memory(tensor))}
    lacking = {name: _memory(tensor) for name, tensor in wanted.items() if name not in state}
    return state | {name: saved[memory] for name, memory in lacking.items() if memory in saved}


def _memory(value: Any) -> tuple[Any, ...] | None:
    """Where the tensor lies; None where it has no bytes there. Tensors that agree in it are the same."""
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided or not value.numel() or value.is_meta:
        return None
    return value.device, value.data_ptr(), value.dtype, tuple(value.shape), value.stride()
