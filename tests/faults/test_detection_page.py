"""docs/detection.md lists every fault, and says of lastgood what the matrix holds it to."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from detection_page import rows_of, said
from faults import FAULTS

PAGE: Final = Path(__file__).parents[2] / "docs" / "detection.md"
HARMLESS: Final = ("nothing at all", "a file more")
RENEW: Final = "renew it: python tests/support/detection_page.py > docs/detection.md"


def test_the_page_says_of_every_fault_what_the_matrix_expects() -> None:
    rows = rows_of(PAGE.read_text(encoding="utf-8"))
    told = {name: (layout, alone, beside) for name, (layout, *_others, alone, beside, _manifest) in rows.items()}
    expected = {fault.name: (fault.layouts[0].name, said(fault.alone), said(fault.beside)) for fault in FAULTS}
    assert told == expected, RENEW


def test_what_nobody_can_see_is_caught_with_a_manifest() -> None:
    rows = rows_of(PAGE.read_text(encoding="utf-8"))
    unseen = [name for name, cells in rows.items() if cells[-3:-1] == ["complete", "complete"]]
    assert unseen
    assert [name for name in unseen if name not in HARMLESS and not rows[name][-1].startswith("corrupt")] == []
