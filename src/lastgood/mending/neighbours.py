"""The other checkpoints of the same run: what a broken one can be given back from them."""

from __future__ import annotations

import os
from typing import Final

from lastgood import naming
from lastgood.discovery import discover
from lastgood.errors import LastgoodError
from lastgood.facts import Level
from lastgood.mending.words import Neighbour, shapes_of
from lastgood.verify import examine

_ASKED: Final = 8  # the nearest ones: a run may have thousands


def neighbours_of(path: str) -> list[Neighbour]:
    """Those in the same folder, the nearest by number first."""
    run_folder, name = os.path.split(os.path.abspath(path))
    own = naming.step_in_name(name)
    others = [c for c in discover(run_folder).candidates if c.run == naming.ROOT_FOLDER and c.name != name]
    others.sort(key=lambda found: (found.copy, abs(found.number - (own or 0)), found.number))
    found = (_looked_at(os.path.join(run_folder, other.relative_path)) for other in others[:_ASKED])
    return [neighbour for neighbour in found if neighbour is not None]


def _looked_at(path: str) -> Neighbour | None:
    try:
        facts, _report = examine(path, Level.QUICK)
    except LastgoodError:
        return None
    step = None if "global_step" in facts.estimated else facts.progress.step
    return Neighbour(
        path=path,
        layout=facts.layout,
        step=step if step is not None else facts.step_by_name,
        epoch=None if "epoch" in facts.estimated else facts.progress.epoch,
        world_size=facts.progress.world_size,
        weights={} if facts.lacking else shapes_of(facts),
        sound=frozenset(file.path for file in facts.files.values() if not file.problems),
    )
