"""One pass over every byte of a file: the CRC-32 of its records, its digest, and what its numbers hold.

The unit of work is a piece of a file: `scan_piece` takes plain values and returns plain values, so it can be given to
anything with `submit`, and `join` makes one answer of the parts, the same however the file was cut.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

from awscrt.checksums import combine_crc64nvme, crc64nvme
from isal import isal_zlib

from lastgood.formats.packed import NotAsSaid, Packed, unpack
from lastgood.formats.payload import open_payload
from lastgood.formats.views import WIDTHS, Look, View, numbers_of, views_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from lastgood.facts import Numbers, TensorFact
    from lastgood.formats.payload import PayloadReader, Range

_BLOCK: Final = 1 << 20  # larger ones fall out of the second-level cache between one sum and the next
_SMALLEST_PIECE: Final = 8 << 20
_LARGEST_PIECE: Final = 32 << 20
_MARGIN: Final = 7  # so many bytes of the widest number may lie beyond the block in which it begins


class Spanning(Protocol):
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


Placed = TypeVar("Placed", bound=Spanning)


class Span(NamedTuple):
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Source:
    """A file to scan: where it lies, what it is called in messages, how long it is, how it is to be read."""

    location: str
    path: str
    size: int
    sha256: bool = False  #: its digest; otherwise CRC64NVME
    drop_cached: bool = False  #: it was not cached before we came


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes [start, end) of a file, and what lies in them. A number belongs to the piece in which it begins."""

    source: Source
    start: int
    end: int
    ranges: tuple[Range, ...]
    views: tuple[View, ...]


@dataclass(frozen=True, slots=True)
class PackedPiece:
    """A packed record, which cannot be cut, and what lies in that which it unpacks to."""

    source: Source
    record: Packed
    views: tuple[View, ...]


@dataclass(slots=True)
class Partial:
    """What one piece told; of each range, the CRC-32 and the length of what lies in this piece."""

    length: int = 0
    crc64: int = 0
    sha256: str = ""
    ranges: dict[Range, tuple[int, int]] = field(default_factory=dict)
    looks: dict[View, Look] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scan:
    """What the bytes of one file told."""

    digest: str
    torn: tuple[Range, ...]  #: ranges that do not match their CRC-32
    numbers: Numbers


def ignore(_count: int) -> None:
    """Hears of bytes and does nothing."""


def scan_file(
    source: Source,
    ranges: Sequence[Range],
    tensors: Mapping[str, TensorFact],
    on_bytes: Callable[[int], None] = ignore,
    *,
    threads: int = 2,
    packed: Sequence[Packed] = (),
) -> Scan:
    """Reads every byte once, and packed ones a second time, to unpack them.

    `on_bytes` hears of each block, from any thread but never two at once.
    """
    unpacked = [record.unpacked for record in packed]
    size = max([source.size, *(found.end for found in unpacked)])
    views = views_of(tensors, size)
    pieces: list[Piece | PackedPiece] = [*_packed_pieces(source, packed, views)]
    pieces += cut(source, ranges, views, _piece_length(source))
    if threads < 2 or len(pieces) < 2:
        parts = [scan_piece(piece, on_bytes) for piece in pieces]
    else:
        parts = _scan_in_threads(pieces, on_bytes, threads)
    whole = join(parts)
    sums = {**dict.fromkeys(ranges, (0, 0)), **whole.ranges}
    torn = tuple(found for found in (*ranges, *unpacked) if sums.get(found) != (found.crc, found.length))
    digest = f"sha256:{whole.sha256}" if source.sha256 else f"crc64nvme:{whole.crc64:016x}"
    return Scan(digest, torn, numbers_of(tensors, size, whole.looks))


