"""`RUN/.lastgood/pulled/NAME.json`: that a checkpoint was brought back or mended, for the worker, which sees it appear.

It is no new save: it belongs to the line of saves that it was part of.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from typing import Final

from lastgood import durable, naming

VERSION: Final = 1
JOB: Final = "job"
PERSON: Final = "person"
MENDING: Final = "mending"  # it was there before


@dataclass(frozen=True, slots=True)
class Note:
    """What was brought back, by whom. `fingerprint`: of its files as they were put there."""

    fingerprint: str
    by: str


def write_note(run_folder: str, name: str, fingerprint: str, *, by: str) -> None:
    """To be written before the checkpoint gets its name. OSError where it cannot."""
    path = _path(run_folder, name)
    durable.make_folders(os.path.dirname(path))
    durable.write_text(path, json.dumps({"lastgood_pulled": VERSION, "fingerprint": fingerprint, "by": by}))
    durable.sync(os.path.dirname(path))
    owner = os.stat(run_folder)
    for made in (path, os.path.dirname(path), os.path.dirname(os.path.dirname(path))):
        with contextlib.suppress(PermissionError):  # often root mends, or fetches, what a user trains
            os.chown(made, owner.st_uid, owner.st_gid)


def read_note(run_folder: str, name: str) -> Note | None:
    """None where there is none, or none that could be read."""
    try:
        with open(_path(run_folder, name), encoding="utf-8") as file:
            found = json.load(file)
        if found["lastgood_pulled"] != VERSION:
            return None
        return Note(str(found["fingerprint"]), str(found["by"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def forget_note(run_folder: str, name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(_path(run_folder, name))


def _path(run_folder: str, name: str) -> str:
    return os.path.join(run_folder, naming.OWN_FOLDER, "pulled", f"{name}.json")
