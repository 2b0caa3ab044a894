"""Carrying a plan out: at every moment each file is there, as it was or as it is to be, and nothing is lost."""

from __future__ import annotations

import fcntl
import json
import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from lastgood import durable, naming, ownership, writers
from lastgood.errors import CannotMend, CannotTell
from lastgood.findings import GRAVEST_FIRST, Verdict
from lastgood.formats.scan import Source, scan_file
from lastgood.inventory import take_inventory
from lastgood.latest import inodes_are_stable
from lastgood.mending import swapping
from lastgood.mending.journal import place_beside
from lastgood.mending.words import FromCopy
from lastgood.verify import examine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lastgood.facts import Facts, Report
    from lastgood.mending.words import Plan, Repair

    Make = Callable[[Repair, str], None]
    Hears = Callable[[int], None]


_ANYBODY_READS_AND_WRITES: Final = 0o666


def carry_out(
    plan: Plan,
    make: Make,
    *,
    backup: bool = True,
    digest: str = naming.USUAL_DIGEST,
    threads: int = 2,
    accepts: Callable[[Report], str | None] = lambda _report: None,
    hears: Hears = lambda _count: None,
) -> tuple[Facts, Report]:
    """What verification says of it afterwards: what the plan promised, or better.

    `make` writes a repair's file at a path. `accepts` says why what came out will not do; None where it does.
    CannotMend where it would not be as promised; then it is, byte for byte, what it was. What `make` raises, and
    CannotTell where the disk fails: the same.
    """
    with _telling(plan.path), _alone(plan.path):
        swapping.take_back(plan.path)
        require_as_planned(plan)
        lost = _lost_folders(plan)
        try:
            for folder in lost:
                os.mkdir(folder)
            files = _make_all(plan, make)
            require_as_planned(plan)  # to make them may have taken long
            swaps = swapping.prepare(plan.path, files)
            with swapping.all_or_none(plan.path, swaps, backup=backup):
                facts, report = _judged(plan, accepts, digest=digest, threads=threads, on_bytes=hears)
            return facts, report if backup else _as_it_is_now(report)
        finally:
            swapping.clear(plan.path)
            for folder in reversed(lost):
                with suppress(OSError):  # it holds what was mended
                    os.rmdir(folder)


def take_back(path: str) -> None:
    """What a killed mending of the checkpoint began, if there was one. CannotMend, CannotTell where it cannot be."""
    if swapping.was_cut_short(path):
        with _telling(path), _alone(path):
            swapping.take_back(path)


def require_not_cut_short(path: str) -> None:
    """CannotMend where a mending was killed there, or one is under way."""
    if swapping.was_cut_short(path):
        with _telling(path), _alone(path):
            raise CannotMend(f"{path}: an earlier mending was cut short; without --dry-run it is first taken back")


def _make_all(plan: Plan, make: Make) -> list[str]:
    """Beside their places. The files that are to be put there: those of the plan, and the job's own list of them."""
    newest = max((entry.mtime_ns for entry in take_inventory(plan.path).entries), default=0)
    files = [repair.file for repair in plan.repairs]
    for repair in plan.repairs:
        made = place_beside(plan.path, repair.file)
        make(repair, made)
        _give_to_owner(plan.path, repair.file, made)
        copied = repair.work.mtime_ns if isinstance(repair.work, FromCopy) else None
        _give_time(plan, repair.file, made, copied, newest)
        durable.sync(made)
    if _make_list(plan):
        files.append(naming.FILE_LIST)
    return files


def _judged(plan: Plan, accepts: Callable[[Report], str | None], **how: Any) -> tuple[Facts, Report]:
    """CannotMend where it is not as was promised."""
    facts, report = examine(plan.path, inodes=_inodes(plan.path), **how)
    order = (*GRAVEST_FIRST, Verdict.COMPLETE)
    why = accepts(report)
    if report.still_changing or order.index(report.verdict) < order.index(plan.promised):
        why = f"would be {report.verdict} afterwards, not {plan.promised}"
    if why:
        raise CannotMend(f"{plan.path} {why}: it was put back as it was")
    return facts, report


