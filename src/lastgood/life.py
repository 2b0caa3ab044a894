"""The life of a checkpoint: an enum, and a table of the moves that exist."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from lastgood.errors import IllegalMove

if TYPE_CHECKING:
    from collections.abc import Mapping


class State(StrEnum):
    LANDING = "landing"  #: still being written
    SETTLED = "settled"  #: finished, not judged yet
    VERIFIED = "verified"  #: judged; the verdict says how
    REMOVING = "removing"  #: on its way to the trash
    TRASHED = "trashed"  #: in the trash, until its time is over or somebody undoes it
    GONE = "gone"  #: no longer there, or rewritten by a later generation


IN_PLACE: Final = (State.LANDING, State.SETTLED, State.VERIFIED)  #: it lies where the trainer saved it


class Happening(StrEnum):
    STIRRED = "stirred"  #: somebody wrote
    SETTLED = "settled"  #: the save is finished
    JUDGED = "judged"  #: verification concluded
    RECHECK = "recheck"  #: what was verified has to be read again
    VANISHED = "vanished"  #: its files are no longer there
    REWRITTEN = "rewritten"  #: a new generation took its place
    CHOSEN = "chosen"  #: it is to go to the trash
    SPARED = "spared"  #: it is not, after all
    DISCARDED = "discarded"  #: it lies in the trash
    UNDONE = "undone"  #: it came back from there
    PURGED = "purged"  #: its time in the trash is over


# Read a row as: in this state, when this happens, go there. What has no row cannot happen.
MOVES: Final[Mapping[tuple[State, Happening], State]] = {
    (State.LANDING, Happening.STIRRED): State.LANDING,
    (State.LANDING, Happening.SETTLED): State.SETTLED,
    (State.SETTLED, Happening.STIRRED): State.LANDING,
    (State.SETTLED, Happening.JUDGED): State.VERIFIED,
    (State.VERIFIED, Happening.RECHECK): State.SETTLED,
    (State.VERIFIED, Happening.JUDGED): State.VERIFIED,
    (State.VERIFIED, Happening.REWRITTEN): State.GONE,
    (State.LANDING, Happening.VANISHED): State.GONE,
    (State.SETTLED, Happening.VANISHED): State.GONE,
    (State.VERIFIED, Happening.VANISHED): State.GONE,
    (State.VERIFIED, Happening.CHOSEN): State.REMOVING,
    (State.REMOVING, Happening.SPARED): State.VERIFIED,
    (State.REMOVING, Happening.DISCARDED): State.TRASHED,
    (State.REMOVING, Happening.VANISHED): State.GONE,
    (State.TRASHED, Happening.UNDONE): State.VERIFIED,
    (State.TRASHED, Happening.PURGED): State.GONE,
    (State.TRASHED, Happening.VANISHED): State.GONE,
}


def move(state: State, happening: Happening) -> State:
    """The state after it happened. IllegalMove where the table has no row."""
    try:
        return MOVES[state, happening]
    except KeyError:
        raise IllegalMove(f"nothing leads on from {state} by {happening}") from None
