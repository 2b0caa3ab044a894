"""What people read: numbers with their units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.rendering import size
from lastgood.wording import counted


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.7, "1 kB"),
        (1000, "1 kB"),
        (1234, "1.23 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (999_999_999, "1 GB"),
        (1.49e9, "1.49 GB"),
        (12.3e15, "12.3 PB"),
        (1.5e18, "1500 PB"),
    ],
)
def test_a_size_has_three_digits_and_the_unit_that_they_round_to(count: float, told: str) -> None:
    assert size(count) == told


@given(st.integers(0, 10**17))
def test_a_size_is_within_half_a_percent_of_the_bytes_and_never_needs_an_exponent(count: int) -> None:
    number, unit = size(count).split()
    told = float(number) * 1000 ** ("B", "kB", "MB", "GB", "TB", "PB").index(unit)
    assert abs(told - count) <= count * 0.005
    assert "e" not in number


def test_one_is_not_many() -> None:
    assert [counted(n, "copy", "copies") for n in (0, 1, 2)] == ["0 copies", "1 copy", "2 copies"]
    assert [counted(n, "file") for n in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
