"""Zeros at the end of a file's tensors, as a disk leaves them that was full or lost power.

Formats with checksums need no such guess. Healthy tensors are zero too: whole ones, such as biases, and whole rows at
the end, such as those that pad a vocabulary. So zeros count only where they begin in the middle of a row.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from lastgood.facts import TensorFact
    from lastgood.formats.payload import PayloadReader

_PAGE: Final = 4096
_BLOCK: Final = 1 << 20


def zero_tail(payload: PayloadReader, tensors: Mapping[str, TensorFact], zero: Collection[str]) -> int:
    """Bytes of whole zero pages at the end of tensors that lie side by side; `zero` names those that are all zero."""
    placed = sorted(
        (
            (tensor.start, tensor.start + tensor.bytes, name)
            for name, tensor in tensors.items()
            if tensor.start is not None
        ),
        reverse=True,
    )
    data_end = max((end for _start, end, _name in placed), default=0)
    for start, end, name in placed:
        if name in zero or start == end:
            continue
        begin = _last_zeros(payload, start, end)
        if begin > start:
            return _whole_pages(begin, end, data_end) if _is_within_a_row(tensors[name], begin) else 0
    return 0


def _last_zeros(payload: PayloadReader, start: int, end: int) -> int:
    """Where the zeros begin that end at `end`; `start` where all are zero."""
    length = _PAGE  # the last page tells nearly always
    while start < end:
        begin = max(end - length, start)
        if rest := len(payload.read(begin, end - begin).rstrip(b"\0")):
            return begin + rest
        end, length = begin, _BLOCK
    return start


def _is_within_a_row(tensor: TensorFact, place: int) -> bool:
    if tensor.start is None or len(tensor.shape) < 2:
        return True
    row = tensor.bytes // prod(tensor.shape[:-1][:2])  # experts are padded by the row, and convolutions are not rows
    element = max(tensor.bytes // prod(tensor.shape), 1)
    beyond = (place - tensor.start) % row
    # The last bytes of a number may themselves be zero.
    return 0 < beyond <= row - element


def _whole_pages(begin: int, end: int, data_end: int) -> int:
    """Of the zeros from `begin` to `data_end`, the whole pages, where the first lies before the tensor's `end`."""
    first = -(-begin // _PAGE) * _PAGE
    return max(data_end - first, 0) // _PAGE * _PAGE if first < end else 0
