"""The few numbers that a verdict needs from inside tensors: counts and learning rates that are tensors."""

from __future__ import annotations

import struct
from itertools import islice
from math import isfinite, prod
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lastgood.facts import TensorFact
    from lastgood.formats.packed import Unpacking
    from lastgood.formats.payload import PayloadReader

_WANTED: Final = frozenset(
    {"step", "lr", "global_step", "epoch", "raw_epoch", "total_batches"}
)  # the last key on the path to the tensor
_MOST: Final = 4096  # an optimizer counts once per parameter; the first few thousand tell what there is to tell
_FORMATS: Final = {
    "F64": "<d", "F32": "<f", "F16": "<e", "I64": "<q", "I32": "<i", "I16": "<h", "I8": "<b", "U8": "<B",
    "BF16": "<f",
}  # fmt: skip


def read_values(payload: PayloadReader | Unpacking, tensors: Mapping[str, TensorFact]) -> dict[str, float]:
    """What the one-element tensors of these names hold, by their names in the file; finite numbers only."""
    values = ((name, _value(payload, tensor)) for name, tensor in islice(_wanted(tensors), _MOST))
    return {name: value for name, value in values if value is not None and isfinite(value)}


def _wanted(tensors: Mapping[str, TensorFact]) -> Iterator[tuple[str, TensorFact]]:
    for name, tensor in tensors.items():
        if name.rpartition(".")[2] in _WANTED and tensor.dtype in _FORMATS and prod(tensor.shape) == 1:
            yield name, tensor


def _value(payload: PayloadReader | Unpacking, tensor: TensorFact) -> float | None:
    form = _FORMATS[tensor.dtype]
    # A bfloat16 is the upper half of a float32.
    lower = b"\0\0" if tensor.dtype == "BF16" else b""
    width = struct.calcsize(form) - len(lower)
    if tensor.start is None:
        return None
    data = lower + payload.read(tensor.start, width)
    if len(data) != struct.calcsize(form):
        return None
    (value,) = struct.unpack(form, data)
    return float(value)
