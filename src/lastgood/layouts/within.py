"""What lies in a saved state, and in what lies in it: each thing once, whatever a hostile pickle shares. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Keys = tuple[Any, ...]

_DEEPEST: Final = 4  # wrappers put the state of torch's optimizer a few levels down, or several of them side by side


def within(value: Any, parts: Callable[[Any], Iterable[tuple[Any, Any]]]) -> Iterator[tuple[Keys, Any]]:
    """The value, its parts and theirs, a few levels down, each with the keys that lead to it; the nearest first.

    What lies in several places is told once: a short pickle can name the same list a billion times over.
    """
    seen: set[int] = set()
    level: list[tuple[Keys, Any]] = [((), value)]
    for _ in range(_DEEPEST + 1):
        below: list[tuple[Keys, Any]] = []
        for keys, part in level:
            if isinstance(part, dict | list | tuple):
                if id(part) in seen:
                    continue
                seen.add(id(part))
                below.extend(((*keys, key), inner) for key, inner in parts(part))
            yield keys, part
        level = below


def each_once(values: Iterable[dict[Any, Any]]) -> list[dict[Any, Any]]:
    """Without those that are there a second time: a short pickle can name the same one a million times over."""
    return list({id(value): value for value in values}.values())


def parts_of(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
