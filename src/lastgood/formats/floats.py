"""What a run of floating-point numbers holds, exactly, from their bits alone: no arithmetic, so nothing overflows.

The one module of the library that imports numpy; `scan` imports it when there are numbers to look at.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lastgood.formats.views import Look

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Bits = np.ndarray[Any, np.dtype[Any]]


def look_at(numbers: memoryview, dtype: str) -> Look:
    """What these numbers hold; there must be one at least."""
    return _LOOKS[dtype](numbers)


def _look_at_signed(numbers: memoryview, *, width: int, infinity: int, nan: int) -> Look:
    """Formats of a sign and a magnitude: finite below `infinity`, not a number from `nan` on."""
    bits = np.frombuffer(numbers, f"<u{width}")
    sign = 1 << (width * 8 - 1)
    # Unsigned, every negative number comes after every positive one; signed, before. Two maxima see both ends.
    negative = int(np.maximum.reduce(bits)) - sign
    positive = int(np.maximum.reduce(bits.view(f"<i{width}")))
    greatest = max(negative, positive, 0)
    if greatest >= infinity:
        return _look_closely(bits, sign, infinity, nan)
    return Look.FINITE if greatest else Look.ZERO


def _look_closely(bits: Bits, sign: int, infinity: int, nan: int) -> Look:
    number = bits.dtype.type
    magnitudes = bits & number(sign - 1)
    seen = {
        Look.ZERO: magnitudes == 0,
        Look.FINITE: (magnitudes > 0) & (magnitudes < number(infinity)),
        Look.NOT_A_NUMBER: magnitudes >= number(nan),
    }
    if infinity < nan:
        seen |= {
            Look.PLUS_INFINITY: bits == number(infinity),
            Look.MINUS_INFINITY: bits == number(sign | infinity),
        }
    return _joined(look for look, where in seen.items() if where.any())


def _look_at_fnuz(numbers: memoryview) -> Look:
    """Finite, no negative zero, unsigned NaN: what would be -0 is NaN, and there is no Inf."""
    bits = np.frombuffer(numbers, np.int8)
    nan = Look.NOT_A_NUMBER if int(np.minimum.reduce(bits)) == -128 else Look.NOTHING
    if not nan:
        return Look.FINITE if bits.any() else Look.ZERO
    return nan | (Look.FINITE if np.any(bits & 0x7F) else Look.NOTHING)


def _look_at_e8m0(numbers: memoryview) -> Look:
    """Powers of two, the scales of blocks: no zero, no Inf, one NaN."""
    bits = np.frombuffer(numbers, np.uint8)
    return Look.NOT_A_NUMBER if int(np.maximum.reduce(bits)) == 0xFF else Look.FINITE


def _joined(looks: Any) -> Look:
    found = Look.NOTHING
    for look in looks:
        found |= look
    return found


_DOUBLE: Final = partial(_look_at_signed, width=8, infinity=0x7FF0000000000000, nan=0x7FF0000000000001)
_SINGLE: Final = partial(_look_at_signed, width=4, infinity=0x7F800000, nan=0x7F800001)
_LOOKS: Final[Mapping[str, Callable[[memoryview], Look]]] = {
    "F64": _DOUBLE,
    "C128": _DOUBLE,
    "F32": _SINGLE,
    "C64": _SINGLE,
    "F16": partial(_look_at_signed, width=2, infinity=0x7C00, nan=0x7C01),
    "BF16": partial(_look_at_signed, width=2, infinity=0x7F80, nan=0x7F81),
    "F8_E5M2": partial(_look_at_signed, width=1, infinity=0x7C, nan=0x7D),
    "F8_E4M3": partial(_look_at_signed, width=1, infinity=0x7F, nan=0x7F),  # it has no Inf
    "F8_E4M3FNUZ": _look_at_fnuz,
    "F8_E5M2FNUZ": _look_at_fnuz,
    "F8_E8M0": _look_at_e8m0,
}
