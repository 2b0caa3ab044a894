"""Whether a copy still is what its COMMIT says."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lastgood.cloud.addressing import file_key
from lastgood.errors import NotACopy
from lastgood.remote.committing import read_bundle
from lastgood.remote.pacing import patiently
from lastgood.remote.proving import crc64_in, sha256_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from lastgood.cloud import CloudCopy
    from lastgood.facts import FileDigest
    from lastgood.remote.store import Store


@dataclass(frozen=True, slots=True)
class Checked:
    """What looking at a copy told. `unread`: files whose bytes the store says nothing of; only reading tells."""

    copy: CloudCopy
    problems: tuple[str, ...] = ()
    unread: int = 0

    @property
    def good(self) -> bool:
        return not self.problems


def verify_copy(
    store: Store, copy: CloudCopy, *, read: bool = False, hears: Callable[[int], None] = lambda _count: None
) -> Checked:
    """Every file by its size and, where the store keeps one, its digest; with `read` by every byte."""
    try:
        bundle = patiently(lambda: read_bundle(store, copy), store.remote.patience)
    except NotACopy as error:
        return Checked(copy, (str(error),))
    with ThreadPoolExecutor(store.remote.parallel) as threads:
        look = itertools.repeat
        files = bundle.manifest.files
        found = list(threads.map(_look, look(store), look(copy), files, look(read), look(hears)))
    return Checked(copy, tuple(problem for problem, _ in found if problem), sum(unread for _, unread in found))


def _look(
    store: Store, copy: CloudCopy, file: FileDigest, read: bool, hears: Callable[[int], None]
) -> tuple[str | None, bool]:
    key = file_key(copy.key, file.path)
    head = patiently(lambda: store.head(key), store.remote.patience)
    if head is None:
        return f"{file.path} is missing", False
    if head.size != file.bytes:
        return f"{file.path} has {head.size} bytes, not {file.bytes}", False
    algorithm = (file.digest or "").partition(":")[0]
    if read:
        return _differs(file, digest_in(store, key, file, hears)), False
    if algorithm != "crc64nvme" or head.crc64 is None:
        return None, True
    return _differs(file, f"crc64nvme:{head.crc64}"), False


def digest_in(store: Store, key: str, file: FileDigest, hears: Callable[[int], None]) -> str:
    """The digest of what the store gives back, by the algorithm of the judged one."""
    if not (file.digest or "").startswith("sha256:"):
        return f"crc64nvme:{crc64_in(store, key, file.bytes, hears)}"
    return sha256_in(store, key, file.bytes, hears)


def _differs(file: FileDigest, found: str) -> str | None:
    return None if found == file.digest else f"{file.path} holds other bytes: {found}, not {file.digest}"
