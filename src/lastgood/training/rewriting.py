"""Files of torch, written anew for a checkpoint that is mended. What is kept of them is loaded inertly."""

from __future__ import annotations

import collections
import os
import pickle
from collections.abc import Mapping
from typing import Any, Final

from lastgood import naming
from lastgood.errors import CannotMend
from lastgood.training import plainly, rng, state

# As Trainer calls them: transformers, `Trainer._save_rng_state`.
_OF_TRAINER: Final = {
    "python": "python_rng_state",
    "numpy": "numpy_rng_state",
    "cpu": "torch_rng_state",
    "cuda": "cuda_rng_state",
}


def require_loadable(path: str) -> None:
    """CannotMend where the file, if there is one, holds what could not be loaded without trusting it."""
    if os.path.exists(path):
        _loaded(path)


def write_state(before: str, path: str, entries: Mapping[str, Any], *, random: bool, names: Mapping[str, str]) -> None:
    """The training state at `before`, if there is one, with these entries and states; weights inside by these names.

    CannotMend where it holds what could not be loaded without trusting it.
    """
    found = _loaded(before) if os.path.exists(before) else {}
    content = {**found, **entries}
    if random:
        known = _known(content.get(state.RNG))
        content[state.RNG] = {**rng.without(known, rng.save_rng_states()), **known, naming.BASELINE: True}
    if names:
        content[state.MODEL] = _renamed(content[state.MODEL], names)
    _save(content, path)


def write_random_states(before: str | None, path: str) -> None:
    """Trainer's `rng_state.pth`: what is there, and what is missing as it is now. None: nothing of it is kept."""
    known = _known(_loaded(before)) if before is not None and os.path.exists(before) else {}
    now = rng.save_rng_states()
    own = {ours: now[theirs] for ours, theirs in _OF_TRAINER.items() if theirs in now}
    _save({**own, **known, naming.BASELINE: True}, path)


def rename_tensors(before: str, path: str, names: Mapping[str, str]) -> None:
    """A file of `torch.save` that holds weights by their names, with other ones."""
    _save(_renamed(_loaded(before), names), path)


def _renamed(weights: Any, names: Mapping[str, str]) -> Any:
    """With the versions of its modules, which torch keeps beside a state and by which it loads older ones."""
    made = type(weights)({names.get(name, name): value for name, value in weights.items()})
    versions = getattr(weights, "_metadata", None)
    if isinstance(versions, Mapping):
        parallel = any(old.startswith(naming.PARALLEL) and old != new for old, new in names.items())
        made._metadata = collections.OrderedDict(  # noqa: SLF001 - torch's own name
            (_without_wrappers(path, parallel=parallel), value) for path, value in versions.items()
        )
    return made


def _without_wrappers(path: str, *, parallel: bool) -> str:
    """Of a module: as `naming.bare_names` of tensors."""
    parts = [part for part in path.split(".") if f"{part}." != naming.COMPILED]
    while parallel and parts and f"{parts[0]}." == naming.PARALLEL:
        del parts[0]
    return ".".join(parts)


def _known(states: Any) -> dict[str, Any]:
    """Those that can be set. Of anything else than a mapping nothing tells whose states they are."""
    found = states if isinstance(states, Mapping) else {}
    return {key: value for key, value in found.items() if value is not None and rng.is_restorable(key, value)}


def _loaded(path: str) -> Any:
    try:
        return plainly.load(path, mapped=True)
    except pickle.UnpicklingError as error:
        why = " ".join(str(error).split())[:200]
        raise CannotMend(f"{path} holds more than tensors and plain values, and is not rewritten: {why}") from None


def _save(content: Any, path: str) -> None:
    plainly.save(content, path)
    plainly.require(path)  # what cannot be loaded again must not pass for mended
