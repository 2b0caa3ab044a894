"""`.lastgood-mending.json` in a checkpoint: which files are being put in the place of which.

It is on the disk before the first one is put there, and goes when all are: what a kill leaves, it explains.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

from lastgood import durable, naming
from lastgood.errors import CannotMend

_VERSION: Final = 1
_JOURNAL: Final = f"{naming.OWN_PREFIX}-mending.json"  # ours, as the next: no inventory sees it
MADE: Final = f"{naming.OWN_PREFIX}-mending-"

Mark = tuple[int, int, int]  #: inode (0 where they change by themselves), size, time of modification


@dataclass(frozen=True, slots=True)
class Swap:
    """One file that is put there. Paths are relative to the checkpoint."""

    file: str
    made: Mark  #: of what is put there
    digest: str  #: of the same: copied or touched, it is known by this
    before: Mark | None  #: of what lies there; None: nothing
    kept: str | None  #: as what that is kept


@dataclass(frozen=True, slots=True)
class Journal:
    swaps: tuple[Swap, ...]
    backup: bool  #: what lay there stays as `Swap.kept`
    done: bool = False  #: all of them are in place, and it is good so


def place_beside(folder: str, file: str) -> str:
    """Where to make what will be put in the place of the file."""
    below, name = os.path.split(os.path.join(folder, file))
    return os.path.join(below, MADE + name)


def write(folder: str, journal: Journal) -> None:
    text = json.dumps({"lastgood_mending": _VERSION, **asdict(journal)}, indent=2)
    durable.write_text(_path(folder), text, beside=place_beside(folder, _JOURNAL))
    durable.sync(folder)


def read(folder: str) -> Journal | None:
    """None where there is none. CannotMend where it does not tell what was done."""
    path = _path(folder)
    try:
        with open(path, encoding="utf-8") as file:
            return _parsed(json.load(file))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        if isinstance(error, FileNotFoundError) and not is_there(folder):
            return None
        raise CannotMend(
            f"{path} does not tell what an earlier mending did ({error!r}): see to the files that end in "
            f"{naming.BACKUP}, and take it away"
        ) from error


def is_there(folder: str) -> bool:
    return os.path.lexists(_path(folder))


def forget(folder: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(_path(folder))
    durable.sync(folder)


def _path(folder: str) -> str:
    return os.path.join(folder, _JOURNAL)


def _parsed(told: dict[str, Any]) -> Journal:
    """ValueError where it is of another version, or names what does not lie in the checkpoint."""
    if told["lastgood_mending"] != _VERSION:
        raise ValueError(f"version {told['lastgood_mending']}")
    return Journal(tuple(_swap_of(entry) for entry in told["swaps"]), bool(told["backup"]), bool(told["done"]))


def _swap_of(entry: dict[str, Any]) -> Swap:
    for path in filter(None, (entry["file"], entry["kept"])):
        if os.path.isabs(path) or ".." in path.split("/") or "\0" in path:
            raise ValueError(path)
    before = entry["before"] and _mark_of(entry["before"])
    return Swap(entry["file"], _mark_of(entry["made"]), str(entry["digest"]), before or None, entry["kept"] or None)


def _mark_of(value: list[int]) -> Mark:
    inode, size, mtime_ns = map(int, value)
    return inode, size, mtime_ns
