"""The tensors of a pickled value, by the path of keys to them. Bounded, whatever the value is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lastgood.facts import TensorFact
from lastgood.formats.stubs import Opaque

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEEPEST: Final = 64
_LONGEST_KEY: Final = 1_000
_MOST_LETTERS: Final = 128 << 20  # of all names together; 70,000 tensors have 4 million


def tensors_within(value: Any) -> dict[str, TensorFact]:
    """Every tensor by its name, such as `state.0.exp_avg`, in the order of the value.

    What is reached by two ways is named by the first; a tensor that stands in two places has two names.
    """
    found: dict[str, TensorFact] = {}
    letters, entered = 0, set()
    pending = [(iter([("", value)]), "")]
    while pending and letters < _MOST_LETTERS:
        for key, item in pending[-1][0]:
            name = f"{pending[-1][1]}{key}"
            letters += len(name)
            if isinstance(item, TensorFact):
                found[name if name not in found else f"{name}#{len(found)}"] = item
            elif isinstance(item, _HOLDERS) and id(item) not in entered and len(pending) <= _DEEPEST:
                entered.add(id(item))
                pending.append((_parts(item), f"{name}." if len(pending) > 1 else ""))
                break
        else:
            pending.pop()
    return found


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What lies in a container and may be or hold a tensor, with its key."""
    if isinstance(value, Opaque):
        yield from _parts_of_stub(value)
    elif isinstance(value, dict):
        yield from _entries(value)
    else:
        yield from ((str(place), item) for place, item in enumerate(value) if isinstance(item, _HOLDERS))


def _parts_of_stub(stub: Opaque) -> Iterator[tuple[str, Any]]:
    yield from _parts(stub.args)
    yield from _parts(stub.items_added)
    yield from _entries(stub)
    # With slots, the state is two: the attributes, and the slots.
    both = isinstance(stub.state, tuple) and len(stub.state) == 2
    for state in stub.state if both else (stub.state,):
        if isinstance(state, _HOLDERS):
            yield from [("state", state)] if isinstance(state, TensorFact) else _parts(state)


def _entries(entries: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    for place, (key, item) in enumerate(entries.items()):
        if isinstance(item, _HOLDERS):
            named = isinstance(key, str | int | float | bool) and not (isinstance(key, str) and len(key) > _LONGEST_KEY)
            yield str(key) if named else f"#{place}", item


_HOLDERS: Final = (TensorFact, dict, list, tuple)
