"""Which run somebody means, where it lies, and whether what is known of it can be vouched for. Pure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from lastgood import naming
from lastgood.errors import NoCheckpointsYet, NotReady, RunAmbiguous, Unknown
from lastgood_service.readiness import cloud_unknown, frozen_roots, not_ready, trouble_of_worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from lastgood_service.knowledge import Known
    from lastgood_service.readiness import Obstacle


def choose_run(known: Known, run: str | None) -> str:
    """The run that was asked for, or the only one: a job is never handed another job's checkpoint.

    One that is in the cloud alone counts where it is named, and where nothing lies here at all.
    """
    copies = known.copies
    names = list(known.records) if run is None and not known.is_bare else all_runs(known)
    doubts = [cloud_unknown(copies)] if copies is not None and not copies.listed else []
    return _choose(known, names, run, doubts)


def choose_run_here(known: Known, run: str | None) -> str:
    """The same of what was saved here."""
    return _choose(known, list(known.records), run, [])


def all_runs(known: Known) -> list[str]:
    """The names of those that have saved something here, and of those in the cloud."""
    return sorted({*known.records, *(known.copies.runs if known.copies else ())})


def not_vouched_for(known: Known, run: str, now: datetime) -> NotReady | None:
    """Why nothing that is known of this run can be vouched for at the moment; None where it can."""
    if trouble := trouble_of_worker(known.worker, now):
        return not_ready([trouble])
    root = where(known, run).root
    frozen = [obstacle for obstacle in frozen_roots(known.roots) if obstacle.root == root]
    return not_ready(frozen) if frozen else None


class Where(NamedTuple):
    root: str
    path: str


def where(known: Known, run: str) -> Where:
    """Where a run lies; of one that is in the cloud alone, where it would."""
    if found := known.runs.get(run):
        return Where(found.root, found.path)
    root, relative = _placed(known.watched, run)
    return Where(root, os.path.normpath(os.path.join(root, relative)))


def _placed(roots: Sequence[str], run: str) -> tuple[str, str]:
    """The root that it is called after, where there are several; the first one, where it is called after none."""
    names = naming.root_names(roots) if len(roots) > 1 else {}
    for root, name in names.items():
        if run == name or run.startswith(f"{name}/"):
            return root, run[len(name) + 1 :] or naming.ROOT_FOLDER
    return (roots[0] if roots else ""), run


def _choose(known: Known, names: Sequence[str], run: str | None, doubts: Sequence[Obstacle]) -> str:
    """`doubts`: why there may be more runs than these."""
    if run is not None and run in names:
        return run
    if run is None and len(names) == 1:
        return names[0]
    if run is None and names:
        raise RunAmbiguous(f"there are several runs: {', '.join(names)}; say which with run=", runs=list(names))
    if obstacles := [*frozen_roots(known.roots), *doubts]:  # what lies there might be what was asked for
        raise not_ready(obstacles)
    if run is None:
        raise NoCheckpointsYet("nothing has been saved here yet")
    there_are = f"there are: {', '.join(map(repr, names))}" if names else "none has saved anything yet"
    raise Unknown(f"there is no run {run!r}; {there_are}", runs=list(names))
