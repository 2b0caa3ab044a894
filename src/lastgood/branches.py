"""The lines of saves in a run: which follows which, and where one turned back. Pure: no disk, no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from lastgood.records import Record

Order = Literal["landed", "mtime", "step"]
CONCURRENT_WRITERS: Final = "two jobs save into this folder in turns: its newest checkpoint may be the other job's"
_ONE_SECOND: Final = 1.0
_RECENT: Final = 50  #: saves in which turns are looked for: one of the jobs may have ended since
_TURNS: Final = 4  #: down, up, down, up: a single job has no reason for that, however often it is rolled back


def lineage(records: Iterable[Record], order: Order = "landed") -> list[Record]:
    """The newest branch with its ancestors, the resume point's first candidate first.

    `order`: "mtime" and "step" are a person's word that branches are not to be believed: all saves in that order.
    A branch forks from the one before it at its own first step: what lies below is the shared past. A branch is one as
    soon as a save of it has landed; saves that never did are in the list as well, so that it can be told why not.
    """
    if order != "landed":
        saves = [record for record in records if record.branch is not None]
        key = _by_mtime if order == "mtime" else _by_step
        return sorted(saves, key=key, reverse=True)
    branches: dict[int, list[Record]] = {}
    unlanded: list[Record] = []
    for record in records:
        if record.branch is not None:
            (branches.setdefault(record.branch, []) if record.finished else unlanded).append(record)
    line: list[Record] = []
    for _branch, saves in sorted(branches.items()):
        fork = min(save.number for save in saves)
        line = [save for save in line if save.number < fork] + saves
    newest = max(branches, default=0)
    line += [record for record in unlanded if (record.branch or 0) >= newest]
    return sorted(line, key=_by_step, reverse=True)


def _by_step(save: Record) -> tuple[float, int]:
    return (save.step, save.id)


def _by_mtime(save: Record) -> tuple[float, int]:
    return (save.saved_at.timestamp(), save.id)


def branch_for(records: Collection[Record], number: int) -> int:
    """The branch of a save that is first seen now: the newest one's, or a new one if its step is not above the last.

    Where two jobs save in turns, each of their saves would start a new one: there it stays the newest.
    """
    placed = [record for record in records if record.branch is not None]
    if not placed:
        return 1
    newest = max(record.branch or 0 for record in placed)
    last = max(record.number for record in placed if record.branch == newest)
    return newest if number > last or _take_turns([*_recent_numbers(records), number]) else newest + 1


def branch_of_returned(records: Iterable[Record], saved_at: datetime) -> int:
    """The branch of what came back from the cloud: that of the last save before it, or the same save's own."""
    placed = [record for record in records if record.branch is not None]
    before = [record for record in placed if record.saved_at <= saved_at]
    if before:
        return max(before, key=lambda record: (record.saved_at, record.id)).branch or 1
    return min((record.branch or 1 for record in placed), default=1)


def concurrent_writers(records: Iterable[Record]) -> bool:
    """Whether two jobs save into the run in turns. What lay there before us says nothing: its order is a guess."""
    return _take_turns(_recent_numbers(records))


def _recent_numbers(records: Iterable[Record]) -> list[int]:
    seen = [record for record in records if record.branch is not None and not record.before_us]
    return [record.number for record in sorted(seen, key=lambda record: record.id)[-_RECENT:]]


def _take_turns(numbers: Iterable[int]) -> bool:
    """Whether two rising lines alternate: down, up past the other line's last, down to where the first one was left.

    A rollback goes down as well, but its line climbs to the old one in its own stride, and takes its place.
    """
    here = there = _Line(0)  # the line that saved last, and the other one; step 0: there is none
    turns = 0
    for number in numbers:
        goes_on = number > here.last and not here.last < there.last <= number
        if not here.last or goes_on:
            here = here.grown_to(number)
        elif number > here.last and (turns >= _TURNS or here.would_leap(number, there)):
            here, there, turns = there.grown_to(number), here, turns + 1
        elif number > here.last:
            here, there, turns = here.grown_to(number), _Line(0), 0
        elif number < here.last and number > there.last > 0:
            here, there, turns = there.grown_to(number), here, turns + 1
        elif number < here.last:
            here, there, turns = _Line(number), max(here, there), 1
    return turns >= _TURNS


class _Line(NamedTuple):
    """A rising line of saves: its last step, and the longest way between two."""

    last: int
    stride: int = 0

    def grown_to(self, number: int) -> _Line:
        return _Line(number, max(self.stride, number - self.last) if self.last else 0)

    def would_leap(self, number: int, other: _Line) -> bool:
        """Whether a save there lies out of this line's reach, or, before that is known, far nearer to the other's."""
        way = number - self.last
        return number > other.last and way > (2 * self.stride or 4 * (number - other.last))


def first_look_order(found: Iterable[tuple[float, int]]) -> list[int]:
    """In which order what lay there before us landed, as places in `found`: pairs of (saved at, in seconds; step).

    By time, or by step where all times lie within a second of each other and so say nothing.
    """
    pairs = list(found)
    times = [saved_at for saved_at, _step in pairs]
    same_time = not pairs or max(times) - min(times) <= _ONE_SECOND
    return sorted(range(len(pairs)), key=lambda place: pairs[place][1] if same_time else pairs[place])


def first_look(found: Iterable[tuple[float, int]]) -> list[tuple[int, int]]:
    """What lay there before us, in `first_look_order`: the place in `found`, and the branch that it is of.

    The branches are those that `branch_for` gives one after another: it looks for no turns in such a run.
    """
    pairs = list(found)
    placed: list[tuple[int, int]] = []
    branch, last = 1, None
    for place in first_look_order(pairs):
        step = pairs[place][1]
        if last is not None and step <= last:
            branch += 1
        placed.append((place, branch))
        last = step
    return placed
