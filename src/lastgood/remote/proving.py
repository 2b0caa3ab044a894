"""Whether the store holds the bytes that were judged."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from awscrt.checksums import crc64nvme

from lastgood.cloud import Proof
from lastgood.remote import local
from lastgood.remote.pacing import patiently

if TYPE_CHECKING:
    from collections.abc import Callable

    from lastgood.remote.store import Store

_READ: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Expected:
    """A file, what its object is to hold, and in how large parts it is sent. `crc64`: 16 hex digits, as judged."""

    key: str
    path: str
    size: int
    crc64: str
    part_size: int

    @property
    def in_parts(self) -> bool:
        return self.size > self.part_size


def prove(store: Store, expected: Expected, by: Proof) -> Proof | None:
    """The proof that the object is what is expected; None where it is not there, or is something else."""
    head = store.head(expected.key)
    if head is None or head.size != expected.size:
        return None
    if by is Proof.FULL_OBJECT:
        return by if head.crc64 == expected.crc64 else None
    if by is Proof.PARTS_MD5:
        return by if head.etag == _etag(expected) else None
    return by if crc64_in(store, expected.key, expected.size) == expected.crc64 else None


def crc64_in(store: Store, key: str, size: int, hears: Callable[[int], None] = lambda _count: None) -> str:
    """That of an object of this size, read to its last byte."""
    parts = []
    for stretch in local.stretches(size, _READ):
        digest = patiently(partial(_crc64_of, store, key, stretch), store.remote.patience)
        parts.append((f"{digest:016x}", stretch.size))
        hears(stretch.size)
    return local.crc64_of(parts)


def _crc64_of(store: Store, key: str, stretch: local.Stretch) -> int:
    digest = 0
    if stretch.size:
        for block in store.read(key, stretch.start, stretch.size):
            digest = crc64nvme(block, digest)
    return digest


def _etag(expected: Expected) -> str:
    """What S3 makes of these bytes; NoLongerAsJudged where they are others by now."""
    pieces = local.stretches(expected.size, expected.part_size)
    contents = (local.read(expected.path, piece) for piece in pieces)
    digests = [hashlib.md5(content, usedforsecurity=False) for content in contents]
    if expected.in_parts:
        return local.md5_of_parts(digest.digest() for digest in digests)
    return digests[0].hexdigest()


def sha256_in(store: Store, key: str, size: int, hears: Callable[[int], None] = lambda _count: None) -> str:
    """`sha256:` and 64 hex digits of an object of this size, read to its last byte."""
    digest = hashlib.sha256()
    for stretch in local.stretches(size, _READ):
        content = patiently(partial(_content_of, store, key, stretch), store.remote.patience)
        digest.update(content)
        hears(stretch.size)
    return f"sha256:{digest.hexdigest()}"


def _content_of(store: Store, key: str, stretch: local.Stretch) -> bytes:
    return b"".join(store.read(key, stretch.start, stretch.size)) if stretch.size else b""
