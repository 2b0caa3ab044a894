"""Which checkpoint somebody means: by its name, its id or its path."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from lastgood.errors import RunAmbiguous, Unknown
from lastgood.life import IN_PLACE, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lastgood.calling import Service
    from lastgood.settings import Settings

    Fits = Callable[[Mapping[str, Any]], bool]

_PAGE: Final = 500


def in_place(found: Mapping[str, Any]) -> bool:
    return found["state"] in IN_PLACE


def to_undo(found: Mapping[str, Any]) -> bool:
    return found["state"] == State.TRASHED or (in_place(found) and found["failures"] > 0)


def checkpoint_meant(service: Service, settings: Settings, what: str, run: str | None, fits: Fits) -> dict[str, Any]:
    """Of several generations the newest one that fits, or the newest. RunAmbiguous where several runs have it."""
    if what.isdecimal():
        found: dict[str, Any] = service.get(f"/checkpoints/{what}")
        return found
    is_meant = _by_path(what, settings) if os.sep in what else _by_name(what)
    meant = [found for found in _all(service, run) if is_meant(found)]
    runs = sorted({found["run"] for found in meant})
    if len(runs) > 1:
        raise RunAmbiguous(f"several runs have a {what}: {', '.join(runs)}; name one with --run", runs=runs)
    if not meant:
        where = f" in run {run}" if run else ""
        raise Unknown(f"there is no {what}{where}; `lastgood retention` shows what there is")
    return max(meant, key=lambda found: (fits(found), found["id"]))


def _by_name(name: str) -> Fits:
    return lambda found: bool(found["name"] == name)


def _by_path(path: str, settings: Settings) -> Fits:
    from lastgood.client import rebased

    here = _place(path)
    return lambda found: _place(rebased(found, settings.root)) == here


def _place(path: str) -> str:
    """A link is not what it points to."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def _all(service: Service, run: str | None) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while True:
        page = service.get("/checkpoints", {"run": run, "limit": _PAGE, "cursor": cursor})
        yield from page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return