def _as_it_is_now(report: Report) -> Report:
    """Without what was kept until it was judged."""
    inventory = take_inventory(report.path, inodes=_inodes(report.path))
    files = tuple(file for file in report.files if file.path in inventory.names)
    return replace(report, files=files, bytes=inventory.bytes, fingerprint=inventory.fingerprint)


def _inodes(path: str) -> bool:
    return inodes_are_stable(os.path.dirname(os.path.abspath(path)))


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """Nobody else mends it."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a filesystem without locks
            _lock(folder, path)
        yield
    finally:
        os.close(folder)


def require_as_planned(plan: Plan) -> None:
    """Nobody writes to it, and it is what the plan was made of. CannotMend otherwise."""
    inventory = take_inventory(plan.path)
    if any(writers.is_open_for_writing(os.path.join(plan.path, entry.path)) for entry in inventory.entries):
        raise CannotMend(f"{plan.path}: somebody is writing to it")
    if inventory.fingerprint != plan.fingerprint:
        raise CannotMend(f"{plan.path} changed since it was looked at: try again")


def _lock(folder: int, path: str) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CannotMend(f"{path}: another process is mending it") from None


def _give_to_owner(folder: str, file: str, made: str) -> None:
    """Whoever may read the checkpoint may read what was mended of it: often root mends what a user trains."""
    place = os.path.join(folder, file)
    known = os.stat(place if os.path.exists(place) else folder)
    os.chmod(made, stat.S_IMODE(known.st_mode) & (_ANYBODY_READS_AND_WRITES if stat.S_ISDIR(known.st_mode) else ~0))
    with suppress(PermissionError):
        os.chown(made, known.st_uid, known.st_gid)


def _give_time(plan: Plan, file: str, made: str, told: int | None, newest: int = 0) -> None:
    """The one that is told, or that of what lies there: it is no new save."""
    with suppress(FileNotFoundError):
        newest = os.stat(os.path.join(plan.path, file)).st_mtime_ns
    time = newest if told is None else told
    os.utime(made, ns=(time, time))


def _make_list(plan: Plan) -> bool:
    """The job's own list of its files, as it was but for those that are others now: it would say that they are damaged.

    False where there is none, or none of these files stands in it.
    """
    try:
        with open(os.path.join(plan.path, naming.FILE_LIST), encoding="utf-8") as file:
            saved: dict[str, Any] = json.load(file)
        listed = {entry["path"] for entry in saved["files"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    mended = {repair.file for repair in plan.repairs if not isinstance(repair.work, FromCopy)}
    if not listed & mended:
        return False
    entries = [_entry(plan.path, file["path"]) if file["path"] in mended else file for file in saved["files"]]
    made = place_beside(plan.path, naming.FILE_LIST)
    with open(made, "w", encoding="utf-8") as file:
        json.dump({**saved, "files": entries}, file, indent=2)
        file.write("\n")
    _give_to_owner(plan.path, naming.FILE_LIST, made)
    _give_time(plan, naming.FILE_LIST, made, None)
    durable.sync(made)
    return True


def _entry(folder: str, path: str) -> dict[str, Any]:
    """Of what was made."""
    made = place_beside(folder, path)
    count = os.stat(made).st_size
    return {"path": path, "bytes": count, "digest": scan_file(Source(made, path, count), (), {}).digest}


def _lost_folders(plan: Plan) -> list[str]:
    """Those within the checkpoint that its files are to lie in and that are not there, the outer ones first."""
    folders: set[str] = set()
    for repair in plan.repairs:
        folder = os.path.dirname(os.path.join(plan.path, repair.file))
        while not os.path.isdir(folder):
            folders.add(folder)
            folder = os.path.dirname(folder)
    return sorted(folders, key=len)


@contextmanager
def _telling(path: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        why = ownership.why_closed("the checkpoint", path, write=True)
        raise CannotTell("mending", path, OSError(error.errno, why) if why else error) from error
    except OSError as error:
        raise CannotTell("mending", path, error) from error
