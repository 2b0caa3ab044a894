"""What the saved state of a scheduler must be like to be gone on from. Pure.

After torch/optim/lr_scheduler.py of torch 2.13.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from lastgood.findings import Code, Finding
from lastgood.formats.inert_pickle import Opaque
from lastgood.layouts import counts
from lastgood.layouts.within import parts_of, within

if TYPE_CHECKING:
    from collections.abc import Iterator

# What schedulers count by, or compute with: torch's, timm's, DeepSpeed's, Megatron's, and what people call their own.
_OF_SCHEDULERS: Final = re.compile(
    r"step|epoch|iter|lr|rate|batch|update|warm|decay|sched|best|count|index|time|token|sample|cycle|factor|gamma"
    r"|alpha|value|metric|milestone|progress|curr?(?:ent)?(?:_|$)|pos|call|done|total|example|frac|mult|scale|stage"
    r"|phase|round|tick|elapsed|cursor|(?:^|_)(?:[ijknt]|it|num)(?:_|$)",
    re.IGNORECASE,
)
_NUMBERS_OF_SCHEDULERS: Final = ("last_epoch", "_step_count", "_last_lr", "base_lrs")


def unsound(home: str, value: Any) -> Iterator[Finding]:
    """Numbers that are none."""
    found = next(_unsound_numbers(value), None)
    if found is not None:
        yield Finding(Code.NOT_A_NUMBER, home, f"{found} in the scheduler state")


def misshapen(home: str, value: Any) -> Iterator[Finding]:
    """What no scheduler goes on from: a count that is none, or nothing that one counts by.

    torch's loaders take whatever is there, and one that finds nothing of its own begins anew without a word.
    """
    for why in _miscounted(value):
        yield Finding(Code.SCHEDULER_STRANGE, home, why)
    if value and not any(_counts_something(part) for _keys, part in within(value, _containers_of)):
        names = counts.shortened(sorted(map(str, value))) if isinstance(value, dict) else counts.shortened(value)
        yield Finding(Code.SCHEDULER_STRANGE, home, f"nothing that a scheduler counts by: it holds {names}")


def schedulers_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """Those side by side, or those that a scheduler is made of."""
    return parts_of(value.get("_schedulers") if isinstance(value, dict) else value)


def _unsound_numbers(value: Any) -> Iterator[str]:
    """Of a scheduler, and of those that it is made of. Its `best` is infinite until something was measured."""
    seen: set[int] = set()  # as `within`
    for _keys, part in within(value, schedulers_of):
        for name in _NUMBERS_OF_SCHEDULERS if isinstance(part, dict) else ():
            told = part.get(name)
            numbers = told if isinstance(told, list | tuple) else (told,)
            if id(told) in seen:
                continue
            seen.add(id(told))
            yield from (f"{name} is {one}" for one in numbers if isinstance(one, float) and not isfinite(one))


def _miscounted(value: Any) -> Iterator[str]:
    """A scheduler's count that is none: its next step would end in an error, or lead anywhere."""
    for _keys, part in within(value, schedulers_of):
        count = part.get("last_epoch", 0) if isinstance(part, dict) else 0
        if count is None or isinstance(count, str | list | tuple | dict) or (isinstance(count, int) and count < -1):
            yield f"its last_epoch is {counts.shortened(count)}"


def _containers_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """What a list holds, and of a dict what holds more."""
    inner = parts_of(value)
    return (item for item in inner if not isinstance(value, dict) or isinstance(item[1], dict | list | tuple))


def _counts_something(value: Any) -> bool:
    """A dict by its names, and anything else but a text by itself."""
    if isinstance(value, dict) and not isinstance(value, Opaque):
        return any(not isinstance(key, str) or _OF_SCHEDULERS.search(key) for key in value)
    return isinstance(value, Opaque) or not isinstance(value, list | tuple | str)