def _piece_length(source: Source) -> int:
    if source.sha256:
        return max(source.size, 1)  # SHA-256 chains
    # Whole blocks, and several pieces a thread, so that none waits long for the other at the end.
    quarter = -(-source.size // (4 * _BLOCK)) * _BLOCK
    return min(max(quarter, _SMALLEST_PIECE), _LARGEST_PIECE)


def cut(source: Source, ranges: Iterable[Range], views: Iterable[View], length: int) -> list[Piece]:
    """The whole file in pieces of so many bytes."""
    spans = _spans(0, source.size, length)
    found = zip(spans, _within(spans, ranges), _within(spans, views), strict=True)
    return [Piece(source, span.start, span.end, ranges_, views_) for span, ranges_, views_ in found]


def _packed_pieces(source: Source, packed: Sequence[Packed], views: Iterable[View]) -> Iterator[PackedPiece]:
    within = _within([record.unpacked for record in packed], views)
    for record, found in zip(packed, within, strict=True):
        # One that lies in two records is of a file whose sizes are wrong, which is told elsewhere.
        yield PackedPiece(source, record, tuple(view for view in found if view.end <= record.unpacked.end))


def scan_piece(piece: Piece | PackedPiece, on_bytes: Callable[[int], None] = ignore) -> Partial:
    """What the bytes of one piece tell. Unsteady where the file changed; CannotTell where the disk does not answer."""
    if isinstance(piece, PackedPiece):
        return _scan_packed(piece, on_bytes)
    found, sha256 = Partial(), hashlib.sha256(usedforsecurity=False)
    buffer = memoryview(bytearray(min(_BLOCK, piece.end - piece.start) + _MARGIN))
    spans = _spans(piece.start, piece.end, _BLOCK)
    with open_payload(piece.source.location, piece.source.path, piece.source.size) as payload:
        payload.expect_sequential()
        for span, ranges, views in zip(spans, _within(spans, piece.ranges), _within(spans, piece.views), strict=True):
            block = _read(payload, buffer, span)
            if piece.source.sha256:
                sha256.update(block[: span.end - span.start])
            else:
                found.crc64 = crc64nvme(block[: span.end - span.start], found.crc64)
            _sum_ranges(found.ranges, block, span, ranges)
            _look_at_views(found.looks, block, span, views)
            if piece.source.drop_cached:
                payload.drop_cached(span.start, span.end - span.start)
            on_bytes(span.end - span.start)
    found.length, found.sha256 = piece.end - piece.start, sha256.hexdigest()
    return found


def _scan_packed(piece: PackedPiece, on_bytes: Callable[[int], None]) -> Partial:
    """Without a sum of its range where it is not as was said. Its bytes in the file are of other pieces."""
    found, unpacked = Partial(), piece.record.unpacked
    with open_payload(piece.source.location, piece.source.path, piece.source.size) as payload:
        try:
            for span, block in _overlapping(unpack(payload, piece.record), unpacked.start):
                _sum_ranges(found.ranges, block, span, (unpacked,))
                _look_at_views(found.looks, block, span, piece.views)
                on_bytes(0)  # to unpack takes long, and who hears nothing for long takes us for dead
        except NotAsSaid:
            return Partial()
    return found


def _overlapping(blocks: Iterable[bytes], start: int) -> Iterator[tuple[Span, memoryview]]:
    """The bytes that begin at `start`, span by span, each with those of the next that a number may need."""
    held = b""
    for block in blocks:
        held += block
        if len(held) > _MARGIN:
            end = start + len(held) - _MARGIN
            yield Span(start, end), memoryview(held)
            held, start = held[-_MARGIN:], end
    yield Span(start, start + len(held)), memoryview(held)


def join(parts: Iterable[Partial]) -> Partial:
    """What neighbouring pieces, in their order, tell together. Those of packed records come first."""
    whole = Partial()
    for part in parts:
        whole.length += part.length
        whole.crc64 = combine_crc64nvme(whole.crc64, part.crc64, part.length)
        whole.sha256 = part.sha256  # of a file that is not cut
        for found, (crc, length) in part.ranges.items():
            before, already = whole.ranges.get(found, (0, 0))
            whole.ranges[found] = (isal_zlib.crc32_combine(before, crc, length), already + length)
        for view, look in part.looks.items():
            _note(whole.looks, view, look)
    return whole


def _scan_in_threads(
    pieces: Sequence[Piece | PackedPiece], on_bytes: Callable[[int], None], threads: int
) -> list[Partial]:
    pool = ThreadPoolExecutor(threads, "lastgood-scan")
    try:
        return scan_with(pool, pieces, _one_at_a_time(on_bytes))
    except RuntimeError:  # Python is about to end and starts no thread any more: a job's last save is being listed
        return [scan_piece(piece, on_bytes) for piece in pieces]
    finally:
        pool.shutdown(cancel_futures=True)


def scan_with(
    pool: Executor, pieces: Iterable[Piece | PackedPiece], on_bytes: Callable[[int], None] = ignore
) -> list[Partial]:
    """What each piece tells, done by `pool`."""
    return [future.result() for future in [pool.submit(scan_piece, piece, on_bytes) for piece in pieces]]


def _one_at_a_time(on_bytes: Callable[[int], None]) -> Callable[[int], None]:
    lock = Lock()

    def heard(count: int) -> None:
        with lock:
            on_bytes(count)

    return heard


def _spans(start: int, end: int, length: int) -> list[Span]:
    return [Span(place, min(place + length, end)) for place in range(start, end, length)]


def _within(spans: Iterable[Spanning], things: Iterable[Placed]) -> Iterator[tuple[Placed, ...]]:
    """For each span in turn, the things that lie in it, wholly or in part."""
    waiting = sorted(things, key=lambda thing: thing.start, reverse=True)
    here: list[Placed] = []
    for span in spans:
        while waiting and waiting[-1].start < span.end:
            here.append(waiting.pop())
        here = [thing for thing in here if thing.end > span.start]
        yield tuple(here)


def _read(payload: PayloadReader, buffer: memoryview, span: Span) -> memoryview:
    """The span's bytes, and as many of the next as a number may need that begins in this one."""
    block = buffer[: min(span.end + _MARGIN, payload.size) - span.start]
    payload.fill(block, span.start)
    return block


def _sum_ranges(sums: dict[Range, tuple[int, int]], block: memoryview, span: Span, ranges: Iterable[Range]) -> None:
    for found in ranges:
        piece = block[max(found.start - span.start, 0) : min(found.end, span.end) - span.start]
        crc, length = sums.get(found, (0, 0))
        sums[found] = (isal_zlib.crc32(piece, crc), length + len(piece))


def _look_at_views(looks: dict[View, Look], block: memoryview, span: Span, views: tuple[View, ...]) -> None:
    if not views:
        return
    # numpy takes a while to load, and a quick look does without it.
    from lastgood.formats.floats import look_at  # noqa: PLC0415

    for view in views:
        width = WIDTHS[view.dtype]
        first = _next_number(view, max(span.start, view.start), width) - span.start
        last = _next_number(view, min(span.end, view.end), width) - span.start
        if first < last:
            _note(looks, view, look_at(block[first:last], view.dtype))


def _note(looks: dict[View, Look], view: View, look: Look) -> None:
    before = looks.get(view, look)
    looks[view] = look if before is look else before | look


def _next_number(view: View, place: int, width: int) -> int:
    """Where the first number begins at or after `place`."""
    return place + (view.start - place) % width
