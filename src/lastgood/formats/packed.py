"""Records of a zip that are packed (DEFLATE), as `compress_state` writes them: unpacked in a stream, never whole.

Their tensors lie nowhere in the file. So that they can be spoken of like all others, each record is given a place
behind the file's last byte, as if what it unpacks to had been added there.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lastgood.formats.payload import PayloadReader, Range

_BLOCK: Final = 1 << 20
_SMALL: Final = 1 << 16  # holds the numbers that a verdict needs; to look for one in more would be to unpack it twice


class NotAsSaid(Exception):
    """It cannot be unpacked, or to fewer or more bytes than the list says."""


class Packed(NamedTuple):
    """Bytes [begin, begin + length) of a file, and what they unpack to: its place behind the file, and its CRC-32."""

    begin: int
    length: int
    unpacked: Range


def unpack(payload: PayloadReader, record: Packed) -> Iterator[bytes]:
    """What is packed, in blocks. However little packs however much: nothing is made beyond what was said of it."""
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    place, end, left = record.begin, record.begin + record.length, record.unpacked.length
    while not machine.eof:
        data = machine.unconsumed_tail
        if not data:
            data = payload.read(place, min(_BLOCK, end - place))
            place += len(data)
        block = _next(machine, data, min(left + 1, _BLOCK))  # the one too many shows that there is more
        if len(block) > left:
            raise NotAsSaid("it unpacks to more than the list says")
        if not (block or data or machine.eof):
            raise NotAsSaid("it ends too early")
        left -= len(block)
        yield block
    if left:
        raise NotAsSaid("it unpacks to less than the list says")


def unpack_whole(payload: PayloadReader, record: Packed) -> bytes:
    """All of it at once: the caller knows that it is small enough. NotAsSaid also where its CRC-32 is another."""
    content = b"".join(unpack(payload, record))
    if zlib.crc32(content) != record.unpacked.crc:
        raise NotAsSaid("what it unpacks to does not match the CRC-32 stored with it")
    return content


class Unpacking:
    """Reads small pieces of a file, or of what its packed records unpack to, by their places."""

    def __init__(self, payload: PayloadReader, records: Sequence[Packed]) -> None:
        self._payload = payload
        self._records = [record for record in records if record.unpacked.length <= _SMALL]

    def read(self, start: int, length: int) -> bytes:
        """Nothing where it lies in a record that is large, or is not as was said."""
        if start < self._payload.size:
            return self._payload.read(start, length)
        place = bisect_right(self._records, start, key=lambda record: record.unpacked.start) - 1
        if place < 0:
            return b""
        record = self._records[place]
        try:
            return unpack_whole(self._payload, record)[start - record.unpacked.start :][:length]
        except NotAsSaid:
            return b""


def _next(machine: zlib._Decompress, data: bytes, most: int) -> bytes:
    try:
        return machine.decompress(data, most)
    except zlib.error as error:
        raise NotAsSaid(str(error)) from None
