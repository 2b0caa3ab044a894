"""The moves of a checkpoint's life."""

from __future__ import annotations

import itertools

import pytest

from lastgood.errors import IllegalMove
from lastgood.life import MOVES, Happening, State, move


@pytest.mark.parametrize(("state", "happening"), MOVES)
def test_a_move_with_a_row_leads_where_the_row_says(state: State, happening: Happening) -> None:
    assert move(state, happening) is MOVES[state, happening]


@pytest.mark.parametrize(
    ("state", "happening"), [pair for pair in itertools.product(State, Happening) if pair not in MOVES]
)
def test_a_move_without_a_row_is_refused_by_name(state: State, happening: Happening) -> None:
    with pytest.raises(IllegalMove, match=f"nothing leads on from {state} by {happening}"):
        move(state, happening)


def test_a_checkpoint_is_verified_only_by_being_judged() -> None:
    verified = (State.VERIFIED, State.REMOVING, State.TRASHED)  # what is removed was judged, and stays so in the trash
    ways_in = {
        happening for (before, happening), after in MOVES.items() if after is State.VERIFIED and before not in verified
    }
    assert ways_in == {Happening.JUDGED}
    assert {after for (before, _), after in MOVES.items() if before not in verified}.isdisjoint(verified[1:])


def test_what_is_gone_stays_gone() -> None:
    assert [pair for pair in MOVES if pair[0] is State.GONE] == []


@pytest.mark.parametrize("state", [State.LANDING, State.SETTLED, State.VERIFIED])
def test_files_may_vanish_at_any_time(state: State) -> None:
    assert move(state, Happening.VANISHED) is State.GONE
