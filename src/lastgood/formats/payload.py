"""A file as bytes: bounded reads for the parsers, and one pass over all of it for the checksums."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from awscrt.checksums import crc64nvme
from isal import isal_zlib

from lastgood.errors import CannotTell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastgood.facts import TensorFact
    from lastgood.findings import Finding

_BLOCK: Final = 1 << 20


class Unsteady(Exception):
    """The file changed, or went away, while we read it."""


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes [start, start + length) of a file whose CRC-32 is known."""

    name: str
    start: int
    length: int
    crc: int


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a format's parser makes of a file: facts, what it noticed, and the ranges with a checksum of their own."""

    format: Literal["safetensors", "torch", "json", "other"]
    contents: Any = None
    problems: tuple[Finding, ...] = ()
    ranges: tuple[Range, ...] = ()
    tensors: Mapping[str, TensorFact] = field(default_factory=dict)
    globals: frozenset[str] = frozenset()


class PayloadReader:
    """An open regular file. Reads never pass `size`, and a short read means that somebody changed the file."""

    def __init__(self, descriptor: int, path: str, size: int) -> None:
        self.descriptor, self.path, self.size = descriptor, path, size
        self.digest = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self.descriptor)

    def read(self, start: int, length: int) -> bytes:
        """The bytes [start, start + length), fewer at the end of the file."""
        parts: list[bytes] = []
        end = min(start + length, self.size)
        while start < end:
            part = self._pread(min(end - start, _BLOCK), start)
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def torn_ranges(self, ranges: Sequence[Range], on_bytes: Callable[[int], None]) -> tuple[Range, ...]:
        """Reads every byte once; the ranges that do not match their CRC-32. Sets `digest`."""
        pending = sorted(ranges, key=lambda found: found.start)
        sums = dict.fromkeys(pending, 0)
        whole, first, start = 0, 0, 0
        while start < self.size:
            block = memoryview(self._pread(min(_BLOCK, self.size - start), start))
            end = start + len(block)
            whole = crc64nvme(block, whole)
            while first < len(pending) and pending[first].start + pending[first].length <= start:
                first += 1
            for found in pending[first:]:
                if found.start >= end:
                    break
                piece = block[max(found.start - start, 0) : found.start + found.length - start]
                sums[found] = isal_zlib.crc32(piece, sums[found])
            on_bytes(len(block))
            start = end
        self.digest = f"crc64nvme:{whole:016x}"
        return tuple(found for found in pending if sums[found] != found.crc)

    def _pread(self, length: int, start: int) -> bytes:
        try:
            part = os.pread(self.descriptor, length, start)
        except OSError as error:
            raise CannotTell("reading", self.path, error) from error
        if not part:
            raise Unsteady(self.path)
        return part


Parser = Callable[[PayloadReader, str], Parsed]
