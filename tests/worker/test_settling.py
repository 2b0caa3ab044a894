"""When a save is finished: pure tables, and properties that hold for whatever is observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lastgood.facts import Entry, Inventory
from lastgood.outline import Outline
from lastgood.records import Evidence
from lastgood_worker import settling
from lastgood_worker.settling import Look, Pace, Settled, Wait, Watched

# However busy the machine is.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

PACE = Pace(quiet=3.0, sure=0.5, timeout=1800.0)
WHOLE = Outline("plain", known=True, last_file=None, lacking=(), expected=(), sound=True)
MARKED = replace(WHOLE, layout="hf_trainer", last_file="last")
STRANGE = replace(WHOLE, layout="unknown", known=False, lacking=("weights",), expected=("a training state",))


def entry(name: str, at: int = 1, *, size: int = 10, inode: int = 1, sparse: bool = False) -> Entry:
    return Entry(name, size, at, at, inode, sparse=sparse)


FOLDER = Inventory((entry("first", 1), entry("last", 2)))


def watched(inventory: Inventory = FOLDER, **facts: Any) -> Watched:
    """A folder whose content was first seen at second 0."""
    return replace(settling.observe(None, inventory, 0.0), **facts)


def decide(seen: Watched, outline: Outline = WHOLE, now: float = 1e6, **facts: Any) -> Wait | Settled:
    being_written = facts.pop("being_written", None)
    later_landed = facts.pop("later_landed", False)
    return settling.decide(seen, Look(outline, being_written), PACE, now, later_landed=later_landed, **facts)


def seconds_until_settled(seen: Watched, outline: Outline = WHOLE) -> float:
    """How long it must be quiet, by asking at the moment that each answer names."""
    now = PACE.sure
    for _ in range(5):
        decision = decide(seen, outline, now)
        if isinstance(decision, Settled):
            return now
        assert decision.seconds is not None
        now += decision.seconds
    raise AssertionError(decision)


# --- evidence, and how long it must be quiet on it ---


@pytest.mark.parametrize(
    ("seen", "outline", "evidence", "seconds"),
    [
        pytest.param(watched(declared=True), WHOLE, Evidence.DECLARED, 0.5, id="the job said so"),
        pytest.param(watched(declared=True, renamed=True), MARKED, Evidence.DECLARED, 0.5, id="the strongest counts"),
        pytest.param(watched(declared=True), STRANGE, Evidence.QUIET, 60.0, id="the job's word on an unknown layout"),
        pytest.param(watched(), MARKED, Evidence.MARKER, 0.5, id="the last file is there, and the newest"),
        pytest.param(watched(renamed=True), WHOLE, Evidence.RENAMED, 0.5, id="it appeared by a rename"),
        pytest.param(
            watched(renamed=True), replace(WHOLE, sound=False), Evidence.QUIET, 60.0, id="renamed, but not sound"
        ),
        pytest.param(watched(), WHOLE, Evidence.STRUCTURAL, 3.0, id="all that is expected is there"),
        pytest.param(
            watched(), replace(WHOLE, expected=("scheduler.pt",)), Evidence.QUIET, 60.0, id="something usually follows"
        ),
        pytest.param(watched(), replace(WHOLE, sound=False), Evidence.QUIET, 60.0, id="a file shorter than its header"),
        pytest.param(watched(), STRANGE, Evidence.QUIET, 60.0, id="an unknown layout is given 20 windows"),
        pytest.param(
            watched(),
            replace(MARKED, last_file="first"),
            Evidence.STRUCTURAL,
            3.0,
            id="the last file is not the newest",
        ),
        pytest.param(
            watched(), replace(MARKED, last_file="other"), Evidence.STRUCTURAL, 3.0, id="the last file is not there"
        ),
        pytest.param(
            watched(Inventory((entry("first", sparse=True), entry("last", 2)))),
            WHOLE,
            Evidence.STRUCTURAL,
            60.0,
            id="holes: it may be filled later, 20 windows",
        ),
        pytest.param(watched(longest_gap=20.0), WHOLE, Evidence.STRUCTURAL, 60.0, id="three times the longest pause"),
        pytest.param(watched(longest_gap=0.5), WHOLE, Evidence.STRUCTURAL, 3.0, id="never shorter than the window"),
        pytest.param(watched(longest_gap=20.0), MARKED, Evidence.MARKER, 0.5, id="a marker needs no patience"),
    ],
)
def test_each_evidence_asks_for_its_quiet(seen: Watched, outline: Outline, evidence: Evidence, seconds: float) -> None:
    assert decide(seen, outline) == Settled(evidence)
    assert seconds_until_settled(seen, outline) == pytest.approx(seconds)


# --- what stands in the way, however long it lasts ---

TEMPORARY = Inventory(FOLDER.entries, temporary=(entry(".tmpA1b2C3", 3),))
OF_BEFORE = frozenset({entry("first", 1).content, ("last", 9, 0, 7)})


@pytest.mark.parametrize(
    ("seen", "outline", "being_written", "why"),
    [
        pytest.param(watched(TEMPORARY), MARKED, None, ".tmpA1b2C3", id="a temporary file"),
        pytest.param(
            watched(Inventory(FOLDER.entries, marks=("save-unfinished",))), MARKED, None, "save-unfinished", id="a mark"
        ),
        pytest.param(watched(), MARKED, "first", "open for writing", id="an open writer"),
        pytest.param(watched(), replace(MARKED, lacking=("a", "b")), None, "a, b is not there", id="files are lacking"),
        pytest.param(
            watched(declared=True),
            replace(WHOLE, lacking=("a",)),
            None,
            "a is not there",
            id="lacking, though declared",
        ),
        pytest.param(
            watched(earlier=OF_BEFORE), MARKED, None, "first is still that of the save before", id="a save over another"
        ),
        pytest.param(
            watched(earlier=frozenset({entry("last", 2).content, ("first", 9, 0, 7)})),
            MARKED,
            None,
            "last is still that of the save before",
            id="a save over another, whose marker still lies there",
        ),
        pytest.param(watched(Inventory(())), STRANGE, None, "nothing", id="an empty folder"),
    ],
)
def test_an_obstacle_is_waited_for(seen: Watched, outline: Outline, being_written: str | None, why: str) -> None:
    decision = decide(seen, outline, 1000.0, being_written=being_written)
    assert isinstance(decision, Wait)
    assert why in decision.why
    assert decision.seconds is None


@pytest.mark.parametrize(
    "earlier",
    [
        pytest.param(frozenset(), id="there was none before"),
        pytest.param(frozenset({("first", 9, 0, 7)}), id="nothing of the one before is left"),
        pytest.param(FOLDER.content, id="the one before is whole"),
        pytest.param(frozenset({entry("first", 1).content}), id="the one before is whole, and a file was added"),
    ],
)
def test_what_is_left_of_an_earlier_save_is_no_obstacle_where_nothing_is_mixed(earlier: settling.Content) -> None:
    assert decide(watched(earlier=earlier), MARKED) == Settled(Evidence.MARKER)


def test_an_old_temporary_file_is_a_leftover_and_no_obstacle() -> None:
    leftover = Inventory(FOLDER.entries, temporary=(entry(".tmpA1b2C3", 1),))
    assert decide(watched(leftover), MARKED) == Settled(Evidence.MARKER)


# --- giving up ---


@pytest.mark.parametrize(
    ("now", "later_landed", "being_written", "given_up"),
    [
        pytest.param(1799.0, False, None, False, id="the time is not over"),
        pytest.param(1800.0, False, None, True, id="the time is over"),
        pytest.param(1800.0, False, "first", True, id="the time is over, though somebody holds a file open"),
        pytest.param(2.9, True, None, False, id="a later one landed, but it moved a moment ago"),
        pytest.param(3.0, True, None, True, id="a later one landed, and it is quiet"),
        pytest.param(1000.0, True, "first", False, id="a later one landed, but somebody writes here"),
    ],
)
def test_when_a_save_is_given_up(now: float, *, later_landed: bool, being_written: str | None, given_up: bool) -> None:
    lacking = replace(WHOLE, lacking=("weights",))
    decision = decide(watched(), lacking, now, later_landed=later_landed, being_written=being_written)
    if given_up:
        assert isinstance(decision, Settled)
        assert decision.evidence is Evidence.QUIET
        assert decision.unfinished
    else:
        assert isinstance(decision, Wait)


def test_a_save_with_a_temporary_name_is_given_up_without_a_closer_look() -> None:
    seen = watched(TEMPORARY)
    assert not settling.needs_look(seen, PACE, 1e6)
    decision = settling.decide(seen, None, PACE, 1e6, later_landed=False)
    assert isinstance(decision, Settled)
    assert decision.unfinished == ".tmpA1b2C3 is a name of unfinished files"


def test_what_is_given_up_for_a_later_one_is_given_its_own_pauses_first() -> None:
    seen = watched(longest_gap=20.0)
    lacking = replace(WHOLE, lacking=("weights",))
    assert isinstance(decide(seen, lacking, 59.0, later_landed=True), Wait)
    assert isinstance(decide(seen, lacking, 60.0, later_landed=True), Settled)


# --- observing ---


def test_a_change_starts_the_quiet_anew_and_its_pause_is_remembered() -> None:
    first = settling.observe(None, Inventory((entry("first"),)), 10.0)
    again = settling.observe(first, Inventory((entry("first"),)), 15.0)
    assert again is first
    second = settling.observe(again, FOLDER, 30.0)
    assert (second.changed_at, second.longest_gap) == (30.0, 20.0)
    third = settling.observe(second, Inventory((*FOLDER.entries, entry("more"))), 31.0)
    assert (third.changed_at, third.longest_gap) == (31.0, 20.0)


def test_what_was_renamed_into_place_and_then_changed_is_no_longer_finished_by_its_rename() -> None:
    first = replace(settling.observe(None, Inventory((entry("first"),)), 0.0), renamed=True)
    assert settling.observe(first, Inventory((entry("first"),)), 5.0).renamed
    assert not settling.observe(first, FOLDER, 5.0).renamed


@pytest.mark.parametrize(
    ("inventory", "now", "needed"),
    [
        pytest.param(FOLDER, 0.4, False, id="it changed just now"),
        pytest.param(FOLDER, 0.5, True, id="quiet for the shortest window"),
        pytest.param(TEMPORARY, 100.0, False, id="a temporary name says enough"),
    ],
)
def test_headers_are_read_when_it_is_worth_it(inventory: Inventory, now: float, *, needed: bool) -> None:
    assert settling.needs_look(watched(inventory), PACE, now) is needed


@pytest.mark.parametrize(
    ("seen", "now", "being_written", "active"),
    [
        pytest.param(watched(), 1.0, None, True, id="it moved within the last window"),
        pytest.param(watched(), 4.0, None, False, id="nothing moves any more"),
        pytest.param(watched(), 4.0, "first", True, id="nothing moves, but a file is held open"),
        pytest.param(watched(longest_gap=20.0), 50.0, None, True, id="one of its usual pauses"),
    ],
)
def test_a_dead_save_is_told_from_a_live_one(
    seen: Watched, now: float, being_written: str | None, *, active: bool
) -> None:
    decision = decide(seen, replace(WHOLE, lacking=("weights",)), now, being_written=being_written)
    assert isinstance(decision, Wait)
    assert decision.active is active


# --- whatever is observed ---

NAMES = st.sampled_from(["first", "second", "last", "nested/file"])
SEEN_FILES = st.lists(
    st.builds(entry, NAMES, st.integers(0, 9), inode=st.integers(0, 3), sparse=st.booleans()),
    unique_by=lambda found: found.path,
)
INVENTORIES = st.builds(
    lambda files, temporary, marks: Inventory(tuple(sorted(files)), tuple(temporary), tuple(marks)),
    SEEN_FILES,
    st.lists(st.builds(entry, st.just(".tmpA1b2C3"), st.integers(0, 9)), max_size=1),
    st.lists(st.just("save-unfinished"), max_size=1),
)
WATCHED = st.builds(
    lambda inventory, earlier, facts: watched(
        inventory, earlier=frozenset(found.content for found in earlier), **facts
    ),
    INVENTORIES,
    SEEN_FILES,
    st.fixed_dictionaries(
        {"longest_gap": st.floats(0, 100), "renamed": st.booleans(), "declared": st.booleans()},
    ),
)
OUTLINES = st.builds(
    Outline,
    layout=st.just("any"),
    known=st.booleans(),
    last_file=st.none() | NAMES,
    lacking=st.lists(NAMES, max_size=2).map(tuple),
    expected=st.lists(NAMES, max_size=1).map(tuple),
    sound=st.booleans(),
)


@unhurried
@given(WATCHED, OUTLINES, st.none() | NAMES, st.floats(0, 4000), st.booleans())
def test_nothing_counts_as_finished_while_anything_speaks_against_it(
    seen: Watched, outline: Outline, being_written: str | None, now: float, later_landed: bool
) -> None:
    needed = settling.needs_look(seen, PACE, now)
    look = Look(outline, being_written) if needed else None
    decision = settling.decide(seen, look, PACE, now, later_landed=later_landed)
    if isinstance(decision, Wait) or decision.evidence is Evidence.QUIET:
        return
    assert decision.unfinished is None
    assert seen.inventory.entries
    assert not seen.inventory.unfinished
    assert being_written is None
    assert not (outline.known and outline.lacking)
    kept = seen.earlier & seen.inventory.content
    assert not kept or kept == seen.earlier
    assert now >= PACE.sure
    if decision.evidence is Evidence.STRUCTURAL:
        assert now >= max(PACE.quiet, 3 * seen.longest_gap)
        assert outline.sound
        assert not outline.expected


@unhurried
@given(WATCHED, OUTLINES, st.none() | NAMES, st.booleans())
def test_every_landing_ends_some_day(
    seen: Watched, outline: Outline, being_written: str | None, later_landed: bool
) -> None:
    now = 20 * PACE.timeout
    look = Look(outline, being_written) if settling.needs_look(seen, PACE, now) else None
    decision = settling.decide(seen, look, PACE, now, later_landed=later_landed)
    assert isinstance(decision, Settled) or not seen.inventory.entries


@unhurried
@given(st.lists(st.tuples(st.floats(0, 50), SEEN_FILES), min_size=1, max_size=8))
def test_quiet_is_counted_from_the_last_change_that_was_seen(looks: list[tuple[float, list[Entry]]]) -> None:
    now, seen, changed_at, before = 0.0, None, 0.0, ""
    for pause, files in looks:
        now += pause
        inventory = Inventory(tuple(sorted(files)))
        seen = settling.observe(seen, inventory, now)
        changed_at = now if inventory.fingerprint != before else changed_at
        before = inventory.fingerprint
        assert (seen.inventory, seen.changed_at) == (inventory, changed_at)
