"""A file as bytes: bounded reads for the parsers, reused buffers for the scan."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from lastgood.errors import CannotTell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastgood.facts import TensorFact
    from lastgood.findings import Finding
    from lastgood.formats.packed import Packed

_BLOCK: Final = 1 << 20
_ZEROS: Final = bytes(_BLOCK)
_PROBES: Final = 16


class Unsteady(Exception):
    """The file changed, or went away, while we read it."""


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes [start, start + length) of a file whose CRC-32 is known."""

    name: str
    start: int
    length: int
    crc: int

    @property
    def end(self) -> int:
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a format's parser makes of a file: facts, what it noticed, and the ranges with a checksum of their own."""

    format: Literal["safetensors", "torch", "json", "other"]
    contents: Any = None
    problems: tuple[Finding, ...] = ()
    ranges: tuple[Range, ...] = ()
    packed: tuple[Packed, ...] = ()
    tensors: Mapping[str, TensorFact] = field(default_factory=dict)
    globals: frozenset[str] = frozenset()
    foreign: bool = False


class PayloadReader:
    """An open regular file. Reads never pass `size`, and a short read means that somebody changed the file."""

    def __init__(self, descriptor: int, path: str, size: int) -> None:
        self.descriptor, self.path, self.size = descriptor, path, size

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

    def is_zero(self) -> bool:
        """Whether every byte is zero; as much is read as it takes to know."""
        blocks = (self.read(start, _BLOCK) for start in range(0, self.size, _BLOCK))
        return all(block == _ZEROS[: len(block)] for block in blocks)

    def fill(self, buffer: memoryview, start: int) -> None:
        """Puts the bytes from `start` on into all of `buffer`."""
        while buffer:
            try:
                count = os.preadv(self.descriptor, [buffer], start)
            except OSError as error:
                raise CannotTell("reading", self.path, error) from error
            if not count:
                raise Unsteady(self.path)
            buffer, start = buffer[count:], start + count

    def is_cached(self) -> bool:
        """Whether most of the file lies in the page cache; true also where the kernel does not tell."""
        places = [self.size * probe // _PROBES for probe in range(_PROBES)]
        return sum(self._is_cached_at(place) for place in places) * 2 > _PROBES

    def has_holes(self) -> bool:
        """Whether parts of it were never written, as far as the filesystem tells."""
        try:
            return os.lseek(self.descriptor, 0, os.SEEK_HOLE) < self.size
        except OSError:
            return False

    def expect_sequential(self) -> None:
        os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def drop_cached(self, start: int = 0, length: int = 0) -> None:
        """Lets the page cache forget these bytes; a length of 0 means up to the end."""
        os.posix_fadvise(self.descriptor, start, length, os.POSIX_FADV_DONTNEED)

    def _is_cached_at(self, place: int) -> bool:
        try:
            os.preadv(self.descriptor, [bytearray(1)], place, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def _pread(self, length: int, start: int) -> bytes:
        try:
            part = os.pread(self.descriptor, length, start)
        except OSError as error:
            raise CannotTell("reading", self.path, error) from error
        if not part:
            raise Unsteady(self.path)
        return part


def open_payload(location: str, path: str, size: int) -> PayloadReader:
    """The file at `location`, called `path` in what is said of it. Unsteady where it is not a file of this size."""
    # O_NONBLOCK: a pipe that was put in the file's place since we looked must not hold us.
    try:
        descriptor = os.open(location, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CannotTell("opening", path, error) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size != size:
        os.close(descriptor)
        raise Unsteady(path)
    return PayloadReader(descriptor, path, size)


Parser = Callable[[PayloadReader, str], Parsed]
