"""Files put in the place of others, all of them or none: what a kill leaves behind, the next mending takes back."""

from __future__ import annotations

import itertools
import os
import shutil
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lastgood import durable, naming, returning
from lastgood.errors import CannotMend
from lastgood.formats.scan import Source, scan_file
from lastgood.inventory import take_inventory
from lastgood.latest import inodes_are_stable
from lastgood.mending import journal
from lastgood.mending.journal import MADE, Journal, Swap, place_beside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lastgood.mending.journal import Mark


def prepare(folder: str, files: Iterable[str]) -> tuple[Swap, ...]:
    """What `all_or_none` is to put: of each file, what was made beside its place."""
    inodes = _inodes(folder)
    swaps = []
    for file in files:
        made, before = _mark(place_beside(folder, file), inodes), _mark(os.path.join(folder, file), inodes)
        assert made is not None, f"nobody made {file}"
        digest = _digest(place_beside(folder, file))
        # An earlier backup holds what was there first.
        free = (name for name in _names_of_backups(file) if not os.path.lexists(os.path.join(folder, name)))
        swaps.append(Swap(file, made, digest, before, next(free) if before else None))
    return tuple(swaps)


@contextmanager
def all_or_none(folder: str, swaps: Sequence[Swap], *, backup: bool) -> Iterator[None]:
    """Each is in its place; where the block raises, none is. What another put there meanwhile stays in any case.

    CannotMend where it is not what it was when the swaps were prepared.
    """
    planned = Journal(tuple(swaps), backup)
    try:
        journal.write(folder, planned)
        for swap in swaps:
            _put(folder, swap)
        yield
        _sync_folders(folder, swaps)
    except BaseException:
        _take_all_back(folder, swaps)
        raise
    try:
        journal.write(folder, replace(planned, done=True))
    except BaseException:
        take_back(folder)  # or ended: what is on the disk decides
        raise
    _finish(folder, planned)


def was_cut_short(folder: str) -> bool:
    """Whether a mending was killed there, or one is under way."""
    return journal.is_there(folder) or any(_made_in(folder))


def take_back(folder: str) -> None:
    """What a killed mending began: taken back, or ended where all was in place. CannotMend where nothing tells what."""
    found = journal.read(folder)
    if found is not None and found.done:
        _finish(folder, found)
    elif found is not None:
        _take_all_back(folder, found.swaps)
    clear(folder)


def clear(folder: str) -> None:
    """Takes away what was made and not put in its place, by us or by one that was killed.

    Not before it was taken back: it may be what another saved, and came out when the places were exchanged.
    """
    for path in _made_in(folder) if not journal.is_there(folder) else ():
        with suppress(OSError):
            os.unlink(path)


def _made_in(folder: str) -> Iterator[str]:
    for below, _folders, files in os.walk(folder):
        yield from (os.path.join(below, name) for name in files if name.startswith(MADE))


def _names_of_backups(file: str) -> Iterator[str]:
    yield file + naming.BACKUP
    yield from (f"{file}{naming.BACKUP}.{number}" for number in itertools.count(2))


def _put(folder: str, swap: Swap) -> None:
    """At every moment one of both lies there, and what lay there has a second name before."""
    place, made = os.path.join(folder, swap.file), place_beside(folder, swap.file)
    try:
        if swap.kept is None:
            durable.rename_to_free_name(made, place)
            return
        _second_name(place, os.path.join(folder, swap.kept), made)
    except FileExistsError as error:
        raise CannotMend(f"{error.filename2 or error.filename} appeared meanwhile: it was left as it is") from None
    if not durable.exchange(made, place):
        os.replace(made, place)
    elif _mark(made, _inodes(folder)) != swap.before:
        raise CannotMend(f"{place} was written anew meanwhile: it was left as it is")
    else:
        os.unlink(made)


def _second_name(place: str, name: str, made: str) -> None:
    try:
        os.link(place, name, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a filesystem without hard links
        beside = made + naming.BACKUP
        shutil.copy2(place, beside, follow_symlinks=False)
        durable.sync(beside)
        durable.rename_to_free_name(beside, name)


def _take_all_back(folder: str, swaps: Sequence[Swap]) -> None:
    for swap in reversed(swaps):
        _take_one_back(folder, swap)
    _sync_folders(folder, swaps)
    journal.forget(folder)


def _take_one_back(folder: str, swap: Swap) -> None:
    place, beside, inodes = os.path.join(folder, swap.file), place_beside(folder, swap.file), _inodes(folder)
    kept = os.path.join(folder, swap.kept) if swap.kept else None
    if _is_made(place, swap, inodes):
        came_out = _mark(beside, inodes) not in (None, swap.made)  # by the exchange, whoever wrote it
        with suppress(FileNotFoundError):
            if kept is None:
                os.unlink(place)
            else:
                os.replace(beside if came_out else kept, place)
    if kept is not None and swap.before is not None and _mark(place, inodes) == swap.before:
        _unlink_if_same(kept, swap.before)


def _is_made(place: str, swap: Swap, inodes: bool) -> bool:
    """Also where it was copied since, or touched. What another saved there is something else."""
    found = _mark(place, inodes)
    if found is None or found in (swap.made, swap.before):
        return found == swap.made
    return found[1] == swap.made[1] and os.path.isfile(place) and _digest(place) == swap.digest


def _digest(path: str) -> str:
    return scan_file(Source(path, path, os.stat(path).st_size), (), {}).digest or ""


def _sync_folders(folder: str, swaps: Iterable[Swap]) -> None:
    for below in {os.path.dirname(place_beside(folder, swap.file)) for swap in swaps}:
        with suppress(FileNotFoundError):
            durable.sync(below)


def _finish(folder: str, done: Journal) -> None:
    for swap in done.swaps if not done.backup else ():
        if swap.kept is not None and swap.before is not None:
            _unlink_if_same(os.path.join(folder, swap.kept), swap.before)
    _note(folder)
    journal.forget(folder)


def _unlink_if_same(path: str, mark: Mark) -> None:
    """A copy has an inode of its own."""
    found = _mark(path, inodes=False)
    if found is not None and found[1:] == mark[1:]:
        os.unlink(path)


def _note(folder: str) -> None:
    """For the worker: it is no new save, and whole."""
    real = os.path.realpath(folder)
    run_folder, name = os.path.split(real)
    fingerprint = take_inventory(real, inodes=_inodes(real)).fingerprint
    with suppress(OSError):  # its folder may not be ours to write: the worker then judges it as a new save
        returning.write_note(run_folder, name, fingerprint, by=returning.MENDING)


def _mark(path: str, inodes: bool) -> Mark | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_ino if inodes else 0, found.st_size, found.st_mtime_ns


def _inodes(folder: str) -> bool:
    return inodes_are_stable(os.path.dirname(os.path.abspath(folder)))
