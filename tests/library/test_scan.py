"""One pass over a file's bytes: sums, digests and numbers, the same however the file is cut."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import pickle
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from awscrt.checksums import crc64nvme
from hypothesis import given, settings
from hypothesis import strategies as st

from judging import facts_of
from lastgood.errors import CannotTell
from lastgood.facts import Level, Numbers, TensorFact
from lastgood.formats import scan
from lastgood.formats.floats import look_at
from lastgood.formats.payload import PayloadReader, Range, Unsteady, open_payload
from lastgood.formats.scan import Source, cut, join, scan_file, scan_piece, scan_with
from lastgood.formats.views import WIDTHS, Look, View, numbers_of, views_of
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

TORCH = {
    "F64": torch.float64, "C128": torch.float64,
    "F32": torch.float32, "C64": torch.float32,
    "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}  # fmt: skip
QUIET_NAN, SIGNALLING_NAN, INFINITY = 0x7FC00000, 0x7F800001, 0x7F800000
NEGATIVE = 0x80000000


def naive(data: bytes, dtype: str) -> tuple[bool, bool, bool]:
    """(nan, inf that is no mask, zero), by torch, one number after the other."""
    values = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(TORCH[dtype]).to(torch.float64).tolist()
    mask = all(value in (0, -math.inf) for value in values)
    return (
        any(math.isnan(value) for value in values),
        any(math.isinf(value) for value in values) and not mask,
        all(value == 0 for value in values),
    )


def as_seen(look: Look) -> tuple[bool, bool, bool]:
    fact = TensorFact("F32", (1,), 4, 0, 4)
    numbers = numbers_of({"it": fact}, 4, {View(0, 4, "F32"): look})
    return bool(numbers.nan), bool(numbers.inf), bool(numbers.zero)


def singles(*bits: int) -> bytes:
    return struct.pack(f"<{len(bits)}I", *bits)


# --- numbers ---


@pytest.mark.parametrize("dtype", [dtype for dtype in TORCH if WIDTHS[dtype] == 1])
def test_every_number_of_eight_bits_is_seen_for_what_it_is(dtype: str) -> None:
    for pair in ((first, second) for first in range(256) for second in (0, 1, first)):
        assert as_seen(look_at(memoryview(bytes(pair)), dtype)) == naive(bytes(pair), dtype), pair


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_numbers_of_sixteen_bits_are_seen_for_what_they_are(dtype: str) -> None:
    edges = [half + edge for half in (0, 0x8000) for edge in (0, 1, 0x7BFF, 0x7C00, 0x7C01, 0x7F7F, 0x7F80, 0x7F81)]
    bits = np.array([*edges, *range(0, 1 << 16, 17)], "<u2")
    values = torch.from_numpy(bits.view(np.int16)).view(TORCH[dtype]).to(torch.float64)
    expected = zip(torch.isnan(values).tolist(), torch.isposinf(values).tolist(), (values == 0).tolist(), strict=True)
    found = [as_seen(look_at(memoryview(one.tobytes()), dtype)) for one in bits]
    assert found == list(expected)


def test_scales_of_eight_bits_are_never_zero_nor_infinite() -> None:
    for byte in range(256):
        assert look_at(memoryview(bytes([byte, 127])), "F8_E8M0") & Look.NOT_A_NUMBER == (
            Look.NOT_A_NUMBER if byte == 255 else 0
        )
        assert as_seen(look_at(memoryview(bytes([byte])), "F8_E8M0")) == (byte == 255, False, False)


@pytest.mark.parametrize(
    ("numbers", "nan", "inf", "zero"),
    [
        pytest.param(singles(QUIET_NAN), True, False, False, id="NaN"),
        pytest.param(singles(0x3F800000, SIGNALLING_NAN), True, False, False, id="a signalling NaN"),
        pytest.param(singles(0xFFFFFFFF, 0), True, False, False, id="a negative NaN full of payload"),
        pytest.param(singles(NEGATIVE | QUIET_NAN, 0x3F800000), True, False, False, id="the processor's own NaN"),
        pytest.param(singles(INFINITY, 0x3F800000), False, True, False, id="Inf"),
        pytest.param(singles(NEGATIVE | INFINITY, 0x3F800000), False, True, False, id="-Inf beside a number"),
        pytest.param(singles(INFINITY, NEGATIVE | INFINITY), False, True, False, id="both, whose sum is NaN"),
        pytest.param(singles(INFINITY, QUIET_NAN), True, True, False, id="Inf beside NaN"),
        pytest.param(singles(0, NEGATIVE | INFINITY), False, False, False, id="a mask"),
        pytest.param(singles(NEGATIVE | INFINITY), False, False, False, id="a mask that hides all"),
        pytest.param(singles(0, INFINITY), False, True, False, id="no mask: its Inf is positive"),
        pytest.param(singles(*[0x7F7FFFFF] * 9), False, False, False, id="the greatest, whose sum overflows"),
        pytest.param(singles(1, 0, 0), False, False, False, id="the smallest, whose square is zero"),
        pytest.param(singles(NEGATIVE | 1, 0), False, False, False, id="the smallest negative"),
        pytest.param(singles(0x3F800000, 0xBF800000), False, False, False, id="numbers whose sum is zero"),
        pytest.param(singles(0, NEGATIVE, 0), False, False, True, id="-0 counts as zero"),
        pytest.param(singles(NEGATIVE), False, False, True, id="nothing but -0"),
    ],
)
def test_single_precision_is_seen_for_what_it_is(numbers: bytes, nan: bool, inf: bool, zero: bool) -> None:
    assert as_seen(look_at(memoryview(numbers), "F32")) == naive(numbers, "F32") == (nan, inf, zero)


@given(st.sampled_from(sorted(TORCH)), st.data())
def test_any_numbers_are_seen_for_what_they_are(dtype: str, data: st.DataObject) -> None:
    numbers = data.draw(_numbers(WIDTHS[dtype]))
    assert as_seen(look_at(memoryview(numbers), dtype)) == naive(numbers, dtype)


def _numbers(width: int) -> st.SearchStrategy[bytes]:
    """Zeros, ones and whatever else, so that all-zero and not finite come up."""
    piece = st.one_of(
        st.just(bytes(width)),
        st.just(bytes(width - 1) + b"\x80"),
        st.just(b"\xff" * width),
        st.sampled_from([b"\x00\x7c", b"\x80\x7f", b"\x80\xff"]).map(lambda top: (bytes(8) + top)[-width:]),
        st.binary(min_size=width, max_size=width),
    )
    return st.lists(piece, min_size=1, max_size=12).map(b"".join)


# --- names, masks, views ---


def test_a_tensor_that_two_names_share_is_looked_at_once_and_reported_under_both() -> None:
    fact = TensorFact("F32", (1,), 4, 8, 4)
    tensors = {"embed": fact, "head": fact}
    assert views_of(tensors, 100) == [View(8, 12, "F32")]
    found = numbers_of(tensors, 100, {View(8, 12, "F32"): Look.NOT_A_NUMBER})
    assert found == Numbers(nan=frozenset({"embed", "head"}))


@pytest.mark.parametrize(
    "fact",
    [
        pytest.param(TensorFact("I64", (1,), 8, 0, 8), id="whole numbers"),
        pytest.param(TensorFact("BOOL", (1,), 1, 0, 1), id="truth values"),
        pytest.param(TensorFact("F32", (0, 3), 0, 0, 0), id="no elements"),
        pytest.param(TensorFact("F32", (1,), 4), id="nobody knows where"),
        pytest.param(TensorFact("F32", (2,), 8, 96, 8), id="beyond the end of the file"),
        pytest.param(TensorFact("F32", (1,), 4, -4, 4), id="before its beginning"),
    ],
)
def test_what_holds_no_numbers_that_can_be_wrong_is_not_looked_at(fact: TensorFact) -> None:
    assert views_of({"it": fact}, 100) == []
    assert numbers_of({"it": fact}, 100, {}) == Numbers()


def test_rubbish_in_the_gaps_that_strides_leave_alarms_nobody() -> None:
    tensors = {"column": TensorFact("F32", (2,), 8, 0, 16)}
    assert numbers_of(tensors, 16, {View(0, 16, "F32"): Look.NOT_A_NUMBER | Look.FINITE}) == Numbers()
    assert numbers_of(tensors, 16, {View(0, 16, "F32"): Look.ZERO}) == Numbers(zero=frozenset({"column"}))


def test_a_file_that_names_one_storage_a_million_times_is_looked_at_a_few_times_only() -> None:
    tensors = {str(start): TensorFact("F32", (1,), 4000, start, 4000) for start in range(1000)}
    assert sum(view.end - view.start for view in views_of(tensors, 5000)) <= 4 * 5000


# --- however it is cut ---


@st.composite
def _files(draw: st.DrawFn) -> tuple[bytes, dict[str, TensorFact], list[Range]]:
    """Bytes, with tensors anywhere, overlapping too, and ranges with right and wrong sums."""
    data, tensors, ranges = draw(st.binary(max_size=20)), {}, []
    for number in range(draw(st.integers(0, 6))):
        dtype = draw(st.sampled_from(sorted(TORCH)))
        numbers = draw(_numbers(WIDTHS[dtype]))
        tensors[str(number)] = TensorFact(dtype, (), len(numbers), len(data), len(numbers))
        data += numbers + draw(st.binary(max_size=9))
    if len(data) >= 8:
        tensors["overlapping"] = TensorFact("F64", (), len(data) // 8 * 8, 0, len(data) // 8 * 8)
    for number in range(draw(st.integers(0, 4))):
        start, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        torn = draw(st.booleans()) and start < end
        ranges.append(Range(str(number), start, end - start, zlib.crc32(data[start:end]) ^ torn))
    return data, tensors, ranges


def _expected(data: bytes, tensors: dict[str, TensorFact]) -> Numbers:
    seen = {
        name: naive(data[fact.start : fact.start + fact.bytes], fact.dtype)
        for name, fact in tensors.items()
        if fact.start is not None
    }
    return Numbers(*(frozenset(name for name, look in seen.items() if look[place]) for place in range(3)))


@settings(max_examples=150, deadline=None)
@given(_files(), st.integers(1, 40), st.integers(1, 24), st.integers(1, 2))
def test_any_cutting_tells_the_same_as_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    made: tuple[bytes, dict[str, TensorFact], list[Range]],
    piece: int,
    block: int,
    threads: int,
) -> None:
    data, tensors, ranges = made
    file = tmp_path_factory.mktemp("scan", numbered=True) / "file"
    file.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_SMALLEST_PIECE", piece)
        patch.setattr(scan, "_LARGEST_PIECE", piece)
        patch.setattr(scan, "_BLOCK", block)
        found = scan_file(Source(str(file), "file", len(data)), ranges, tensors, threads=threads)
    assert found.digest == f"crc64nvme:{crc64nvme(data):016x}"
    assert set(found.torn) == {each for each in ranges if zlib.crc32(data[each.start : each.end]) != each.crc}
    assert found.numbers == _expected(data, tensors)


def _large(folder: Path, size: int = 5 << 20) -> tuple[Source, dict[str, TensorFact], list[Range]]:
    data = bytearray(np.random.default_rng(1).standard_normal(size // 4).astype("<f4").tobytes())
    data[size // 2 : size // 2 + 4] = singles(QUIET_NAN)
    (folder / "file").write_bytes(data)
    half = size // 8 * 4
    tensors = {"all": TensorFact("F32", (), size, 0, size), "half": TensorFact("F32", (), half, 0, half)}
    ranges = [Range("good", 3, size - 7, zlib.crc32(data[3:-4])), Range("torn", 1, size // 2, 0)]
    return Source(str(folder / "file"), "file", size), tensors, ranges


def test_two_threads_tell_the_same_as_one_and_every_block_is_heard_of_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_LARGEST_PIECE", 1 << 20)
    source, tensors, ranges = _large(tmp_path)
    busy, heard = threading.Lock(), []

    def on_bytes(count: int) -> None:
        assert busy.acquire(blocking=False)
        heard.append(count)
        busy.release()

    found = scan_file(source, ranges, tensors, on_bytes)
    assert found == scan_file(source, ranges, tensors, threads=1)
    assert sum(heard) == source.size
    assert (set(found.numbers.nan), [torn.name for torn in found.torn]) == ({"all"}, ["torn"])


def test_a_piece_can_be_sent_to_another_process_and_its_answer_back(tmp_path: Path) -> None:
    source, tensors, ranges = _large(tmp_path)
    pieces = cut(source, ranges, views_of(tensors, source.size), 1 << 20)
    parts = [pickle.loads(pickle.dumps(scan_piece(pickle.loads(pickle.dumps(piece))))) for piece in pieces]
    with ThreadPoolExecutor(2) as pool:
        assert parts == scan_with(pool, pieces)
    assert join(parts) == join(
        [scan_piece(piece) for piece in cut(source, ranges, views_of(tensors, source.size), source.size)]
    )


def test_the_digest_can_be_sha256(tmp_path: Path) -> None:
    source, tensors, ranges = _large(tmp_path)
    found = scan_file(Source(source.location, "file", source.size, sha256=True), ranges, tensors)
    assert found.digest == f"sha256:{hashlib.sha256((tmp_path / 'file').read_bytes()).hexdigest()}"
    assert (found.torn, found.numbers) == (
        scan_file(source, ranges, tensors).torn,
        scan_file(source, ranges, tensors).numbers,
    )


def test_an_empty_file_has_a_digest_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert scan_file(Source(str(tmp_path / "file"), "file", 0), (), {}).digest == "crc64nvme:0000000000000000"


# --- a world that does not stand still ---


def _put_a_pipe_there(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("happens", "raised"),
    [
        pytest.param(lambda file: os.truncate(file, 1000), Unsteady, id="it shrinks"),
        pytest.param(lambda file: file.rename(file.with_name("gone")), Unsteady, id="it goes away"),
        pytest.param(_put_a_pipe_there, Unsteady, id="a pipe takes its place"),
    ],
)
def test_a_file_that_changes_between_two_pieces_is_unsteady(
    happens: Callable[[Path], Any],
    raised: type[Exception],
    threads: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scan, "_LARGEST_PIECE", 1 << 20)
    source, tensors, ranges = _large(tmp_path)
    blocks = iter(range(5))

    def on_bytes(_count: int) -> None:
        if next(blocks) == 0:
            happens(tmp_path / "file")

    with pytest.raises((raised, CannotTell)) as caught:
        scan_file(source, ranges, tensors, on_bytes, threads=threads)
    if isinstance(caught.value, CannotTell):
        assert isinstance(caught.value.cause, FileNotFoundError)  # which `read_file` takes for Unsteady


@pytest.mark.parametrize("threads", [1, 2])
def test_a_disk_that_fails_in_the_middle_cannot_tell(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_LARGEST_PIECE", 1 << 20)
    source, tensors, ranges = _large(tmp_path)
    real = os.preadv

    def preadv(descriptor: int, buffers: Sequence[Any], offset: int, flags: int = 0) -> int:
        if offset >= 3 << 20:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor, buffers, offset, flags)

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(CannotTell, match="reading file: Input/output error"):
        scan_file(source, ranges, tensors, threads=threads)


def test_what_the_caller_raises_ends_the_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_LARGEST_PIECE", 1 << 20)
    source, tensors, ranges = _large(tmp_path)

    def on_bytes(_count: int) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        scan_file(source, ranges, tensors, on_bytes)


# --- the page cache ---


def _cached(answers: Callable[[], int], file: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(os, "preadv", lambda *_arguments: answers())
    with open_payload(str(file), "file", file.stat().st_size) as payload:
        return payload.is_cached()


def _refuse(error: OSError) -> Callable[[], int]:
    def refuse() -> int:
        raise error

    return refuse


@pytest.mark.parametrize(
    ("answers", "cached"),
    [
        pytest.param(lambda: 1, True, id="there at once"),
        pytest.param(_refuse(BlockingIOError()), False, id="it would have to be fetched"),
        pytest.param(_refuse(OSError(errno.EOPNOTSUPP, "no")), True, id="a kernel that does not tell is left alone"),
    ],
)
def test_a_file_is_cached_if_its_bytes_come_without_waiting(
    answers: Callable[[], int], cached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(bytes(100_000))
    assert _cached(answers, tmp_path / "file", monkeypatch) is cached


@pytest.mark.parametrize("cached", [True, False])
def test_only_what_was_not_cached_before_is_dropped_behind_us(
    cached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.bin.part").write_bytes(bytes(3_000_000))
    dropped = []
    monkeypatch.setattr(PayloadReader, "is_cached", lambda _payload: cached)
    monkeypatch.setattr(PayloadReader, "drop_cached", lambda _payload, *span: dropped.append(span))
    assert facts_of(tmp_path / "weights.bin.part").digest
    assert sum(length for _start, length in dropped) == (0 if cached else 3_000_000)


# --- safetensors, from end to end ---


def _safetensors(file: Path, tensors: dict[str, tuple[str, tuple[int, ...], bytes]], pad: int = 8) -> Path:
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % pad)
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return file


@pytest.mark.parametrize("pad", [1, 8])
def test_the_numbers_of_a_safetensors_file_are_looked_at(pad: int, tmp_path: Path) -> None:
    file = _safetensors(
        tmp_path / "model.safetensors",
        {
            "good": ("F32", (2,), singles(0x3F800000, 1)),
            "odd": ("U8", (3,), b"\xff\xff\xff"),
            "bad": ("F32", (2, 2), singles(0, 0, SIGNALLING_NAN, 0)),
            "scalar": ("F16", (), b"\x00\x7c"),
            "mask": ("BF16", (2,), b"\x00\x00\x80\xff"),
            "empty": ("F32", (0,), b""),
            "bias": ("F64", (2,), bytes(16)),
        },
        pad,
    )
    found = facts_of(file)
    assert found.problems == ()
    assert found.numbers == Numbers(frozenset({"bad"}), frozenset({"scalar"}), frozenset({"bias"}))
    assert facts_of(file, Level.QUICK).numbers == Numbers()


NOISE = np.random.default_rng(2).standard_normal(6000).astype("<f4").tobytes()  # 24,000 bytes


def _zeroed(after: int) -> bytes:
    return NOISE[:after] + bytes(len(NOISE) - after)


@pytest.mark.parametrize(
    ("tensors", "pages"),
    [
        pytest.param({"w": ("F32", (60, 100), _zeroed(10_100))}, 2, id="zeros begin in the middle of a row"),
        pytest.param({"w": ("F32", (6000,), _zeroed(10_100))}, 2, id="of a vector"),
        pytest.param(
            {
                "w": ("F32", (60, 100), _zeroed(10_100)),
                "x": ("F32", (6000,), bytes(24_000)),
                "y": ("I64", (10,), bytes(80)),
            },
            8,
            id="and go on over what follows",
        ),
        pytest.param({"w": ("F32", (60, 100), NOISE)}, 0, id="a healthy file"),
        pytest.param({"w": ("F32", (60, 100), _zeroed(23_000))}, 0, id="less than a page"),
        pytest.param({"w": ("F32", (60, 100), _zeroed(10_000))}, 0, id="rows that pad a vocabulary"),
        pytest.param({"w": ("F32", (2, 30, 100), _zeroed(16_000))}, 0, id="rows that pad an expert"),
        pytest.param({"w": ("F32", (6000,), NOISE), "b": ("F32", (6000,), bytes(24_000))}, 0, id="a bias at its start"),
        pytest.param({"i": ("I64", (1,), b"\1" + bytes(7)), "b": ("F32", (6000,), bytes(24_000))}, 0, id="after a 1"),
        pytest.param({"b": ("F32", (6000,), bytes(24_000))}, 0, id="nothing but zeros"),
        pytest.param({"b": ("F32", (0,), b"")}, 0, id="nothing at all"),
    ],
)
def test_zeros_at_the_end_count_only_where_no_writer_would_begin_them(
    tensors: dict[str, tuple[str, tuple[int, ...], bytes]], pages: int, tmp_path: Path
) -> None:
    assert facts_of(_safetensors(tmp_path / "model.safetensors", tensors)).zero_tail == pages * 4096


@pytest.mark.parametrize(("level", "loaded"), [("quick", ""), ("full", "numpy")])
def test_only_a_full_look_loads_numpy_and_none_loads_torch(level: str, loaded: str, tmp_path: Path) -> None:
    _safetensors(tmp_path / "model.safetensors", {"w": ("F32", (6000,), NOISE)})
    program = (
        "import sys; from lastgood.verify import verify; from lastgood.facts import Level;"
        f"verify(sys.argv[1], Level({level!r})); print(*({{'numpy', 'torch'}} & sys.modules.keys()))"
    )
    child = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert child.stdout.strip() == loaded


def test_a_checkpoint_is_digested_as_is_asked(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"123")
    (file,) = verify(str(tmp_path), digest="sha256", threads=1).files
    assert file.digest == f"sha256:{hashlib.sha256(b'123').hexdigest()}"
