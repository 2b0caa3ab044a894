"""Where to start from: tables for the cases that have a name, and what holds for whatever is recorded."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lastgood import branches, resume
from lastgood.errors import NoCheckpointsYet, NoneAcceptable
from lastgood.facts import Component, Presence
from lastgood.findings import Verdict
from lastgood.life import State
from lastgood.records import Evidence, Record
from lastgood.resume import Answer, Wishes
from recording import NOON, WHOLE, record

# However busy the machine is.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def run(*steps: int) -> list[Record]:
    """Complete saves in this order, in the branches that they make."""
    records: list[Record] = []
    for number, step in enumerate(steps):
        records.append(record(step, number, branch=branches.branch_for(records, step)))
    return records


def name_of(records: list[Record], wishes: Wishes | None = None, changed: frozenset[int] = frozenset()) -> str | None:
    try:
        return resume.resume_point(records, wishes or Wishes(), changed).record.name
    except NoneAcceptable:
        return None


# --- which line ---


def test_a_branch_counts_only_once_a_save_of_it_has_landed() -> None:
    killed = record(50, 3, branch=2, state=State.LANDING, evidence=None, verdict=None)
    assert name_of([*run(100, 200), killed]) == "checkpoint-200"
    listed = replace(killed, state=State.VERIFIED, evidence=Evidence.QUIET, verdict=Verdict.COMPLETE)
    assert name_of([*run(100, 200), listed]) == "checkpoint-200"
    landed = replace(listed, evidence=Evidence.MARKER, verdict=Verdict.CORRUPT)
    assert name_of([*run(100, 200), landed]) is None


def test_a_save_that_was_removed_still_forks_its_branch() -> None:
    records = run(100, 200, 150)
    gone = [*records[:2], replace(records[2], state=State.GONE)]
    assert name_of(gone) == "checkpoint-100"


@pytest.mark.parametrize(
    ("order", "newest"),
    [
        pytest.param("landed", "checkpoint-150", id="the line that landed last"),
        pytest.param("step", "checkpoint-300", id="the highest step, whatever came after it"),
        pytest.param("mtime", "checkpoint-200", id="the newest files, whatever came after them"),
    ],
)
def test_a_person_may_decide_what_newest_means(order: branches.Order, newest: str) -> None:
    records = run(200, 300, 100, 150)
    records[0] = replace(records[0], saved_at=NOON + timedelta(days=1))
    assert name_of(records, Wishes(order=order)) == newest


def test_what_jobs_failed_to_start_from_is_passed_over_until_its_failures_are_forgotten() -> None:
    records = run(100, 200)
    assert name_of([records[0], replace(records[1], failures=1)]) == "checkpoint-200"
    answer = resume.resume_point([records[0], replace(records[1], failures=2)], Wishes())
    assert answer.record.name == "checkpoint-100"
    assert [(skipped.reason, skipped.message) for skipped in answer.skipped] == [
        ("failed", "2 times in a row a job could not start from it")
    ]


def test_copies_satisfy_nothing() -> None:
    copy = record(900, 5, copy=True, branch=None)
    assert name_of([*run(100), copy]) == "checkpoint-100"
    with pytest.raises(NoneAcceptable, match="nothing here but copies"):  # to begin anew would be wrong
        resume.resume_point([copy], Wishes())
    with pytest.raises(NoCheckpointsYet):
        resume.resume_point([], Wishes())


# --- what is handed out ---


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        *(
            pytest.param({"verdict": verdict}, verdict.value, id=verdict.value)
            for verdict in Verdict
            if verdict is not Verdict.COMPLETE
        ),
        pytest.param({"evidence": Evidence.QUIET}, "evidence", id="nothing but silence"),
        pytest.param({"evidence": None}, "evidence", id="no evidence at all"),
    ],
)
def test_what_is_not_good_is_passed_over_and_told(facts: dict[str, Any], reason: str) -> None:
    answer = resume.resume_point([record(100), record(200, 1, **facts)], Wishes())
    assert answer.record.step == 100
    assert [(skipped.record.step, skipped.reason) for skipped in answer.skipped] == [(200, reason)]


def test_what_changed_since_it_was_verified_is_passed_over() -> None:
    answer = resume.resume_point(run(100, 200), Wishes(), frozenset({2}))
    assert (answer.record.step, answer.skipped[0].reason) == (100, "changed")


@pytest.mark.parametrize(
    ("wishes", "facts", "reason"),
    [
        pytest.param(Wishes(max_step=150), {}, "step", id="nothing later than"),
        pytest.param(
            Wishes(require=frozenset({Component.SCALER})), {}, "component", id="a component that it does not have"
        ),
        pytest.param(Wishes(world_size=2), {"world_size": 4}, "world-size", id="saved by more processes"),
        pytest.param(Wishes(strict=True), {"warnings": ({"message": "odd"},)}, "warning", id="warnings"),
    ],
)
def test_wishes_narrow(wishes: Wishes, facts: dict[str, Any], reason: str) -> None:
    fitting = {Component.SCALER: Presence.PRESENT, **WHOLE}
    records = [record(100, components=fitting), record(200, 1, **facts)]
    assert name_of(records) == "checkpoint-200"
    answer = resume.resume_point(records, wishes)
    assert (answer.record.step, answer.skipped[0].reason) == (100, reason)


@pytest.mark.parametrize(("processes", "said"), [(1, "1 process, not 2"), (4, "4 processes, not 2")])
def test_one_process_is_no_processes(processes: int, said: str) -> None:
    answer = resume.resume_point([record(100), record(200, 1, world_size=processes)], Wishes(world_size=2))
    assert answer.skipped[0].message == f"it was saved by {said}"


def test_partial_ones_are_handed_out_where_they_are_accepted_and_offered_where_not() -> None:
    partial = record(200, 1, verdict=Verdict.PARTIAL)
    assert name_of([record(100), partial], Wishes(accept=Verdict.PARTIAL)) == "checkpoint-200"
    with pytest.raises(NoneAcceptable, match="checkpoint-200 could be with accept=partial") as caught:
        resume.resume_point([partial], Wishes())
    assert caught.value.details["accept_with"] == "lastgood latest --run llama --accept partial"
    assert caught.value.details["best_partial"]["name"] == "checkpoint-200"


def test_the_step_of_its_own_state_counts_more_than_its_name() -> None:
    assert name_of([record(7, 0, step_in_state=7000), record(8, 1, step_in_state=6000)]) == "checkpoint-7"


@pytest.mark.parametrize("state", [State.LANDING, State.SETTLED])
def test_newer_ones_in_work_are_named(state: State) -> None:
    older = record(50, 0, state=state, evidence=None, verdict=None)
    newer = record(300, 3, state=state, evidence=None, verdict=None)
    answer = resume.resume_point([older, *run(100, 200)[:0], record(200, 1), newer], Wishes())
    assert [found.step for found in answer.pending] == [300]


def test_before_anything_is_judged_there_is_no_answer_yet() -> None:
    with pytest.raises(NoneAcceptable, match="not judged yet") as caught:
        resume.resume_point([record(100, state=State.SETTLED, verdict=None)], Wishes())
    assert [found["name"] for found in caught.value.details["pending"]] == ["checkpoint-100"]
    with pytest.raises(NoCheckpointsYet):
        resume.resume_point([record(100, state=State.GONE)], Wishes())


def test_what_is_answered_can_be_written_down() -> None:
    found = resume.answer_as_json(resume.resume_point(run(100, 200), Wishes()), {})
    assert (found["name"], found["path"], found["relative_path"]) == (
        "checkpoint-200",
        "/out/checkpoint-200",
        "checkpoint-200",
    )


# --- whatever is recorded ---


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    records: list[Record] = []
    for number in range(draw(st.integers(1, 9))):
        step = draw(st.integers(1, 8)) * 100
        facts = {
            "state": draw(st.sampled_from([State.LANDING, State.SETTLED, *[State.VERIFIED] * 4, State.GONE])),
            "verdict": draw(st.sampled_from([*Verdict, *[Verdict.COMPLETE] * 5])),
            "evidence": draw(st.sampled_from([None, *Evidence, Evidence.MARKER])),
            "copy": draw(st.integers(0, 9)) == 0,
            "world_size": draw(st.none() | st.integers(1, 2)),
            "warnings": draw(st.sampled_from([(), ({"message": "odd"},)])),
            "step_in_state": draw(st.none() | st.integers(1, 800)),
            "before_us": draw(st.booleans()),
        }
        branch = None if facts["copy"] else branches.branch_for(records, step)
        records.append(record(step, number, branch=branch, **facts))
    return records


WISHES = st.builds(
    Wishes,
    accept=st.sampled_from([Verdict.COMPLETE, Verdict.PARTIAL]),
    require=st.frozensets(st.sampled_from([Component.RNG, Component.SCALER]), max_size=1),
    world_size=st.none() | st.just(2),
    max_step=st.none() | st.integers(0, 900),
    strict=st.booleans(),
)
CHANGED = st.frozensets(st.integers(1, 9), max_size=3)


def answer_or_none(records: list[Record], wishes: Wishes, changed: frozenset[int]) -> Answer | None:
    try:
        return resume.resume_point(records, wishes, changed)
    except (NoneAcceptable, NoCheckpointsYet):
        return None


@unhurried
@given(histories(), WISHES, CHANGED)
def test_nothing_is_handed_out_that_must_not_be(records: list[Record], wishes: Wishes, changed: frozenset[int]) -> None:
    answer = answer_or_none(records, wishes, changed)
    if answer is None:
        return
    given_out = answer.record
    assert given_out.state is State.VERIFIED
    assert given_out.verdict in {Verdict.COMPLETE, wishes.accept}
    assert given_out.evidence not in (None, Evidence.QUIET)
    assert given_out.id not in changed
    assert not given_out.copy
    assert wishes.max_step is None or given_out.step <= wishes.max_step


@unhurried
@given(histories(), WISHES, CHANGED)
def test_it_is_the_highest_step_of_the_newest_line_and_every_newer_one_is_accounted_for(
    records: list[Record], wishes: Wishes, changed: frozenset[int]
) -> None:
    line = [found for found in branches.lineage(r for r in records if not r.copy) if found.state is State.VERIFIED]
    fit = [found for found in line if resume.refusal_of(found, wishes, changed) is None]
    answer = answer_or_none(records, wishes, changed)
    assert (answer is None) == (not fit)
    if answer is None:
        return
    assert answer.record.step == max(found.step for found in fit)
    assert {found.record.id for found in answer.skipped} == {r.id for r in line[: line.index(answer.record)]}
    landed = [r for r in records if r.branch and r.evidence not in (None, Evidence.QUIET)]
    newest = max(r.branch or 0 for r in landed)
    fork = min(r.number for r in landed if r.branch == newest)
    assert answer.record.branch == newest or answer.record.number < fork


@unhurried
@given(histories(), WISHES, CHANGED)
def test_asking_for_less_never_gives_a_later_one(
    records: list[Record], wishes: Wishes, changed: frozenset[int]
) -> None:
    free = answer_or_none(records, Wishes(accept=Verdict.PARTIAL), changed)
    narrow = answer_or_none(records, wishes, changed)
    if narrow is not None:
        assert free is not None
        assert free.record.step >= narrow.record.step
