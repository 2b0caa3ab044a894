"""The other checkpoints of the same run: what a broken one can be given back from them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from lastgood import naming
from lastgood.discovery import discover
from lastgood.errors import LastgoodError
from lastgood.facts import Level
from lastgood.findings import Severity
from lastgood.formats.scan import Source, scan_file
from lastgood.mending.planning import lacking_files
from lastgood.mending.words import Neighbour, shapes_of
from lastgood.verify import examine

if TYPE_CHECKING:
    from collections.abc import Collection

    from lastgood.facts import Facts, Report

_ASKED: Final = 8  # the nearest ones: a run may have thousands
_ASKED_AT_MOST: Final = 100  # where they lack the same


def neighbours_of(facts: Facts, report: Report) -> list[Neighbour]:
    """Those in the same folder, the nearest by number first; more of them while none has what this one lacks."""
    run_folder, name = os.path.split(os.path.abspath(report.path))
    own, wanted = naming.step_in_name(name), lacking_files(facts, report)
    others = [c for c in discover(run_folder).candidates if c.run == naming.ROOT_FOLDER and c.name != name]
    others.sort(key=lambda found: (found.copy, abs(found.number - (own or 0)), found.number))
    needed = {found.file for found in report.findings if found.severity is Severity.ERROR}.intersection(wanted)
    found: list[Neighbour] = []
    for place, other in enumerate(others[:_ASKED_AT_MOST]):
        if place >= _ASKED and needed <= {file for neighbour in found for file in neighbour.sound}:
            break
        neighbour = _looked_at(os.path.join(run_folder, other.relative_path), wanted)
        found += [neighbour] if neighbour is not None else []
    return found


def _looked_at(path: str, wanted: Collection[str]) -> Neighbour | None:
    try:
        facts, _report = examine(path, Level.QUICK)
    except LastgoodError:
        return None
    step = None if "global_step" in facts.estimated else facts.progress.step
    listed = {file.path: file.digest for file in facts.saved.files} if facts.saved else {}
    sound = {file.path for file in facts.files.values() if not file.problems}
    digests = {name: digest for name in sound.intersection(wanted) if (digest := _digest(path, name)) is not None}
    sound -= {name for name in wanted if listed.get(name, digests.get(name)) != digests.get(name)}
    return Neighbour(
        path=path,
        layout=facts.layout,
        step=step if step is not None else facts.step_by_name,
        epoch=None if "epoch" in facts.estimated else facts.progress.epoch,
        world_size=facts.progress.world_size,
        weights={} if any(found.severity is Severity.ERROR for found in facts.lacking) else shapes_of(facts),
        sound=frozenset(sound),
        digests=digests,
    )


def _digest(folder: str, file: str) -> str | None:
    """As the lists of the jobs have it; None where it cannot be read."""
    path = os.path.join(folder, file)
    try:
        return scan_file(Source(path, file, os.stat(path).st_size), (), {}).digest
    except (OSError, LastgoodError):
        return None
