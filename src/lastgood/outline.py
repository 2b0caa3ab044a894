"""A quick look at a folder that may still be landing: what it is, and what it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lastgood import layouts
from lastgood.facts import Level
from lastgood.findings import Severity
from lastgood.formats import read_file
from lastgood.manifest import is_all_there, read_file_list
from lastgood.reading import read_files

if TYPE_CHECKING:
    from lastgood.facts import Inventory


@dataclass(frozen=True, slots=True)
class Outline:
    """What a quick look at a landing folder tells about whether it can be finished."""

    layout: str
    known: bool  #: a layout of which we know what a finished save must have
    last_file: str | None
    lacking: tuple[str, ...]  #: required, not there
    expected: tuple[str, ...]  #: usual beside what is there, not there
    sound: bool  #: every file as long as its header says
    declared: bool = False  #: the job's own list, written last, names what is there and nothing else


def outline(path: str, inventory: Inventory) -> Outline:
    """The layout's view of a folder that may still be landing, from headers and directories alone.

    Unsteady where a file changed since the inventory.
    """
    names = inventory.names
    layout = layouts.recognise(names)
    found = {facts.path: facts for facts in read_files(partial(read_file, path, level=Level.QUICK), inventory)}
    files = layouts.excuse_strangers(names, found)
    return Outline(
        layout=layout.name,
        known=layout is not layouts.UNKNOWN,
        last_file=layout.last_file(names),
        lacking=tuple(finding.file or finding.message for finding in layout.missing(names, files)),
        expected=tuple(layout.still_expected(names)),
        sound=not any(problem.severity is Severity.ERROR for facts in files.values() for problem in facts.problems),
        declared=is_all_there(read_file_list(path), inventory),
    )
