"""Fetching a copy: beside its place, under a name that nobody takes for a checkpoint, until every byte was read.

What was fetched is noted in a journal, stretch by stretch, so that an end of ours costs no more than what was under
way. The journal need not be right: nothing gets its name that was not verified to the last byte.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from lastgood import durable, naming
from lastgood.cloud.addressing import file_key
from lastgood.errors import CannotTell, Conflict, NotACopy, RemoteError
from lastgood.findings import SOUND
from lastgood.inventory import take_inventory
from lastgood.latest import inodes_are_stable
from lastgood.manifest import algorithm_of
from lastgood.remote import local
from lastgood.remote.journal import Journal
from lastgood.remote.pacing import patiently
from lastgood.returning import write_note
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from lastgood.cloud import Bundle, CloudCopy
    from lastgood.facts import FileDigest, Report
    from lastgood.remote.local import Stretch
    from lastgood.remote.store import Store

_TRIES: Final = 4  #: for a file that comes back as something else: a bit may flip on the way, too


def fetch(
    store: Store,
    bundle: Bundle,
    run_folder: str,
    *,
    by: str,
    threads: int = 2,
    hears: Callable[[int], None] = lambda _count: None,
) -> str:
    """The checkpoint's path, in its run's folder, once it is there whole. `by`: who wants it, a person or a job.

    Conflict where something is there already, or somebody fetches it just now; NotACopy where what comes back is not
    what was judged; RemoteError where the store does not give it; CannotTell where the disk does not take it.
    """
    copy = bundle.copy
    target = os.path.join(run_folder, _safe_name(copy))
    if os.path.lexists(target):
        raise Conflict(f"{target} is there already; nothing is fetched over it: move it away first")
    place = pulling_place(run_folder, copy)
    with _telling(place), _alone(place):
        fetch_into(store, bundle, place, threads=threads, hears=hears)
        _as_it_was(place, bundle)
        durable.sync_tree(place)
        inventory = take_inventory(place, inodes=inodes_are_stable(run_folder))
        write_note(run_folder, copy.name, inventory.fingerprint, by=by)
        try:
            durable.rename_to_free_name(place, target)
        except FileExistsError:
            raise Conflict(f"{target} came there while its copy was fetched; what was fetched is {place}") from None
        durable.sync(run_folder)
        os.unlink(_journal_of(place))
    return target


def pulling_place(run_folder: str, copy: CloudCopy) -> str:
    """Where it lies until it is whole."""
    return os.path.join(run_folder, naming.OWN_FOLDER, "pulling", f"{_safe_name(copy)}-{copy.digest[:12]}")


def fetch_into(
    store: Store,
    bundle: Bundle,
    folder: str,
    *,
    threads: int = 2,
    hears: Callable[[int], None] = lambda _count: None,
) -> Report:
    """What verification says of it: sound, and the bytes that were judged. What is there of it already is used."""
    files = bundle.manifest.files
    for file in files:
        _check_path(file.path)
    durable.make_folders(folder)
    journal = Journal(_journal_of(folder))
    _check_room(folder, sum(file.bytes for file in files) - journal.bytes)
    fetching = _Fetching(store, bundle.copy, folder, journal, hears)
    look = partial(verify, folder, manifest=bundle.manifest, inodes=False, threads=threads)
    wanted: Sequence[FileDigest] = files
    for _ in range(_TRIES):
        fetching.fetch(wanted)
        report = look(digest=algorithm_of(bundle.manifest) or naming.USUAL_DIGEST)
        digests = {file.path: file.digest for file in report.files}
        wanted = [file for file in files if digests.get(file.path) != file.digest]
        if not wanted:
            break
        journal.forget({file.path for file in wanted})
    where = store.remote.url(bundle.copy.key)
    if wanted:
        raise NotACopy(f"{where}: {wanted[0].path} comes back as other bytes")
    if report.verdict not in SOUND:
        why = "; ".join(finding.message for finding in report.findings[:3])
        raise NotACopy(f"{where} comes back {report.verdict}: {why}")
    return report


def fetch_file(store: Store, copy: CloudCopy, file: FileDigest, path: str) -> None:
    """One file of a copy, to a path that is free, and onto the disk. NotACopy where it comes back as other bytes."""
    journal = Journal(_journal_of(path))
    folder = os.path.dirname(path)
    with _telling(path):
        for _ in range(_TRIES):
            _Fetching(store, copy, folder, journal, lambda _count: None).fetch([file], {file.path: path})
            if local.digest_of(path, file) == file.digest:
                journal.end()
                durable.sync(path)
                return
            journal.forget({file.path})
        journal.end()
        os.unlink(path)
    raise NotACopy(f"{store.remote.url(copy.key)}: {file.path} comes back as other bytes")


class _Fetching:
    """Files of one copy, in stretches side by side."""

    def __init__(
        self, store: Store, copy: CloudCopy, folder: str, journal: Journal, hears: Callable[[int], None]
    ) -> None:
        self._store, self._copy, self._folder, self._journal, self._hears = store, copy, folder, journal, hears

    def fetch(self, files: Sequence[FileDigest], places: Mapping[str, str] = MappingProxyType({})) -> None:
        """`places`: by path, where a file goes that is not to lie in the folder."""
        remote = self._store.remote
        with ThreadPoolExecutor(remote.parallel) as pool:
            futures: list[Future[None]] = []
            for file in files:
                place = _made(places.get(file.path) or os.path.join(self._folder, file.path), file.bytes)
                pieces = local.stretches(file.bytes, remote.part_size_of(file.bytes))
                futures += [pool.submit(self._fetch_stretch, file, place, stretch) for stretch in pieces]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                for future in futures:
                    future.cancel()
                raise

    def _fetch_stretch(self, file: FileDigest, place: str, stretch: Stretch) -> None:
        if stretch.size and not self._journal.knows(file.path, stretch):
            key = file_key(self._copy.key, file.path)
            patiently(lambda: _read_into(self._store, key, place, stretch), self._store.remote.patience)
            self._journal.note(file.path, stretch)
        self._hears(stretch.size)


def _read_into(store: Store, key: str, path: str, stretch: Stretch) -> None:
    at = stretch.start
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for block in store.read(key, stretch.start, stretch.size):
            view = memoryview(block)
            while view:
                written = os.pwrite(descriptor, view, at)
                at, view = at + written, view[written:]
    finally:
        os.close(descriptor)


def _made(path: str, size: int) -> str:
    """The file, of its size: what is in it already stays."""
    durable.make_folders(os.path.dirname(path))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)
    return path


def _as_it_was(folder: str, bundle: Bundle) -> None:
    """The times of its files, by which saves are told apart; and the job's own list, which is written last."""
    for path, time in bundle.mtimes_ns.items():
        if os.path.exists(os.path.join(folder, path)):
            os.utime(os.path.join(folder, path), ns=(time, time))
    if bundle.file_list is not None:
        with open(os.path.join(folder, naming.FILE_LIST), "w", encoding="utf-8") as file:
            file.write(bundle.file_list)


def _safe_name(copy: CloudCopy) -> str:
    """NotACopy where it would lead out of its run: what lies in a bucket may be anybody's."""
    if "/" in copy.name or copy.name.startswith(".") or "\0" in copy.name or not copy.name:
        raise NotACopy(f"a copy is called {copy.name!r}: that is no name of a checkpoint")
    return copy.name


def _check_path(path: str) -> None:
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in path or naming.is_ours(parts[-1]):
        raise NotACopy(f"a copy holds {path!r}: that is no file of a checkpoint")


def _check_room(folder: str, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CannotTell("writing", folder, OSError(28, f"{needed:,} bytes are needed, {free:,} are free"))


def _journal_of(place: str) -> str:
    return f"{place}.journal"


@contextmanager
def _alone(place: str) -> Iterator[None]:
    durable.make_folders(os.path.dirname(place))
    with open(f"{place}.lock", "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict(f"another process is fetching it already, into {place}") from None
        yield
        os.unlink(lock.name)


@contextmanager
def _telling(place: str) -> Iterator[None]:
    try:
        yield
    except (RemoteError, NotACopy, Conflict, CannotTell):
        raise
    except OSError as error:
        raise CannotTell("writing", place, error) from error
