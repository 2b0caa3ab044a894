"""The one place where trees are removed, and the way there: out of the run and into its trash, by one rename.

Nothing is decided here. `RUN/.lastgood/trash/NAME.ID-FINGERPRINT` is a checkpoint that can be restored; with `.purging`
behind it, one that is being deleted. What a job discards by itself has a name of its own there: once the job is
killed, nobody has a record of it. Each function leaves the checkpoint wholly in one place or wholly in the other,
wherever it is interrupted; `found` tells in which.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from lastgood import durable, layouts, naming
from lastgood.errors import CannotTell, NotACheckpoint, Obstructed
from lastgood.inventory import take_inventory
from lastgood.latest import inodes_are_stable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lastgood.records import Record

_PURGING: Final = ".purging"
_SHOWN: Final = 8  # letters of a fingerprint
_OF_A_JOB: Final = ".by-its-job"


class Found(StrEnum):
    """Where a checkpoint lies that was to go to the trash, or was there."""

    IN_TRASH = "in-trash"
    PURGING = "purging"
    IN_PLACE = "in-place"  #: as it was read
    OTHER = "other"  #: something else bears its name
    NOWHERE = "nowhere"


def trash_name(record: Record) -> str:
    """What it is called in the trash: nothing takes that for a checkpoint, and no other one is called so."""
    return f"{record.name}.{record.id}-{record.fingerprint[:_SHOWN]}"


def trash_name_by_job(record: Record) -> str:
    """What it is called there on its way to being deleted by the job that saved it."""
    return trash_name(record) + _OF_A_JOB


def trash_path(record: Record) -> str:
    """Where it lies in the trash, once it does."""
    assert record.trash is not None
    return os.path.join(_trash_of(os.path.dirname(record.path)), record.trash)


def _trash_of(run_folder: str) -> str:
    return os.path.join(run_folder, naming.OWN_FOLDER, "trash")


def found(record: Record) -> Found:
    """Where it is. The name in the trash is its own: what lies there was this checkpoint."""
    path = trash_path(record)
    if os.path.lexists(path):
        return Found.IN_TRASH
    if os.path.lexists(path + _PURGING):
        return Found.PURGING
    if not os.path.lexists(record.path):
        return Found.NOWHERE
    return Found.IN_PLACE if _is_as_read(record, record.path) else Found.OTHER


def discard(record: Record) -> None:
    """From its place into the trash. Obstructed where it is not what was read, or cannot be moved: then it stays.

    Obstructed also where the disk would not take the rename for good; `found` tells where it lies.
    """
    path = trash_path(record)
    if os.path.islink(record.path) or not _is_as_read(record, record.path):
        raise Obstructed(f"{record.path} is not what was read any more")
    with _telling(f"{record.path} cannot be moved to the trash"):
        durable.make_folders(os.path.dirname(path))
        durable.rename_to_free_name(record.path, path)
        if not _is_as_read(record, path):  # somebody wrote between our look and the rename
            durable.rename_to_free_name(path, record.path)
            raise Obstructed(f"{record.path} was written to just now")
        _sync_both(record)


def take_back(record: Record) -> None:
    """From the trash into its place. Obstructed where that is taken, or the trash holds something else by now."""
    path = trash_path(record)
    if not _is_as_read(record, path):
        raise Obstructed(f"what lies in {path} is not what was removed")
    with _telling(f"{path} cannot be moved back"):
        durable.rename_to_free_name(path, record.path)
        _sync_both(record)


def purge(record: Record) -> None:
    """Deletes it in the trash for good. Obstructed where that fails, or somebody wrote to it there.

    The next call goes on where this one stopped.
    """
    path = trash_path(record)
    if os.path.lexists(path) and not _is_as_read(record, path):
        raise Obstructed(f"{path} was written to since it was removed: look at it, and delete it yourself")
    _delete(path)


def purge_left_by_jobs(run_folder: str) -> None:
    """Deletes for good what killed jobs had discarded. What was written to since then stays, and what resists."""
    trash = _trash_of(run_folder)
    found = os.listdir(trash) if os.path.isdir(trash) else []
    for name in sorted({name.removesuffix(_PURGING) for name in found}):
        path = os.path.join(trash, name)
        if name.endswith(_OF_A_JOB) and (not os.path.lexists(path) or _is_as_named(path, run_folder)):
            with contextlib.suppress(Obstructed):
                _delete(path)


def _is_as_named(path: str, run_folder: str) -> bool:
    name = os.path.basename(path).removesuffix(_OF_A_JOB)
    return name.rpartition("-")[2] == _fingerprint(path, run_folder)[:_SHOWN]


def _delete(path: str) -> None:
    doomed = path + _PURGING
    with _telling(f"{path} cannot be deleted"):
        if os.path.lexists(path):
            durable.rename_to_free_name(path, doomed)
            durable.sync(os.path.dirname(doomed))
        remove_tree(doomed, first=_last_files(doomed))


def remove_tree(path: str, *, first: Iterable[str] = ()) -> None:
    """Deletes whatever bears that name, if anything does; of a folder the files `first` before all others.

    Links are not followed.
    """
    if os.path.islink(path) or not os.path.isdir(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    for name in first:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(path, name))
    shutil.rmtree(path)


def _is_as_read(record: Record, path: str) -> bool:
    return _fingerprint(path, record.root) == record.fingerprint


def _fingerprint(path: str, root: str) -> str:
    try:
        return take_inventory(path, inodes=inodes_are_stable(root)).fingerprint
    except (NotACheckpoint, CannotTell):
        return ""


def _last_files(folder: str) -> list[str]:
    """What its layout writes last goes first: half a checkpoint must never look like a whole one."""
    try:
        names = take_inventory(folder).names
    except (NotACheckpoint, CannotTell):
        return []
    last = layouts.recognise(names).last_file(names)
    return [last] if last else []


def _sync_both(record: Record) -> None:
    durable.sync(os.path.dirname(record.path))
    durable.sync(os.path.dirname(trash_path(record)))


@contextlib.contextmanager
def _telling(what: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise Obstructed(f"{what}: there is something at {error.filename2 or error.filename} already") from error
    except OSError as error:
        where = "its run's trash lies on another filesystem" if error.errno == errno.EXDEV else error.strerror
        raise Obstructed(f"{what}: {where or error}") from error
