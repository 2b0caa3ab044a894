"""How frameworks lay out a checkpoint: one file a layout, and the list of them, the most telling first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lastgood.layouts import forgather, hf_trainer, plain, strangers, unknown
from lastgood.layouts.base import Layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lastgood.facts import FileFacts, Manifest

__all__ = ["LAYOUTS", "UNKNOWN", "Layout", "excuse_strangers", "recognise"]

LAYOUTS: Final[tuple[Layout, ...]] = (hf_trainer.LAYOUT, plain.LAYOUT, forgather.LAYOUT)
UNKNOWN: Final[Layout] = unknown.LAYOUT


def recognise(names: Iterable[str]) -> Layout:
    """The layout of a checkpoint with files of these names; `unknown` where none fits."""
    found = frozenset(names)
    return next((layout for layout in LAYOUTS if layout.recognises(found)), UNKNOWN)


def excuse_strangers(
    names: frozenset[str], files: Mapping[str, FileFacts], *known: Manifest | None
) -> Mapping[str, FileFacts]:
    """The files, with mere warnings of those of other formats that are not the checkpoint's own.

    `known`: what of it, and of the checkpoint before, was verified. Where no layout fits, each may be its own.
    """
    layout = recognise(names)
    if layout is UNKNOWN:
        return files
    homes = layout.read(names, {}).homes
    return strangers.with_strangers_excused(names, homes, files, strangers.known_as_sound(*known))
