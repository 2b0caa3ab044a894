"""safetensors: 8 bytes of header length, a JSON header, then the tensors without gaps.

Format: the README of the safetensors project. Every byte of the data section belongs to exactly one tensor.
"""

from __future__ import annotations

import json
from math import prod
from typing import TYPE_CHECKING, Any, Final

from lastgood.facts import TensorFact
from lastgood.findings import Code, Finding
from lastgood.formats.payload import Parsed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastgood.formats.payload import PayloadReader

_LENGTH_BYTES: Final = 8
_LONGEST_HEADER: Final = 100_000_000  # the limit of the format's own reader
_BITS: Final = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


class _Broken(Exception):
    def __init__(self, code: Code, message: str) -> None:
        self.code, self.message = code, message


def parse(payload: PayloadReader, path: str) -> Parsed:
    """{tensor name: TensorFact}, and whether the file is as long as its header says."""
    try:
        header, data_start = _read_header(payload)
        tensors, data_length = _check_tensors(header, data_start)
        _check_length(payload.size, data_start + data_length)
    except _Broken as broken:
        return Parsed("safetensors", None, (Finding(broken.code, path, broken.message),))
    return Parsed("safetensors", tensors, tensors=tensors)


def _read_header(payload: PayloadReader) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(payload.read(0, _LENGTH_BYTES), "little")
    if payload.size < _LENGTH_BYTES:
        raise _Broken(Code.SAFETENSORS_SHORT, f"{payload.size} bytes are too few for a header")
    if length > _LONGEST_HEADER:
        raise _Broken(Code.SAFETENSORS_HEADER, f"it claims a header of {length} bytes")
    if _LENGTH_BYTES + length > payload.size:
        raise _Broken(Code.SAFETENSORS_SHORT, f"its header of {length} bytes ends after the file does")
    try:
        header = json.loads(payload.read(_LENGTH_BYTES, length), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _Broken(Code.SAFETENSORS_HEADER, f"its header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise _Broken(Code.SAFETENSORS_HEADER, "its header is not a JSON object")
    return header, _LENGTH_BYTES + length


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name appears twice")
    return found


def _check_tensors(header: dict[str, Any], data_start: int) -> tuple[dict[str, TensorFact], int]:
    """The tensors, and the length of the data section."""
    placed = sorted(_placed(header, data_start))
    expected = 0
    for start, end, name, _fact in placed:
        if start != expected:
            what = "a gap" if start > expected else "an overlap"
            raise _Broken(Code.SAFETENSORS_LAYOUT, f"{what} before tensor {name}")
        expected = end
    return {name: fact for _start, _end, name, fact in placed}, expected


def _placed(header: dict[str, Any], data_start: int) -> Iterator[tuple[int, int, str, TensorFact]]:
    for name, described in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape = described["dtype"], tuple(described["shape"])
            start, end = described["data_offsets"]
            bits = _BITS[dtype]
        except (KeyError, TypeError, ValueError):
            raise _Broken(Code.SAFETENSORS_HEADER, f"tensor {name} is not described as the format asks") from None
        # Before anything is multiplied: text times a number is a text, and may be one of gigabytes.
        valid = all(type(n) is int and n >= 0 for n in (*shape, start, end))
        if not valid or (end - start) * 8 != bits * prod(shape):
            raise _Broken(
                Code.SAFETENSORS_LAYOUT,
                f"tensor {name}: {dtype} {list(shape)} does not fill bytes {start} to {end}",
            )
        yield start, end, name, TensorFact(dtype, shape, end - start, data_start + start, end - start)


def _check_length(actual: int, promised: int) -> None:
    if actual < promised:
        raise _Broken(Code.SAFETENSORS_SHORT, f"{actual} of the {promised} bytes that its header promises")
    if actual > promised:
        raise _Broken(Code.SAFETENSORS_LAYOUT, f"{actual - promised} bytes after the last tensor")
