"""What retention never does, whatever is recorded and whatever the policy. `make prove` has the long run of this."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import timedelta
from itertools import combinations, product
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from lastgood import branches, resume
from lastgood.errors import Refusal
from lastgood.findings import Verdict
from lastgood.life import IN_PLACE, State
from lastgood.records import Evidence, Hold, Record
from lastgood.resume import Wishes
from lastgood.retention import Plan, Policy, Why, plan
from lastgood.settings_values import KeepBest
from recording import NOON, record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CASES: Final = 850  #: of each property
SECONDS: Final = float(os.environ.get("PROVE_MINUTES", "1")) * 60
SEED: Final = int(os.environ.get("PROVE_SEED", "1"))
UNHURRIED: Final = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
SOUND: Final = (Verdict.COMPLETE, Verdict.PARTIAL)
BEST_MODES: Final[tuple[Literal["min", "max"], ...]] = ("min", "max")
ORDERS: Final[tuple[branches.Order, ...]] = ("landed", "landed", "landed", "mtime", "step")
UNFINISHED: Final[dict[str, Any]] = {"verdict": None, "settled_at": None, "verified_at": None}

KINDS: Final[list[dict[str, Any]]] = [
    *[{}] * 16,
    {"evidence": Evidence.DECLARED},
    {"evidence": Evidence.STRUCTURAL, "before_us": True},
    {"evidence": Evidence.QUIET},
    *[{"verdict": Verdict.PARTIAL}] * 5,
    {"verdict": Verdict.PARTIAL, "before_us": True},
    {"verdict": Verdict.PARTIAL, "failures": 2},
    *[{"verdict": Verdict.CORRUPT}] * 4,
    {"verdict": Verdict.CORRUPT, "before_us": True},
    {"verdict": Verdict.INCOMPLETE, "evidence": Evidence.QUIET},
    {"verdict": Verdict.UNHEALTHY},
    {"verdict": Verdict.UNREADABLE},
    {"failures": 2},
    {"failures": 1},
    {"best": "checkpoint-100"},
    {"best": "checkpoint-300"},
    {"step_in_state": 350},
    {"step_in_state": 50},
    {"state": State.LANDING, "evidence": None, **UNFINISHED},
    {"state": State.SETTLED, **UNFINISHED},
    {"state": State.SETTLED},
    {"state": State.REMOVING},
    {"state": State.TRASHED},
    {"state": State.TRASHED, "best": "checkpoint-200"},
    {"state": State.GONE},
    {"state": State.GONE, "verdict": Verdict.PARTIAL},
    {"copy": True},
    {"copy": True, "verdict": Verdict.CORRUPT},
]
#: What nobody has read, or what is not good.
WORTHLESS: Final[list[dict[str, Any]]] = [
    {"state": State.LANDING, "evidence": None, **UNFINISHED},
    {"state": State.SETTLED, **UNFINISHED},
    {"verdict": Verdict.CORRUPT},
    {"verdict": Verdict.UNREADABLE},
    {"evidence": Evidence.QUIET},
    {"failures": 2},
]
#: One draw for each, since drawing takes longer than planning.
POLICIES: Final = st.sampled_from(
    [
        Policy(*rules)
        for rules in product(
            range(4),
            [None, *(KeepBest(count, "loss", mode) for count in range(3) for mode in BEST_MODES)],
            [0, 100, 200, 250],
            [timedelta(), timedelta(minutes=2), timedelta(minutes=5)],
            SOUND,
            ORDERS,
        )
    ]
)
SAVES: Final = st.lists(
    st.sampled_from([*product(range(100, 800, 100), KINDS, [None, 0, 1, 2, 3], range(-3, 4))]), min_size=1, max_size=12
)
#: Mostly none: what is held, changed and read again leaves little to remove.
FEW_IDS: Final = st.sampled_from(
    [*[frozenset[int]()] * 60, *(frozenset(ids) for size in (1, 2) for ids in combinations(range(1, 9), size))]
)


class World(NamedTuple):
    """What a plan is made of."""

    records: list[Record]
    policy: Policy
    held: frozenset[int]
    changed: frozenset[int]
    busy: frozenset[int]
    worthless: dict[str, Any]

    @property
    def saves(self) -> list[Record]:
        return [found for found in self.records if not found.copy]

    @property
    def present(self) -> list[Record]:
        return [found for found in self.records if found.state in IN_PLACE]

    def plan(self) -> Plan:
        holds = {found: [Hold(1, found, "somebody", NOON if found % 2 else None)] for found in self.held}
        return plan(self.records, self.policy, holds, changed=self.changed, busy=self.busy)

    def removed(self) -> set[int]:
        return {decision.record.id for decision in self.plan().removals}

    def carried_out(self) -> World:
        """The world once the plan is carried out."""
        doomed = self.removed()
        return self._replace(
            records=[replace(r, state=State.TRASHED) if r.id in doomed else r for r in self.records],
        )

    def is_sound(self, found: Record) -> bool:
        """Read, good, finished, not refused by jobs, unchanged: in this test's own words."""
        good = found.state is State.VERIFIED and found.verdict in SOUND
        finished = found.evidence is not None and found.evidence is not Evidence.QUIET
        return good and finished and found.failures < 2 and found.id not in self.changed and not found.copy

    def resume_point(self, accept: Verdict) -> Record | None:
        try:
            return resume.resume_point(
                self.records, Wishes(accept=accept, order=self.policy.order), self.changed
            ).record
        except Refusal:
            return None


