"""How frameworks lay out a checkpoint: one file a layout, and the list of them, the most telling first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lastgood.layouts import forgather, hf_trainer, plain, unknown
from lastgood.layouts.base import Layout

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LAYOUTS", "UNKNOWN", "Layout", "recognise"]

LAYOUTS: Final[tuple[Layout, ...]] = (hf_trainer.LAYOUT, plain.LAYOUT, forgather.LAYOUT)
UNKNOWN: Final[Layout] = unknown.LAYOUT


def recognise(names: Iterable[str]) -> Layout:
    """The layout of a checkpoint with files of these names; `unknown` where none fits."""
    found = frozenset(names)
    return next((layout for layout in LAYOUTS if layout.recognises(found)), UNKNOWN)
