"""Carrying a plan out: at every moment each file is there, as it was or as it is to be, and nothing is lost."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lastgood import durable, naming, returning, writers
from lastgood.errors import CannotMend, CannotTell
from lastgood.findings import GRAVEST_FIRST, Verdict
from lastgood.formats.scan import Source, scan_file
from lastgood.inventory import take_inventory
from lastgood.latest import inodes_are_stable
from lastgood.mending.words import FromCopy
from lastgood.verify import examine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lastgood.facts import Facts, Report
    from lastgood.mending.words import Plan, Repair

    Make = Callable[[Repair, str], None]
    Hears = Callable[[int], None]

_MADE: Final = f"{naming.OWN_PREFIX}-mending-"  # ours: no inventory sees it


def carry_out(
    plan: Plan,
    make: Make,
    *,
    backup: bool = True,
    digest: str = "crc64nvme",
    threads: int = 2,
    accepts: Callable[[Report], str | None] = lambda _report: None,
    hears: Hears = lambda _count: None,
) -> tuple[Facts, Report]:
    """What verification says of it afterwards: what the plan promised, or better.

    `make` writes a repair's file at a path. `accepts` says why what came out will not do; None where it does.
    CannotMend where it would not be as promised; then it is, byte for byte, what it was. What `make` raises, and
    CannotTell where the disk fails: the same.
    """
    with _telling(plan.path), _alone(plan):
        _clear(plan)
        lost = _lost_folders(plan)
        try:
            for folder in lost:
                os.mkdir(folder)
            for repair in plan.repairs:
                made = _beside(plan, repair.file)
                make(repair, made)
                _give_to_owner(plan, repair, made)
                durable.sync(made)
            judge = partial(_judged, plan, accepts, digest=digest, threads=threads, on_bytes=hears)
            return _put_in_place(plan, judge, backup=backup)
        finally:
            _clear(plan)
            for folder in reversed(lost):
                with suppress(OSError):  # it holds what was mended
                    os.rmdir(folder)


def _put_in_place(plan: Plan, judge: Callable[[], tuple[Facts, Report]], *, backup: bool) -> tuple[Facts, Report]:
    newest = max((entry.mtime_ns for entry in take_inventory(plan.path).entries), default=0)
    kept: dict[str, str | None] = {}
    try:
        saved = _retire_list(plan, kept)
        for repair in plan.repairs:
            kept[repair.file] = _keep(os.path.join(plan.path, repair.file))
            _replace(plan, repair, newest)
        judged = judge()
        if saved is not None:
            _write_list(plan, saved)
    except BaseException:
        for file, before in reversed(kept.items()):
            _put_back(os.path.join(plan.path, file), before)
        raise
    if not backup:
        for before in filter(None, kept.values()):
            os.unlink(before)
    durable.sync_tree(plan.path)
    _note(plan)
    return judged


def _judged(plan: Plan, accepts: Callable[[Report], str | None], **how: Any) -> tuple[Facts, Report]:
    """CannotMend where it is not as was promised."""
    facts, report = examine(plan.path, inodes=_inodes(plan), **how)
    order = (*GRAVEST_FIRST, Verdict.COMPLETE)
    why = accepts(report)
    if report.still_changing or order.index(report.verdict) < order.index(plan.promised):
        why = f"would be {report.verdict} afterwards, not {plan.promised}"
    if why:
        raise CannotMend(f"{plan.path} {why}: it was put back as it was")
    return facts, report


@contextmanager
def _alone(plan: Plan) -> Iterator[None]:
    """Nobody else mends it or writes to it, and it is what the plan was made of."""
    folder = os.open(plan.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a filesystem without locks
            _lock(folder, plan.path)
        inventory = take_inventory(plan.path)
        if any(writers.is_open_for_writing(os.path.join(plan.path, entry.path)) for entry in inventory.entries):
            raise CannotMend(f"{plan.path}: somebody is writing to it")
        if inventory.fingerprint != plan.fingerprint:
            raise CannotMend(f"{plan.path} changed since it was looked at: try again")
        yield
    finally:
        os.close(folder)


def _lock(folder: int, path: str) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CannotMend(f"{path}: another process is mending it") from None


def _keep(place: str) -> str | None:
    """What lies there gets a second name, before anything else bears its first one. None: there is nothing."""
    if not os.path.lexists(place):
        return None
    for ending in itertools.chain([""], (f".{number}" for number in itertools.count(2))):
        name = f"{place}{naming.BACKUP}{ending}"
        if os.path.lexists(name):  # an earlier backup holds what was there first
            continue
        with suppress(FileExistsError):
            _second_name(place, name)
            return name
    raise AssertionError("numbers do not end")


def _second_name(place: str, name: str) -> None:
    try:
        os.link(place, name, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a filesystem without hard links
        shutil.copy2(place, name, follow_symlinks=False)
        durable.sync(name)


def _give_to_owner(plan: Plan, repair: Repair, made: str) -> None:
    """Whoever may read the checkpoint may read what was mended of it: often root mends what a user trains."""
    place = os.path.join(plan.path, repair.file)
    known = os.stat(place if os.path.exists(place) else plan.path)
    if os.path.exists(place):
        os.chmod(made, stat.S_IMODE(known.st_mode))
    with suppress(PermissionError):
        os.chown(made, known.st_uid, known.st_gid)


def _replace(plan: Plan, repair: Repair, newest: int) -> None:
    """At every moment one of both lies there. It keeps its time of modification: it is no new save."""
    place, made = os.path.join(plan.path, repair.file), _beside(plan, repair.file)
    with suppress(FileNotFoundError):
        newest = os.stat(place).st_mtime_ns
    if isinstance(repair.work, FromCopy) and repair.work.mtime_ns is not None:
        newest = repair.work.mtime_ns
    os.utime(made, ns=(newest, newest))
    os.replace(made, place)


def _put_back(place: str, before: str | None) -> None:
    if before is not None:
        os.replace(before, place)
        with suppress(FileNotFoundError):  # a rename between two names of one file does nothing
            os.unlink(before)
        return
    with suppress(FileNotFoundError):
        os.unlink(place)


def _retire_list(plan: Plan, kept: dict[str, str | None]) -> Mapping[str, Any] | None:
    """The job's own list of its files, away from here while one of them is replaced: it would say that it is damaged.

    What it says, to be written again; None where there is none, or none of these files stands in it.
    """
    place = os.path.join(plan.path, naming.FILE_LIST)
    try:
        with open(place, encoding="utf-8") as file:
            saved: dict[str, Any] = json.load(file)
        listed = {entry["path"] for entry in saved["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not listed & {repair.file for repair in plan.repairs if not isinstance(repair.work, FromCopy)}:
        return None
    kept[naming.FILE_LIST] = _keep(place)
    os.unlink(place)
    return saved


def _write_list(plan: Plan, saved: Mapping[str, Any]) -> None:
    """As it was, but for the files that are others now. What it names last is what is there."""
    mended = {repair.file for repair in plan.repairs}
    entries = [_entry(plan.path, file["path"]) if file["path"] in mended else file for file in saved["files"]]
    beside = _beside(plan, naming.FILE_LIST)
    with open(beside, "w", encoding="utf-8") as file:
        json.dump({**saved, "files": entries}, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, os.path.join(plan.path, naming.FILE_LIST))


def _entry(folder: str, path: str) -> dict[str, Any]:
    place = os.path.join(folder, path)
    count = os.stat(place).st_size
    return {"path": path, "bytes": count, "digest": scan_file(Source(place, path, count), (), {}).digest}


def _note(plan: Plan) -> None:
    """For the worker: it is no new save, and whole."""
    run_folder, name = os.path.split(os.path.abspath(plan.path))
    inventory = take_inventory(plan.path, inodes=_inodes(plan))
    returning.write_note(run_folder, name, inventory.fingerprint, by=returning.PERSON)


def _inodes(plan: Plan) -> bool:
    return inodes_are_stable(os.path.dirname(os.path.abspath(plan.path)))


def _beside(plan: Plan, file: str) -> str:
    folder, name = os.path.split(os.path.join(plan.path, file))
    return os.path.join(folder, _MADE + name)


def _clear(plan: Plan) -> None:
    """Takes away what was made and not put in its place, by us or by one that was killed."""
    for folder in {os.path.dirname(_beside(plan, repair.file)) for repair in plan.repairs} | {plan.path}:
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if name.startswith(_MADE):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, name))


def _lost_folders(plan: Plan) -> list[str]:
    """Those within the checkpoint that its files are to lie in and that are not there, the outer ones first."""
    folders: set[str] = set()
    for repair in plan.repairs:
        folder = os.path.dirname(_beside(plan, repair.file))
        while not os.path.isdir(folder):
            folders.add(folder)
            folder = os.path.dirname(folder)
    return sorted(folders, key=len)


@contextmanager
def _telling(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotTell("mending", path, error) from error
