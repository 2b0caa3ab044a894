"""What several checks say in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from lastgood.facts import Component, Facts

_NAMED: Final = 3


def some(names: Collection[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(sorted(names)[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


def home_of(facts: Facts, component: Component) -> str | None:
    """The file in which the component lies, or the first of several."""
    return next(iter(facts.homes.get(component, ())), None)