def recorded(saves: Sequence[tuple[int, dict[str, Any], int | None, int]]) -> list[Record]:
    records: list[Record] = []
    for place, (step, facts, measured, minutes) in enumerate(saves):
        branch = None if facts.get("copy") else branches.branch_for(records, step)
        metrics = {} if measured is None else {"loss": measured / 10}
        saved_at = NOON + timedelta(minutes=place + minutes)
        records.append(record(step, place, **{"branch": branch, "metrics": metrics, "saved_at": saved_at, **facts}))
    return records


WORLDS: Final = st.builds(World, SAVES.map(recorded), POLICIES, FEW_IDS, FEW_IDS, FEW_IDS, st.sampled_from(WORTHLESS))


# --- the properties ---


def each_that_is_there_has_one_decision_and_a_reason(world: World) -> None:
    made = world.plan()
    assert [decision.record.id for decision in made.decisions] == [found.id for found in world.present]
    for decision in made.decisions:
        assert decision.reasons
        assert len(set(decision.reasons)) == len(decision.reasons)
        assert all(reason.message for reason in decision.reasons)


def an_empty_policy_removes_nothing(world: World) -> None:
    empty = Policy(accept=world.policy.accept, order=world.policy.order)
    assert not world._replace(policy=empty).removed()


def what_is_held_in_work_or_not_surely_read_is_not_removed(world: World) -> None:
    for found in (decision.record for decision in world.plan().removals):
        assert found.id not in world.held | world.busy | world.changed
        assert found.state is State.VERIFIED
        assert found.verdict is not Verdict.UNREADABLE
        assert not found.copy
        assert found.verdict not in SOUND or found.evidence not in (None, Evidence.QUIET)


def no_resume_point_is_removed(world: World) -> None:
    points = {found.id for accept in SOUND if (found := world.resume_point(accept))}
    assert not points & world.removed()


def the_last_two_good_ones_of_the_newest_line_are_not_removed(world: World) -> None:
    line = [found for found in branches.lineage(world.saves, world.policy.order) if world.is_sound(found)]
    complete = [found for found in line if found.verdict is Verdict.COMPLETE]
    last = [*complete, *(found for found in line if found.verdict is Verdict.PARTIAL)][:2]
    assert not {found.id for found in last} & world.removed()


def the_last_good_one_of_every_branch_is_not_removed(world: World) -> None:
    removed = world.removed()
    for branch in {found.branch for found in world.saves}:
        sound = [found for found in world.saves if found.branch == branch and world.is_sound(found)]
        if sound:
            assert max(sound, key=lambda found: (found.step, found.id)).id not in removed


