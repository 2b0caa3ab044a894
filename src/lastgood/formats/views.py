"""Where a file's floating-point numbers lie, and what can be seen in them: plain values, no numpy."""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING, Final, NamedTuple

from lastgood.facts import Numbers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from lastgood.facts import TensorFact

#: Bytes of one number, by safetensors' names; a complex number is two. What is not here has no NaN and no Inf.
WIDTHS: Final[Mapping[str, int]] = {
    "F64": 8, "C128": 8,
    "F32": 4, "C64": 4,
    "F16": 2, "BF16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1, "F8_E8M0": 1,
}  # fmt: skip
_MOST_LOOKS_AT_A_BYTE: Final = 4


class View(NamedTuple):
    """Bytes [start, end) of a file, seen as numbers."""

    start: int
    end: int
    dtype: str


class Look(IntFlag):
    """What a tensor holds. Where it holds a finite number other than zero, zeros need not be mentioned."""

    NOTHING = 0
    ZERO = 1
    FINITE = 2
    PLUS_INFINITY = 4
    MINUS_INFINITY = 8
    NOT_A_NUMBER = 16


_INFINITY: Final = Look.PLUS_INFINITY | Look.MINUS_INFINITY
_MASK: Final = Look.ZERO | Look.MINUS_INFINITY  # of attention: such a tensor is meant to hold -inf


def view_of(tensor: TensorFact, size: int) -> View | None:
    """Where its numbers lie in a file of this size; None where there are none to look at."""
    width = WIDTHS.get(tensor.dtype)
    if width is None or tensor.start is None:
        return None
    extent = tensor.bytes if tensor.extent is None else tensor.extent
    end = tensor.start + extent - extent % width
    return View(tensor.start, end, tensor.dtype) if 0 <= tensor.start < end <= size else None


def views_of(tensors: Mapping[str, TensorFact], size: int) -> list[View]:
    """The different views, by where they begin."""
    views = sorted({view for tensor in tensors.values() if (view := view_of(tensor, size))})
    # A hostile file names one storage a million times; an honest one hardly twice, in another way.
    allowed, kept = _MOST_LOOKS_AT_A_BYTE * size, []
    for view in views:
        allowed -= view.end - view.start
        if allowed >= 0:
            kept.append(view)
    return kept


def numbers_of(tensors: Mapping[str, TensorFact], size: int, looks: Mapping[View, Look]) -> Numbers:
    """What was seen in each view, under every name that the view has."""
    seen = {name: _look_at(tensor, size, looks) for name, tensor in tensors.items()}
    kinds = set(seen.values())
    return Numbers(
        nan=_names(seen, {look for look in kinds if look & Look.NOT_A_NUMBER}),
        inf=_names(seen, {look for look in kinds if look & _INFINITY and look & ~_MASK}),
        zero=_names(seen, {Look.ZERO}),
    )


def _look_at(tensor: TensorFact, size: int, looks: Mapping[View, Look]) -> Look:
    view = view_of(tensor, size)
    look = looks.get(view, Look.NOTHING) if view else Look.NOTHING
    if tensor.extent is not None and tensor.extent > tensor.bytes:
        # Strides leave gaps, and what is not finite may lie in one of them: rubbish that no tensor shows.
        return look if look is Look.ZERO else Look.NOTHING
    return look


def _names(seen: Mapping[str, Look], wanted: AbstractSet[Look]) -> frozenset[str]:
    return frozenset(name for name, look in seen.items() if look in wanted) if wanted else frozenset()
