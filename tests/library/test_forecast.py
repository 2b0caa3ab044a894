"""How long a disk will do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from lastgood.findings import Verdict
from lastgood.forecast import forecast
from lastgood.life import State
from recording import NOON, record


def saves(*sizes: int, minutes: float = 10, **facts: Any) -> list[Any]:
    """One save after the other, that many minutes apart."""
    return [
        record(100 * number, number, bytes=size, first_seen_at=NOON + timedelta(minutes=minutes * number), **facts)
        for number, size in enumerate(sizes, 1)
    ]


def test_room_is_counted_in_saves_and_the_end_in_time() -> None:
    found = forecast(saves(100, 100, 110), 1050, NOON)
    assert found is not None
    assert (found.bytes_per_save, found.room_for, found.seconds_per_save) == (100, 10, 600)
    assert found.full_at == NOON + timedelta(minutes=100)


def test_only_the_last_ten_count() -> None:
    found = forecast(saves(*[10] * 30, *[1000] * 10), 5000, NOON)
    assert found is not None
    assert found.bytes_per_save == 1000


@pytest.mark.parametrize(
    ("facts", "counts"),
    [
        pytest.param({"state": State.GONE}, True, id="removed since"),
        pytest.param({"verdict": Verdict.PARTIAL}, True, id="partial"),
        pytest.param({"verdict": Verdict.INCOMPLETE}, False, id="never finished"),
        pytest.param({"state": State.LANDING, "verdict": None}, False, id="being written"),
        pytest.param({"copy": True}, False, id="a copy"),
    ],
)
def test_what_counts_as_a_save(facts: dict[str, Any], counts: bool) -> None:
    assert (forecast(saves(100, 100, **facts), 1000, NOON) is not None) is counts


def test_when_it_will_be_full_is_not_said_before_a_pace_is_known() -> None:
    for found in (forecast(saves(100), 1000, NOON), forecast(saves(100, 100, before_us=True), 1000, NOON)):
        assert found is not None
        assert (found.room_for, found.seconds_per_save, found.full_at) == (10, None, None)


def test_an_end_beyond_all_calendars_is_none() -> None:
    found = forecast(saves(1, 1), 2**60, NOON)
    assert found is not None
    assert found.full_at is None
