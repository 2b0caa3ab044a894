"""Mending a damaged checkpoint, without ever losing a byte: planned first, and put back if it does not help.

What is damaged, or missing, is fetched from a proven copy of the very same save. Each file is fetched beside its place,
held against its digest and put there by a rename; what lay there stays as FILE.backup.
"""

from __future__ import annotations

import itertools
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from lastgood import durable, naming, returning
from lastgood.errors import CannotMend, CannotTell, NotACopy
from lastgood.findings import SOUND, Severity
from lastgood.inventory import take_inventory
from lastgood.latest import inodes_are_stable
from lastgood.manifest import algorithm_of
from lastgood.remote import read_bundle
from lastgood.remote.fetching import fetch_file
from lastgood.remote.pacing import patiently
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lastgood.cloud import Bundle, CloudCopy
    from lastgood.facts import FileDigest, Report
    from lastgood.remote import Store

_BACKUP: Final = ".backup"
_FETCHED: Final = f"{naming.OWN_PREFIX}-fetched-"  # ours: no inventory sees it


@dataclass(frozen=True, slots=True)
class Mending:
    """What is to be done to one checkpoint. `files`: those that are fetched from the copy."""

    path: str
    bundle: Bundle
    files: tuple[FileDigest, ...]


def plan_mending(path: str, report: Report, copies: Iterable[CloudCopy], store: Store, *, threads: int = 2) -> Mending:
    """What would make it what was copied. CannotMend, with the reason of each copy, where none is of the same save.

    `report`: what verification says of it now. `copies`: the proven ones of its run.
    """
    reasons: list[str] = []
    for copy in (copy for copy in copies if copy.name == os.path.basename(path) and copy.proof is not None):
        try:
            bundle = patiently(partial(read_bundle, store, copy), store.remote.patience)
        except NotACopy as error:
            reasons.append(str(error))
            continue
        report = _by_its_digests(path, report, bundle, threads)
        wanted, why = differing(report, bundle.manifest.files)
        if why is None:
            return Mending(path, bundle, wanted)
        reasons.append(f"{store.remote.url(copy.key)}: {why}")
    raise CannotMend("; ".join(reasons) or f"no proven copy of {os.path.basename(path)} is known")


def differing(report: Report, copied: Sequence[FileDigest]) -> tuple[tuple[FileDigest, ...], str | None]:
    """The files to fetch, and why not: where a file that is sound is another one, the copy is of another save."""
    here = {file.path: file for file in report.files}
    damaged = {finding.file for finding in report.findings if finding.severity is Severity.ERROR}
    wanted = tuple(file for file in copied if file.path not in here or here[file.path].digest != file.digest)
    sound = [file.path for file in wanted if file.path in here and file.path not in damaged]
    if sound:
        return (), f"it is of another save: {sound[0]} is sound here, and not the same"
    if len(wanted) == len(copied):
        return (), "no file is as it is there: nothing tells that it is of the same save"
    strays = sorted(path for path in set(here) - {file.path for file in copied} if _BACKUP not in path)
    if strays:
        return (), f"it is of another save: it has no {strays[0]}"
    return wanted, None


def _by_its_digests(path: str, report: Report, bundle: Bundle, threads: int) -> Report:
    """The same report with digests that can be compared."""
    algorithm = algorithm_of(bundle.manifest) or "crc64nvme"
    if any((file.digest or "").startswith(f"{algorithm}:") for file in report.files):
        return report
    return verify(path, digest=algorithm, threads=threads)


def mend(store: Store, mending: Mending, *, backup: bool = True, threads: int = 2) -> Report:
    """What verification says of it afterwards: sound, and the bytes that were copied.

    CannotMend where it would not be; then it is, byte for byte, what it was. RemoteError, NotACopy and CannotTell as
    `remote.fetch` raises them; then nothing was touched.
    """
    with _telling(mending.path):
        try:
            for file in mending.files:
                fetch_file(store, mending.bundle.copy, file, _beside(mending, file))
            return _put_in_place(mending, backup=backup, threads=threads)
        finally:
            _clear(mending)


def _put_in_place(mending: Mending, *, backup: bool, threads: int) -> Report:
    kept: dict[FileDigest, str | None] = {}
    try:
        for file in mending.files:
            kept[file] = _keep(mending, file)
            _replace(mending, file)
        report = _mended(mending, threads)
    except BaseException:
        for file, before in kept.items():
            _put_back(mending, file, before)
        raise
    if not backup:
        for before in filter(None, kept.values()):
            os.unlink(before)
    durable.sync_tree(mending.path)
    _note(mending)
    return report


def _mended(mending: Mending, threads: int) -> Report:
    """What verification says of it. CannotMend where it did not help."""
    digest = algorithm_of(mending.bundle.manifest) or "crc64nvme"
    report = verify(mending.path, digest=digest, threads=threads, inodes=False)
    if report.verdict not in SOUND or differing(report, mending.bundle.manifest.files)[0]:
        raise CannotMend(f"{mending.path} would be {report.verdict} afterwards: it was put back as it was")
    return report


def _keep(mending: Mending, file: FileDigest) -> str | None:
    """What lies there gets a second name, before anything else bears its first one. None: there is nothing."""
    place = _place(mending, file)
    if not os.path.lexists(place):
        return None
    for ending in itertools.chain([""], (f".{number}" for number in itertools.count(2))):
        name = f"{place}{_BACKUP}{ending}"
        with suppress(FileExistsError):  # an earlier backup holds what was there first
            os.link(place, name, follow_symlinks=False)
            return name
    raise AssertionError("numbers do not end")


def _replace(mending: Mending, file: FileDigest) -> None:
    """At every moment one of both lies there."""
    fetched = _beside(mending, file)
    if file.path in mending.bundle.mtimes_ns:
        time = mending.bundle.mtimes_ns[file.path]
        os.utime(fetched, ns=(time, time))
    os.replace(fetched, _place(mending, file))


def _put_back(mending: Mending, file: FileDigest, before: str | None) -> None:
    if before is not None:
        os.replace(before, _place(mending, file))
        return
    with suppress(FileNotFoundError):
        os.unlink(_place(mending, file))


def _note(mending: Mending) -> None:
    """For the worker: it is no new save, and whole."""
    run_folder, name = os.path.split(os.path.abspath(mending.path))
    inventory = take_inventory(mending.path, inodes=inodes_are_stable(run_folder))
    returning.write_note(run_folder, name, inventory.fingerprint, by=returning.PERSON)


def _place(mending: Mending, file: FileDigest) -> str:
    return os.path.join(mending.path, file.path)


def _beside(mending: Mending, file: FileDigest) -> str:
    folder, name = os.path.split(_place(mending, file))
    return os.path.join(folder, _FETCHED + name)


def _clear(mending: Mending) -> None:
    for file in mending.files:
        for left in (_beside(mending, file), f"{_beside(mending, file)}.journal"):
            with suppress(FileNotFoundError):
                os.unlink(left)


@contextmanager
def _telling(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotTell("mending", path, error) from error
