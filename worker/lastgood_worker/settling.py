"""When a save is finished. Pure: observations and the time in, a decision out.

Quiet is never proof. What is expected by the layout must be there, nobody may hold a file open for writing, and nothing
may have changed, by our own observations on our own clock, for as long as the evidence asks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from lastgood.records import Evidence

if TYPE_CHECKING:
    from lastgood.facts import Inventory
    from lastgood.outline import Outline

Content = frozenset[tuple[str, int, int, int]]

_GAPS: Final = 3  # quiet must outlast the longest pause this writer has made between two files, this many times
_LONGEST_PAUSE: Final = 60.0  # seconds; after a longer one it is not a pause: another job goes on where one was killed
# Where little speaks for it: a file set to its full size and filled later looks finished, and of an unknown layout
# nobody knows what is still to come. Give the writer this many windows.
_DOUBTFUL: Final = 20


@dataclass(frozen=True, slots=True)
class Pace:
    """How long quiet has to last, in seconds."""

    quiet: float
    sure: float  #: with a marker, a rename or the job's word
    timeout: float

    @property
    def doubtful(self) -> float:
        """Where little speaks for the save, or for what is done to it."""
        return self.quiet * _DOUBTFUL


@dataclass(frozen=True, slots=True)
class Watched:
    """What we observed of a landing checkpoint. Times are monotonic seconds of our own clock."""

    inventory: Inventory
    fingerprint: str
    changed_at: float  #: when the present content was first seen
    longest_gap: float = 0.0  #: between two changes
    renamed: bool = False
    declared: bool = False
    earlier: Content = frozenset()  #: what the save that stood here before consisted of


@dataclass(frozen=True, slots=True)
class Look:
    """What a closer look at a quiet folder found."""

    outline: Outline
    being_written: str | None  #: a file that some process holds open for writing


@dataclass(frozen=True, slots=True)
class Wait:
    """Not finished: why, and how many seconds from now it is worth another look (None: when something changes)."""

    why: str
    seconds: float | None = None
    active: bool = True


@dataclass(frozen=True, slots=True)
class Settled:
    """Finished, on this evidence; or given up, and why."""

    evidence: Evidence
    unfinished: str | None = None


def observe(before: Watched | None, inventory: Inventory, now: float) -> Watched:
    """What is known after one more walk."""
    fingerprint = inventory.fingerprint
    if before is None:
        return Watched(inventory, fingerprint, now)
    if fingerprint == before.fingerprint:
        return before
    # What a rename brought was whole at first sight: where more comes after it, the rename proves nothing.
    seen = replace(before, inventory=inventory, fingerprint=fingerprint, changed_at=now, renamed=False)
    gap = now - before.changed_at
    if gap <= _LONGEST_PAUSE:
        return replace(seen, longest_gap=max(before.longest_gap, gap))
    if _starts_over(before.inventory, inventory):  # what the killed save left counts as an earlier save's
        return replace(seen, longest_gap=0.0, earlier=before.earlier | before.inventory.content)
    return seen


def _starts_over(before: Inventory, now: Inventory) -> bool:
    """Whether a file that was there was written anew, rather than a next one added or the last one continued."""
    old = {entry.path: entry for entry in before.entries}
    return any(
        entry.path in old
        and entry.content != old[entry.path].content
        and (entry.inode != old[entry.path].inode or entry.size <= old[entry.path].size)
        for entry in now.entries
    )


def needs_look(watched: Watched, pace: Pace, now: float) -> bool:
    """Whether it has been quiet long enough that headers are worth reading."""
    return not watched.inventory.unfinished and now - watched.changed_at >= pace.sure


def decide(watched: Watched, look: Look | None, pace: Pace, now: float, *, later_landed: bool) -> Wait | Settled:
    """Whether the save is finished, on what evidence, or what it waits for."""
    quiet = now - watched.changed_at
    if _is_empty(watched.inventory):  # there is nothing that could be judged, however long it lasts
        return Wait("there is nothing in it yet", active=quiet < pace.quiet)
    obstacle = _obstacle(watched, look)
    if obstacle is None and look is not None:
        evidence = _evidence(watched, look.outline)
        window = _window(watched, evidence, pace)
        if quiet >= window:
            return Settled(evidence)
        return Wait("waiting to see whether it stays quiet", window - quiet)
    if look is None and not watched.inventory.unfinished:
        return Wait("it changed just now", pace.sure - quiet)
    if _is_given_up(watched, look, pace, quiet, later_landed=later_landed):
        return Settled(Evidence.QUIET, unfinished=obstacle)
    writing = look is not None and look.being_written is not None
    return Wait(obstacle or "", active=writing or quiet < _window(watched, Evidence.STRUCTURAL, pace))


def _is_empty(inventory: Inventory) -> bool:
    return not (inventory.entries or inventory.temporary or inventory.unreadable)


def _obstacle(watched: Watched, look: Look | None) -> str | None:
    """What shows that the save is not finished; None where nothing does."""
    if unfinished := watched.inventory.unfinished:
        return f"{unfinished[0]} is a name of unfinished files"
    if look is None:
        return None
    if look.being_written:
        return f"{look.being_written} is open for writing"
    if look.outline.known and look.outline.lacking:
        return f"{', '.join(look.outline.lacking[:3])} is not there"
    return _not_rewritten(watched)


def _not_rewritten(watched: Watched) -> str | None:
    """A save over an earlier one still holds that one's files until it has written every one of them."""
    present = watched.inventory.content
    kept = watched.earlier & present
    if not kept or kept == watched.earlier:  # nothing of the old is left; or the old is whole, and files were added
        return None
    return f"{min(kept)[0]} is still that of the save before"


def _evidence(watched: Watched, outline: Outline) -> Evidence:
    # Of a layout that we do not know, the job's word alone leaves open what is still to come; its list does not.
    if outline.declared or (watched.declared and outline.known):
        return Evidence.DECLARED
    if outline.last_file and _is_newest(outline.last_file, watched.inventory):
        return Evidence.MARKER
    if watched.renamed and outline.sound:
        return Evidence.RENAMED
    return Evidence.STRUCTURAL if outline.sound and not outline.expected else Evidence.QUIET


def _is_newest(name: str, inventory: Inventory) -> bool:
    """By ctime, which copying tools cannot set."""
    times = {entry.path: entry.ctime_ns for entry in inventory.entries}
    return name in times and times[name] >= max(times.values())


def _window(watched: Watched, evidence: Evidence, pace: Pace) -> float:
    if evidence in (Evidence.DECLARED, Evidence.MARKER, Evidence.RENAMED):
        return pace.sure
    doubtful = evidence is Evidence.QUIET or any(entry.sparse for entry in watched.inventory.entries)
    return max(pace.doubtful if doubtful else pace.quiet, _GAPS * watched.longest_gap)


def _is_given_up(watched: Watched, look: Look | None, pace: Pace, quiet: float, *, later_landed: bool) -> bool:
    if quiet >= pace.timeout:
        return True
    writing = look is not None and look.being_written is not None
    return later_landed and not writing and quiet >= _window(watched, Evidence.STRUCTURAL, pace)
