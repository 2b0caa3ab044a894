"""What the saved state of a data loader must be like for the loader to take it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lastgood.findings import Code, Finding
from lastgood.formats.inert_pickle import Opaque
from lastgood.layouts import counts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# What ResumableLoader saves, and of it what it must have to go on.
_PLACE_OF_OURS: Final = ("seed", "length", "epoch", "position")
_OF_OUR_LOADER: Final = frozenset({*_PLACE_OF_OURS, "batch_size", "batches", "workers"})


def misshapen(home: str, value: Any) -> Iterator[Finding]:
    """The state of our own loader, or of torchdata's, that it would not take. Other loaders may save anything."""
    if isinstance(value, dict) and not isinstance(value, Opaque):
        for name in _unfit_in_loader(value):
            told = counts.shortened(value[name]) if name in value else "missing"
            yield Finding(Code.STATE_SHAPE, home, f"the {name} of the dataloader state is {told}")


def unfit_in_place(state: Mapping[Any, Any]) -> Iterator[str]:
    """What ResumableLoader cannot go on from, by name. A seed may be below 0, and nothing else."""
    return (name for name in _PLACE_OF_OURS if not _is_count(state.get(name), signed=name == "seed"))


def _unfit_in_loader(state: Mapping[Any, Any]) -> Iterator[str]:
    """By name. One of them may be lost, and the others still tell whose state it is."""
    if len(_OF_OUR_LOADER & state.keys()) >= len(_OF_OUR_LOADER) - 1:
        yield from unfit_in_place(state)
    if "_num_yielded" in state and not _is_count(state["_num_yielded"]):
        yield "_num_yielded"
    if "_snapshot" in state and not isinstance(state["_snapshot"], dict | Opaque):
        yield "_snapshot"


def _is_count(value: Any, *, signed: bool = False) -> bool:
    return type(value) is int and (signed or value >= 0)
