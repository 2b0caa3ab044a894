"""Which run a folder is, and where a run lies: by the watched folders, or else by what things are called."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lastgood import naming
from lastgood.errors import RunAmbiguous

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def folder_of_run(run: str, roots: Sequence[str]) -> str | None:
    """Where a run lies, by its name. `roots`: the watched folders. None where it lies below none of them."""
    if len(roots) == 1:
        return os.path.normpath(os.path.join(roots[0], run))
    for root, name in naming.root_names(roots).items():
        if run == name or run.startswith(f"{name}/"):
            return os.path.normpath(f"{root}/{run.removeprefix(name)}")
    return None


def run_meant(folder: str, run: str | None, roots: Sequence[str], stored: Collection[str]) -> tuple[str, str] | None:
    """Which of the stored runs a job means by this folder, and where it lies. None where none of them can be it.

    `run`: its name, or its path below the folder. `roots`: the watched folders, where it lies below one of them; then
    its place is its name. RunAmbiguous where more than one can be it, or nothing tells: a job is never handed another
    job's checkpoint.
    """
    if roots:
        return _run_at(folder, run, roots, stored)
    place = os.path.normpath(os.path.join(folder, run or naming.ROOT_FOLDER))
    if run is not None and run != naming.ROOT_FOLDER and run in stored:
        return run, place
    alike = [name for name in stored if name.rpartition("/")[2] == os.path.basename(place)]
    if set(stored) == {naming.ROOT_FOLDER}:
        alike = [naming.ROOT_FOLDER]
    if len(alike) == 1:
        return alike[0], place
    if not alike and (not stored or run not in (None, naming.ROOT_FOLDER)):
        return None
    known = sorted(alike or stored)
    raise RunAmbiguous(
        f"nothing tells which run {place} is, of those with copies: {', '.join(known)}; name one with --run, set "
        f"LASTGOOD_ROOT to the folder that the runs lie in, or fetch it by: lastgood pull RUN --into {place}",
        runs=known,
    )


def _run_at(folder: str, run: str | None, roots: Sequence[str], stored: Collection[str]) -> tuple[str, str] | None:
    places = {name: place for name in stored if (place := folder_of_run(name, roots))}
    below = {name: place for name, place in places.items() if is_below(place, folder)}
    if run is not None and run in below:
        return run, below[run]
    if run is not None:
        wanted = os.path.realpath(os.path.join(folder, run))
        below = {name: place for name, place in below.items() if os.path.realpath(place) == wanted}
    if len(below) > 1:
        known = sorted(below)
        raise RunAmbiguous(f"there are copies of several runs: {', '.join(known)}; name one with --run", runs=known)
    return next(iter(below.items()), None)


def is_below(path: str, folder: str) -> bool:
    path, folder = os.path.realpath(path), os.path.realpath(folder)
    return path == folder or path.startswith(folder.rstrip("/") + "/")
