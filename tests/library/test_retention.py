"""What each rule asks for, what stands before a removal, and what a plan says of itself.

Which checkpoints stay in which folder: the tables in golden_retention/. What never happens: test_retention_properties.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lastgood.findings import Verdict
from lastgood.life import State
from lastgood.records import Evidence, Hold, Record
from lastgood.retention import Decision, Plan, Policy, Reason, Why, plan, policy_of, waits_for, why_kept
from lastgood.settings import read_settings
from lastgood.settings_values import KeepBest
from recording import NOON, record

LAST_TWO = Policy(keep_last=2)
HOUR = timedelta(hours=1)


def run(*steps: int, **facts: Any) -> list[Record]:
    return [record(step, number, **facts) for number, step in enumerate(steps)]


def planned(records: list[Record], policy: Policy = LAST_TWO, **known: Any) -> Plan:
    return plan(records, policy, known.pop("holds", {}), **known)


def decided(records: list[Record], step: int, policy: Policy = LAST_TWO, **known: Any) -> Decision:
    (found,) = (d for d in planned(records, policy, **known).decisions if d.record.number == step)
    return found


# --- every reason, in the words in which it is told ---

MEASURED = [record(step, n, metrics={"eval_loss": loss}) for n, (step, loss) in enumerate([(100, 0.25), (200, 0.5)])]
STRANGE = {"severity": "warning", "code": "layout-unknown", "file": None, "message": "", "hint": ""}
PIN, LEASE = Hold(1, 1, "anna", None), Hold(2, 1, "job-1", NOON + HOUR)
OLD_LINE = [*run(100, 200), *(record(50 + 10 * n, 2 + n, branch=2) for n in range(3))]


@pytest.mark.parametrize(
    ("records", "step", "policy", "known", "reason"),
    [
        pytest.param(
            run(100, 200, 300), 100, Policy(keep_last=3), {}, Reason(Why.LAST, "one of the last 3"), id="keep_last"
        ),
        pytest.param(
            MEASURED, 100, Policy(keep_best=KeepBest(1, "eval_loss", "min")), {},
            Reason(Why.BEST, "one of the best 1 by eval_loss: 0.25"), id="keep_best",
        ),
        pytest.param(
            run(900, 1100, 1200), 900, Policy(keep_every=1000), {},
            Reason(Why.EVERY, "the last one up to step 1000"), id="keep_every",
        ),
        pytest.param(
            run(100, 200, 300), 100, Policy(keep_within=HOUR), {},
            Reason(Why.WITHIN, "saved within 1:00:00 before the newest"), id="keep_within",
        ),
        pytest.param(
            run(100, 200), 200, LAST_TWO, {}, Reason(Why.RESUME_POINT, "a job would start from it now"),
            id="the resume point",
        ),
        pytest.param(
            [record(100), record(200, 1, verdict=Verdict.PARTIAL)], 200, LAST_TWO, {},
            Reason(Why.RESUME_POINT, "a job that accepts partial ones would start from it now"),
            id="the resume point of who accepts partial ones",
        ),
        pytest.param(
            [record(100), record(200, 1, verdict=Verdict.PARTIAL)], 100, replace(LAST_TWO, accept=Verdict.PARTIAL), {},
            Reason(Why.RESUME_POINT, "a job that accepts complete ones would start from it now"),
            id="the resume point of who accepts complete ones alone",
        ),
        pytest.param(
            run(100, 200), 100, Policy(keep_last=1), {}, Reason(Why.LAST_SOUND, "one of the last 2 good ones"),
            id="the last two good ones",
        ),
        pytest.param(
            OLD_LINE, 200, LAST_TWO, {}, Reason(Why.LAST_OF_BRANCH, "the last good one of another line of saves (1)"),
            id="the last one of an old line",
        ),
        pytest.param(
            run(100, 200, 300, best="checkpoint-100"), 100, LAST_TWO, {},
            Reason(Why.TRAINERS_BEST, "the trainer calls it its best so far"), id="the trainer's best",
        ),
        pytest.param(
            run(100, 200, 300), 100, LAST_TWO, {"holds": {1: [PIN]}}, Reason(Why.PINNED, "pinned by anna"), id="a pin"
        ),
        pytest.param(
            run(100, 200, 300), 100, LAST_TWO, {"holds": {1: [LEASE]}},
            Reason(Why.LEASED, "leased by job-1 until 2026-01-05T13:00:00+00:00"), id="a lease",
        ),
        pytest.param(
            [*run(100, 200), record(300, 2, state=State.LANDING, evidence=None, waiting_for="somebody writes")], 300,
            LAST_TWO, {}, Reason(Why.IN_WORK, "somebody writes"), id="landing, and why it is not settled",
        ),
        pytest.param(
            [*run(100, 200), record(300, 2, state=State.SETTLED, verdict=None)], 300, LAST_TWO, {},
            Reason(Why.IN_WORK, "it is settled"), id="not judged yet",
        ),
        pytest.param(
            run(100, 200, 300), 100, LAST_TWO, {"busy": frozenset({1})}, Reason(Why.IN_WORK, "it is read, or copied"),
            id="read again at the moment",
        ),
        pytest.param(
            [record(100, verdict=Verdict.UNREADABLE), *run(100, 200, 300)[1:]], 100, LAST_TWO, {},
            Reason(Why.UNREADABLE, "it could not be read: that is no grounds for removal"), id="unreadable",
        ),
        pytest.param(
            [record(100, evidence=Evidence.QUIET), *run(100, 200, 300)[1:]], 100, LAST_TWO, {},
            Reason(Why.UNSURE, "nothing but silence says that its save is finished"), id="nothing but silence",
        ),
        pytest.param(
            [record(100, verdict=Verdict.INCOMPLETE, warnings=(STRANGE,)), *run(100, 200, 300)[1:]], 100, LAST_TWO, {},
            Reason(Why.UNSURE, "its layout is not known here: that is no grounds for removal"), id="an unknown layout",
        ),
        pytest.param(
            run(100, 200, 300), 100, LAST_TWO, {"changed": frozenset({1})},
            Reason(Why.UNSURE, "its files changed since it was read"), id="changed since",
        ),
        pytest.param(
            [record(100), record(200, 1, verdict=Verdict.CORRUPT)], 200, LAST_TWO, {},
            Reason(Why.NOTHING_BETTER, "it is corrupt, but no newer one is complete"), id="nothing better is there",
        ),
        pytest.param(
            [record(100, copy=True, branch=None), *run(1, 200, 300)[1:]], 100, LAST_TWO, {},
            Reason(Why.COPY, "a copy or link is never removed"), id="a copy",
        ),
        pytest.param(
            run(100, 200, 300), 100, Policy(), {}, Reason(Why.NO_POLICY, "no rule is set: nothing is removed"),
            id="no rule",
        ),
    ],
)  # fmt: skip
def test_what_is_kept_is_kept_for_a_reason_in_a_sentence(
    records: list[Record], step: int, policy: Policy, known: dict[str, Any], reason: Reason
) -> None:
    decision = decided(records, step, policy, **known)
    assert decision.keep
    assert reason in decision.reasons


@pytest.mark.parametrize(
    ("facts", "reason", "damaged"),
    [
        pytest.param({}, Reason(Why.UNWANTED, "no rule keeps it"), False, id="a good one"),
        pytest.param(
            {"verdict": Verdict.UNHEALTHY},
            Reason(Why.DAMAGED, "it is unhealthy, and checkpoint-300 is complete"),
            True,
            id="a damaged one",
        ),
    ],
)
def test_what_is_removed_is_removed_for_one_reason_and_damaged_ones_are_marked_to_wait_longer(
    facts: dict[str, Any], reason: Reason, damaged: bool
) -> None:
    decision = decided([record(100, **facts), *run(1, 200, 300)[1:]], 100)
    assert not decision.keep
    assert decision.reasons == (reason,)
    assert decision.damaged is damaged


def test_what_jobs_could_not_start_from_counts_for_nothing_and_waits_for_a_person() -> None:
    found = decided([record(100, failures=2), *run(1, 200, 300)[1:]], 100)
    told = "jobs could not start from it, but its bytes are sound: a person decides"
    assert (found.keep, found.reasons) == (True, (Reason(Why.FAILED, told),))


def test_one_failed_start_is_no_mark_yet() -> None:
    assert decided([record(100), record(200, 1), record(300, 2, failures=1)], 300).reasons[0].why is Why.RESUME_POINT


def test_a_pin_and_a_lease_are_both_told() -> None:
    decision = decided(run(100, 200, 300), 100, holds={1: [PIN, LEASE]})
    assert [reason.why for reason in decision.reasons] == [Why.PINNED, Why.LEASED]


# --- what a person who names one may overrule ---

GIVES_WAY = {
    Why.LAST, Why.BEST, Why.EVERY, Why.WITHIN, Why.LAST_OF_BRANCH, Why.TRAINERS_BEST, Why.NO_POLICY,
    Why.NOTHING_BETTER, Why.UNSURE, Why.FAILED,
}  # fmt: skip
REMOVES = {Why.UNWANTED, Why.DAMAGED, Why.ASKED}


@pytest.mark.parametrize("why", [why for why in Why if why not in REMOVES])
def test_a_persons_word_stands_above_rules_and_beneath_guards(why: Why) -> None:
    told = Reason(why, "so it is")
    found = why_kept(Decision(record(100), keep=True, reasons=(Reason(Why.LAST, "one of the last 2"), told)))
    assert found == (None if why in GIVES_WAY else told)


def test_nothing_stands_before_a_person_where_the_plan_removes_it_anyway() -> None:
    assert why_kept(decided(run(100, 200, 300), 100)) is None


# --- what a plan says of itself ---


def test_a_plan_counts_what_it_frees() -> None:
    made = planned([replace(found, bytes=found.number) for found in run(100, 200, 300, 400)])
    assert [decision.record.number for decision in made.removals] == [100, 200]
    assert made.bytes_freed == 300


@pytest.mark.parametrize(
    ("count", "most"),
    [pytest.param(4, False, id="half"), pytest.param(5, True, id="more than half"), pytest.param(2, False, id="none")],
)
def test_a_plan_tells_whether_it_removes_more_than_half(count: int, most: bool) -> None:
    copies = [record(1, 20 + n, copy=True, branch=None) for n in range(9)]
    assert planned([*run(*range(100, 100 * count + 1, 100)), *copies]).removes_most is most


def test_a_plan_relies_on_what_its_guards_found_good() -> None:
    assert planned(OLD_LINE).relies_on == {2, 4, 5}


def test_the_same_removals_have_the_same_number() -> None:
    one = planned(run(100, 200, 300))
    again = planned([*run(100, 200, 300)[::-1], record(500, 9, state=State.LANDING, evidence=None)])
    assert len(one.id) == 12
    assert again.id == one.id


@pytest.mark.parametrize(
    ("records", "policy", "known"),
    [
        pytest.param(run(100, 200, 300, 400), LAST_TWO, {}, id="it removes another one"),
        pytest.param(run(100, 200, 300), LAST_TWO, {"holds": {1: [PIN]}}, id="it removes nothing"),
        pytest.param(run(100, 200, 300, fingerprint="g"), LAST_TWO, {}, id="its files are others"),
        pytest.param(run(100, 200, 300), Policy(keep_last=1), {}, id="for another policy"),
        pytest.param(
            [record(100, verdict=Verdict.CORRUPT), *run(1, 200, 300)[1:]], LAST_TWO, {}, id="for another reason"
        ),
    ],
)
def test_another_plan_has_another_number(records: list[Record], policy: Policy, known: dict[str, Any]) -> None:
    assert planned(records, policy, **known).id != planned(run(100, 200, 300)).id


# --- policies ---


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        pytest.param(Policy(), "no rule: nothing is removed", id="none"),
        pytest.param(Policy(accept=Verdict.PARTIAL), "no rule: nothing is removed", id="accept is no rule"),
        pytest.param(
            Policy(keep_best=KeepBest(0, "loss", "min")), "no rule: nothing is removed", id="the best none is no rule"
        ),
        pytest.param(LAST_TWO, "keep_last 2, accept complete", id="one"),
        pytest.param(replace(LAST_TWO, order="step"), "keep_last 2, accept complete, order step", id="another order"),
        pytest.param(
            Policy(3, KeepBest(1, "eval_loss", "min"), 1000, timedelta(hours=36), Verdict.PARTIAL),
            "keep_last 3, keep_best 1 by eval_loss min, keep_every 1000, keep_within 1 day, 12:00:00, accept partial",
            id="all",
        ),
    ],
)
def test_a_policy_is_told_in_words_and_knows_whether_it_has_a_rule(policy: Policy, words: str) -> None:
    assert str(policy) == words
    assert policy.is_empty is words.startswith("no rule")


def test_settings_make_the_policy_of_a_run() -> None:
    toml = """
        order = "step"
        keep_last = 3
        keep_best = "1 by eval_loss min"
        keep_every = 1000
        keep_within = "36h"
        [runs."llama/checkpoints"]
        accept = "partial"
        keep_last = 0
        keep_best = ""
    """
    settings = read_settings({}, toml)
    everywhere = Policy(3, KeepBest(1, "eval_loss", "min"), 1000, timedelta(hours=36), Verdict.COMPLETE, "step")
    assert policy_of(settings, "gpt") == everywhere
    assert policy_of(settings, "llama") == everywhere
    own = replace(everywhere, accept=Verdict.PARTIAL, keep_last=0, keep_best=None)
    assert policy_of(settings, "llama/checkpoints") == own


def test_without_settings_there_is_no_rule() -> None:
    assert policy_of(read_settings({}), "llama").is_empty


# --- whether it may be carried out now ---

FEW, MOST = planned(run(100, 200, 300)), planned(run(100, 200, 300, 400, 500))
NOTHING_BEFORE_IT: dict[str, Any] = {
    "now": NOON,
    "frozen": None,
    "known_since": NOON - timedelta(days=2),
    "observe_for": timedelta(days=1),
    "carried_out": str(LAST_TWO),
}
CONFIRM = f"the policy is new, and would remove 3 of 5: confirm plan {MOST.id}"
OBSERVE = "new here: nothing is removed before 2026-01-05T13:00:00+00:00"


@pytest.mark.parametrize(
    ("made", "facts", "code", "message"),
    [
        pytest.param(FEW, {}, None, None, id="nothing stands before it"),
        pytest.param(MOST, {}, None, None, id="most, by a policy that was carried out before"),
        pytest.param(FEW, {"carried_out": None}, None, None, id="a few, by a new policy"),
        pytest.param(MOST, {"carried_out": None}, "confirm", CONFIRM, id="most, by the first policy"),
        pytest.param(MOST, {"carried_out": "keep_last 9"}, "confirm", CONFIRM, id="most, by a new policy"),
        pytest.param(
            MOST, {"carried_out": f"{LAST_TWO}, order step"}, "confirm", CONFIRM, id="most, by another order"
        ),
        pytest.param(FEW, {"frozen": "the root is empty"}, "frozen", "the root is empty", id="frozen"),
        pytest.param(FEW, {"known_since": NOON - 23 * HOUR}, "observing", OBSERVE, id="new here"),
        pytest.param(FEW, {"known_since": NOON - 24 * HOUR}, None, None, id="no longer new"),
        pytest.param(
            FEW, {"known_since": None, "observe_for": HOUR}, "observing", OBSERVE, id="never seen before"
        ),
        pytest.param(FEW, {"known_since": None, "observe_for": timedelta()}, None, None, id="asked not to observe"),
        pytest.param(
            MOST, {"frozen": "the root is empty", "known_since": NOON, "carried_out": None}, "frozen",
            "the root is empty", id="frozen before all else",
        ),
        pytest.param(
            MOST, {"known_since": NOON - 23 * HOUR, "carried_out": None}, "observing", OBSERVE,
            id="new here before it needs a word",
        ),
    ],
)  # fmt: skip
def test_what_a_plan_waits_for(made: Plan, facts: dict[str, Any], code: str | None, message: str | None) -> None:
    wait = waits_for(made, **{**NOTHING_BEFORE_IT, **facts})
    assert (wait and wait.code, wait and wait.message) == (code, message)
    assert (wait and wait.until) == (NOON + HOUR if code == "observing" else None)
