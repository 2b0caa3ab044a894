"""Retention in tables that a person can read; `python tests/support/golden_tables.py` writes their last columns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from golden_tables import FOLDER, rendered
from lastgood.retention import Why

if TYPE_CHECKING:
    from pathlib import Path

TABLES = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in TABLES])
def test_each_is_kept_or_removed_as_the_table_says(path: Path) -> None:
    expected = path.read_text()
    assert rendered(expected).splitlines() == expected.splitlines()


def test_every_reason_is_in_a_table_but_a_persons_word() -> None:
    words = {word for path in TABLES for word in re.findall(r"[a-z-]+", path.read_text().partition("because")[2])}
    assert set(Why) - words == {Why.ASKED}
