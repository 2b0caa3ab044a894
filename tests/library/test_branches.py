"""Which saves make one line: rollbacks, a fresh start in a used folder, two jobs in one folder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastgood import branches
from lastgood.errors import NoneAcceptable
from lastgood.findings import Code
from lastgood.resume import Wishes, answer_as_json, resume_point
from recording import record

if TYPE_CHECKING:
    from lastgood.records import Record


def run(*steps: int) -> list[Record]:
    """Complete saves in this order, in the branches that they make."""
    records: list[Record] = []
    for number, step in enumerate(steps):
        records.append(record(step, number, branch=branches.branch_for(records, step)))
    return records


@pytest.mark.parametrize(
    ("steps", "lineage"),
    [
        pytest.param([100, 200, 300], [300, 200, 100], id="one line"),
        pytest.param([100, 200, 300, 150], [150, 100], id="a rollback shares what lies below its first save"),
        pytest.param([100, 200, 50], [50], id="from scratch shares nothing"),
        pytest.param([100, 200, 100], [100], id="the same step again"),
        pytest.param([100, 200, 150, 250], [250, 150, 100], id="the new line grows past the old one"),
        pytest.param([100, 300, 200, 250, 220], [220, 200, 100], id="a rollback of a rollback"),
    ],
)
def test_a_save_below_the_last_one_starts_a_new_branch(steps: list[int], lineage: list[int]) -> None:
    assert [found.step for found in branches.lineage(run(*steps))] == lineage


@pytest.mark.parametrize(
    ("found", "order"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([(5.0, 300), (5.5, 100)], [1, 0], id="times within a second say nothing"),
        pytest.param([(9.0, 100), (5.0, 300)], [1, 0], id="by time"),
        pytest.param([(9.0, 300), (5.0, 100), (9.0, 200)], [1, 2, 0], id="by step where times are equal"),
    ],
)
def test_what_lay_there_is_put_in_order(found: list[tuple[float, int]], order: list[int]) -> None:
    assert branches.first_look_order(found) == order


@given(st.lists(st.tuples(st.floats(0, 9), st.integers(0, 9))))
def test_what_lay_there_is_of_the_branches_that_it_would_make_one_after_another(found: list[tuple[float, int]]) -> None:
    seen: list[Record] = []
    for place in branches.first_look_order(found):
        step = found[place][1]
        seen.append(record(step, len(seen), branch=branches.branch_for(seen, step), before_us=True))
    assert [branch for _place, branch in branches.first_look(found)] == [save.branch for save in seen]


IN_TURNS = [1000, 10, 1100, 20, 1200, 30, 1300, 40]


@pytest.mark.parametrize(
    ("steps", "in_turns"),
    [
        pytest.param(IN_TURNS, True, id="one after the other"),
        pytest.param([5000, 10, 20, 30, 5100, 40, 50, 60, 5200], True, id="one saves more often"),
        pytest.param([100, 1100, 200, 1200, 300], False, id="not yet"),
        pytest.param([100, 1100, 200, 1200, 300, 1300], True, id="the lower one was there first"),
        pytest.param([1000, 10, 20, 1100, 5, 1200, 15, 1300], True, id="one of them starts again"),
        pytest.param([*IN_TURNS, *range(1400, 7000, 100)], False, id="one of them ended long ago"),
        pytest.param([100, 200, 300, 150, 200, 250, 300, 350, 320, 370, 330], False, id="rollback after rollback"),
        pytest.param([100, 200, 300, 180, 260, 340, 320, 400, 380, 460], False, id="rollbacks with another interval"),
        pytest.param([300, 100, 400, 200], False, id="from scratch, and back to the old line, once"),
        pytest.param([100, 200, 100, 200, 100, 200, 100, 200], False, id="never gets any further"),
    ],
)
def test_two_jobs_that_save_in_turns_are_told_from_one_that_turns_back(steps: list[int], in_turns: bool) -> None:
    assert branches.concurrent_writers(run(*steps)) is in_turns


@settings(deadline=None)
@given(
    st.integers(1, 500),
    st.lists(st.tuples(st.integers(1, 12), st.integers(0, 11)), min_size=1, max_size=12),
)
def test_one_job_is_never_taken_for_two_however_often_it_is_rolled_back(
    interval: int, stretches: list[tuple[int, int]]
) -> None:
    steps: list[int] = []
    at = 0
    for saves, back in stretches:
        steps += [(at + save) * interval for save in range(1, saves + 1)]
        at = max(at + saves - back, 0)
    records = [record(step, number, branch=1) for number, step in enumerate(steps)]
    assert not any(branches.concurrent_writers(records[:end]) for end in range(len(records)))


def test_saves_in_turns_start_no_branch_each() -> None:
    found = {
        saved.branch for saved in run(*IN_TURNS, *(step for k in range(5, 20) for step in (1000 + 100 * k, 10 * k)))
    }
    assert found == {1, 2, 3}


def test_an_order_that_was_only_guessed_says_nothing_of_two_jobs() -> None:
    assert not branches.concurrent_writers([replace(saved, before_us=True) for saved in run(*IN_TURNS)])


def test_the_answer_of_a_folder_with_two_jobs_says_so_and_a_strict_one_is_refused() -> None:
    records = run(*IN_TURNS)
    (warning,) = answer_as_json(resume_point(records, Wishes()))["warnings"]
    assert (warning["severity"], warning["code"]) == ("warning", Code.CONCURRENT_WRITERS)
    with pytest.raises(NoneAcceptable, match="two jobs"):
        resume_point(records, Wishes(strict=True))
