"""The numbers that files tell, as far as they can be believed: a file may hold anything. Pure."""

from __future__ import annotations

import reprlib
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from lastgood.facts import TensorFact

if TYPE_CHECKING:
    from collections.abc import Mapping

_COUNTS: Final = frozenset(  # no metrics
    {"global_step", "step", "epoch", "raw_epoch", "total_batches", "batch_size", "world_size"}
)
_MOST: Final = 1 << 63  # whatever is counted, it is less
_SHOWN: Final = 40


def number(value: Any) -> float | None:
    """The value, where it is a finite number, and no float would overflow: JSON files may say NaN, answers may not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    sound = isfinite(value) if isinstance(value, float) else -_MOST < value < _MOST
    return value if sound else None


def numbers(values: Any) -> tuple[float, ...]:
    """Those of a list's entries that are finite numbers."""
    found = [number(value) for value in values] if isinstance(values, list | tuple) else []
    return tuple(float(value) for value in found if value is not None)


def metrics_in(state: Mapping[Any, Any]) -> dict[str, float]:
    """What was measured, where it stands among the state's own entries: `best_loss`, `metrics.f1`."""
    nested = state.get("metrics")
    entries = {**state, **(nested if isinstance(nested, dict) else {})}
    measured = ((str(key), number(value)) for key, value in entries.items() if str(key) not in _COUNTS)
    return {key: value for key, value in measured if value is not None}


def whole_number(value: Any) -> int | None:
    found = number(value)
    return found if isinstance(found, int) else None


def count(value: Any) -> int | None:
    """The value, where it can count what was done. The number in a tensor is read as a float."""
    found = whole_number(int(value) if isinstance(value, float) and value.is_integer() else value)
    return found if found is not None and found >= 0 else None


def epochs(value: Any) -> float | None:
    """The value, where it can be how many epochs were done, or which one is in work."""
    found = number(value)
    return found if found is not None and 0 <= found < _MOST else None


def shortened(value: Any) -> str:
    """As a person reads it: a file may hold anything."""
    if isinstance(value, TensorFact):
        return "a tensor"
    try:
        text = reprlib.repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        text = "a huge number"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