def nothing_damaged_is_removed_unless_a_newer_complete_one_is_kept(world: World) -> None:
    made = world.plan()
    complete = [d.record for d in made.decisions if d.keep and d.record.verdict is Verdict.COMPLETE]

    def is_newer(found: Record, than: Record) -> bool:
        if world.policy.order == "mtime":
            return found.saved_at > than.saved_at
        if world.policy.order == "step" or found.branch == than.branch:
            return found.number > than.number
        return (found.branch or 0) > (than.branch or 0)

    for decision in made.removals:
        good = world.is_sound(decision.record)
        assert (decision.reasons[0].why is Why.UNWANTED) == good
        if not good:
            assert any(world.is_sound(found) and is_newer(found, decision.record) for found in complete)


def what_is_carried_out_once_leaves_nothing_to_carry_out(world: World) -> None:
    assert not world.carried_out().removed()


def no_removal_changes_where_a_job_starts(world: World) -> None:
    after = world.carried_out()
    for accept in SOUND:
        assert after.resume_point(accept) == world.resume_point(accept)


def asking_for_more_never_removes_what_was_kept(world: World) -> None:
    policy, removed = world.policy, world.removed()
    if policy.is_empty:  # the first rule is the first that removes anything
        return
    best = policy.keep_best or KeepBest(0, "loss", "min")
    for more in (
        replace(policy, keep_last=policy.keep_last + 1),
        replace(policy, keep_best=replace(best, count=best.count + 1)),
        replace(policy, keep_every=policy.keep_every // 2 or 100),
        replace(policy, keep_within=policy.keep_within + timedelta(minutes=2)),
    ):
        assert world._replace(policy=more).removed() <= removed


def a_newer_save_that_is_not_good_costs_no_older_one(world: World) -> None:
    removed = world.removed()
    for step in (50, 350, 900):  # from scratch, a rollback, the same line
        branch = branches.branch_for(world.records, step)
        newer = record(step, 20, branch=branch, **world.worthless)
        assert world._replace(records=[*world.records, newer]).removed() <= {*removed, newer.id}


def the_order_in_which_they_are_told_says_nothing(world: World) -> None:
    made, turned = world.plan(), world._replace(records=world.records[::-1]).plan()
    assert {d.record.id: (d.keep, d.reasons) for d in made.decisions} == {
        d.record.id: (d.keep, d.reasons) for d in turned.decisions
    }
    assert made.relies_on == turned.relies_on
    assert made.id == turned.id


PROPERTIES: Final[list[Callable[[World], None]]] = [
    each_that_is_there_has_one_decision_and_a_reason,
    an_empty_policy_removes_nothing,
    what_is_held_in_work_or_not_surely_read_is_not_removed,
    no_resume_point_is_removed,
    the_last_two_good_ones_of_the_newest_line_are_not_removed,
    the_last_good_one_of_every_branch_is_not_removed,
    nothing_damaged_is_removed_unless_a_newer_complete_one_is_kept,
    what_is_carried_out_once_leaves_nothing_to_carry_out,
    no_removal_changes_where_a_job_starts,
    asking_for_more_never_removes_what_was_kept,
    a_newer_save_that_is_not_good_costs_no_older_one,
    the_order_in_which_they_are_told_says_nothing,
]


@pytest.mark.parametrize("holds", [pytest.param(one, id=one.__name__.replace("_", " ")) for one in PROPERTIES])
def test_whatever_is_recorded(holds: Callable[[World], None]) -> None:
    settings(UNHURRIED, max_examples=CASES)(given(WORLDS)(holds))()


@pytest.mark.prove
@pytest.mark.timeout(0)
def test_every_property_holds_for_as_long_as_there_is_time() -> None:
    cases = removals = 0

    def all_hold(world: World) -> None:
        nonlocal cases, removals
        cases += 1
        removals += len(world.removed())
        for holds in PROPERTIES:
            holds(world)

    until = time.monotonic() + SECONDS
    for number in range(SEED * 1_000_000, (SEED + 1) * 1_000_000):
        if time.monotonic() > until:
            break
        settings(UNHURRIED, derandomize=False, max_examples=1000)(seed(number)(given(WORLDS)(all_hold)))()
    print(f"{cases} worlds, {removals} removals, {len(PROPERTIES)} properties each, seed {SEED}")
    assert removals
