"""Where a job should start from now, and why not later. Pure: no disk, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lastgood.errors import NoCheckpointsYet, NoneAcceptable
from lastgood.findings import Verdict
from lastgood.life import State
from lastgood.records import Component, Evidence, Presence, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_IN_WORK: Final = (State.LANDING, State.SETTLED)
_ONE_SECOND: Final = 1.0


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the asker can use."""

    accept: Verdict = Verdict.COMPLETE  #: the least verdict: complete or partial
    require: frozenset[Component] = frozenset()
    world_size: int | None = None
    max_step: int | None = None
    strict: bool = False  #: refuse warnings


Reason = tuple[str, str]  #: a stable word, and a sentence


@dataclass(frozen=True, slots=True)
class Skipped:
    """A checkpoint that was passed over, and why."""

    record: Record
    reason: str  #: stable: a verdict, or one of evidence, changed, step, component, world-size, warning
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The resume point, and what is to be known of the newer ones."""

    record: Record
    skipped: tuple[Skipped, ...] = ()
    pending: tuple[Record, ...] = ()
    disputed: Mapping[str, str] = field(default_factory=dict)  #: {"mtime": name, "step": name} where they disagree


def resume_point(records: Sequence[Record], wishes: Wishes, changed: frozenset[int] = frozenset()) -> Answer:
    """The checkpoint of one run to start from. `changed`: ids that are no longer as they were verified.

    NoCheckpointsYet, or NoneAcceptable with every reason, where there is none.
    """
    mine = [record for record in records if not record.copy]
    present = [record for record in mine if record.state is not State.GONE]
    if not present:
        raise NoCheckpointsYet("nothing has been saved here yet")
    skipped: list[Skipped] = []
    for record in lineage(mine):
        if record.state is not State.VERIFIED:
            continue
        refusal = refusal_of(record, wishes, changed)
        if refusal is None:
            newer = tuple(r for r in present if r.state in _IN_WORK and _is_newer(r, record))
            return Answer(record, tuple(skipped), newer, _dispute(present, record))
        skipped.append(refusal)
    raise none_acceptable(present, skipped, wishes, changed)


def lineage(records: Iterable[Record]) -> list[Record]:
    """The newest branch with its ancestors, the resume point's first candidate first.

    A branch forks from the one before it at its own first step: what lies below is the shared past. A branch is one as
    soon as a save of it has landed; saves that never did are in the list as well, so that it can be told why not.
    """
    branches: dict[int, list[Record]] = {}
    unlanded: list[Record] = []
    for record in records:
        if record.branch is not None:
            landed = record.evidence not in (None, Evidence.QUIET)
            (branches.setdefault(record.branch, []) if landed else unlanded).append(record)
    line: list[Record] = []
    for _branch, saves in sorted(branches.items()):
        fork = min(save.number for save in saves)
        line = [save for save in line if save.number < fork] + saves
    newest = max(branches, default=0)
    line += [record for record in unlanded if (record.branch or 0) >= newest]
    return sorted(line, key=lambda save: (save.step, save.id), reverse=True)


def branch_for(records: Iterable[Record], number: int) -> int:
    """The branch of a save that is first seen now: the newest one's, or a new one if its step is not above the last."""
    placed = [record for record in records if record.branch is not None]
    if not placed:
        return 1
    newest = max(record.branch or 0 for record in placed)
    last = max(record.number for record in placed if record.branch == newest)
    return newest if number > last else newest + 1


def first_look_order(found: Iterable[tuple[float, int]]) -> list[int]:
    """In which order what lay there before us landed, as places in `found`: pairs of (saved at, in seconds; step).

    By time, or by step where all times lie within a second of each other and so say nothing.
    """
    pairs = list(found)
    times = [saved_at for saved_at, _step in pairs]
    same_time = not pairs or max(times) - min(times) <= _ONE_SECOND
    return sorted(range(len(pairs)), key=lambda place: pairs[place][1] if same_time else pairs[place])


def refusal_of(record: Record, wishes: Wishes, changed: frozenset[int]) -> Skipped | None:
    """Why this one cannot be handed out; None where it can."""
    accepted = {Verdict.COMPLETE, wishes.accept}
    lacking = sorted(c.value for c in wishes.require if record.components.get(c) is not Presence.PRESENT)
    if wishes.max_step is not None and record.step > wishes.max_step:
        return Skipped(record, "step", f"step {record.step} is above max_step {wishes.max_step}")
    if record.verdict not in accepted:
        return Skipped(record, str(record.verdict), _verdict_in_words(record))
    if record.evidence in (None, Evidence.QUIET):
        return Skipped(record, "evidence", "nothing but silence says that its save is finished")
    if record.id in changed:
        return Skipped(record, "changed", "its files changed since it was verified")
    if lacking:
        return Skipped(record, "component", f"it lacks {', '.join(lacking)}")
    if wishes.world_size is not None and record.world_size not in (None, wishes.world_size):
        return Skipped(record, "world-size", f"it was saved by {record.world_size} processes, not {wishes.world_size}")
    if wishes.strict and record.warnings:
        return Skipped(record, "warning", "; ".join(str(w["message"]) for w in record.warnings))
    return None


def _verdict_in_words(record: Record) -> str:
    lacking = sorted(c.value for c, p in record.components.items() if p in (Presence.MISSING, Presence.EMPTY))
    damaged = sorted(c.value for c, p in record.components.items() if p is Presence.DAMAGED)
    details = [f"{what} {', '.join(names)}" for what, names in (("damaged:", damaged), ("without", lacking)) if names]
    return f"it is {record.verdict}" + (f" ({'; '.join(details)})" if details else "")


def _is_newer(candidate: Record, than: Record) -> bool:
    return candidate.number > than.number or (than.settled_at is not None and candidate.first_seen_at > than.settled_at)


def _dispute(present: Sequence[Record], answer: Record) -> Mapping[str, str]:
    guessed = [record for record in present if record.before_us and record.branch is not None]
    if not answer.before_us:
        return {}
    by_step = max(guessed, key=lambda record: record.number)
    by_mtime = guessed[first_look_order((r.saved_at.timestamp(), r.number) for r in guessed)[-1]]
    return {} if by_step is by_mtime else {"mtime": by_mtime.name, "step": by_step.name}


def none_acceptable(
    present: Sequence[Record], skipped: Sequence[Skipped], wishes: Wishes, changed: frozenset[int]
) -> NoneAcceptable:
    """The refusal, with every reason, and the best partial one with the way to ask for it."""
    pending = [pending_as_json(record) for record in present if record.state in _IN_WORK]
    if not skipped:
        return NoneAcceptable("what was saved is not judged yet", refused=[], pending=pending)
    as_partial = Wishes(Verdict.PARTIAL, wishes.require, wishes.world_size, wishes.max_step, wishes.strict)
    best = next((s.record for s in skipped if refusal_of(s.record, as_partial, changed) is None), None)
    message = f"none of {len(skipped)} judged checkpoints can be handed out"
    details: dict[str, Any] = {"refused": [skipped_as_json(s) for s in skipped], "pending": pending}
    if best is not None:
        message += f"; {best.name} could be with accept=partial"
        details["best_partial"] = {"name": best.name, "step": best.step, "path": best.path}
        details["accept_with"] = f"lastgood latest --run {best.run} --accept partial"
    return NoneAcceptable(message, **details)


def skipped_as_json(skipped: Skipped) -> dict[str, Any]:
    return {
        "name": skipped.record.name,
        "step": skipped.record.step,
        "reason": skipped.reason,
        "message": skipped.message,
    }


def pending_as_json(record: Record, seconds_left: float | None = None) -> dict[str, Any]:
    return {
        "name": record.name,
        "step": record.number,
        "state": record.state.value,
        "active": record.active,
        "waiting_for": record.waiting_for,
        "seconds_left": seconds_left,
    }


def answer_as_json(answer: Answer, seconds_left: Mapping[int, float] | None = None) -> dict[str, Any]:
    """What `GET /checkpoints/latest` returns and `latest.json` holds. `seconds_left`: for what is pending, by id."""
    record, left = answer.record, seconds_left or {}
    return {
        "id": record.id,
        "run": record.run,
        "name": record.name,
        "step": record.step,
        "epoch": record.epoch,
        "path": record.path,
        "root": record.root,
        "relative_path": record.relative_path,
        "verdict": record.verdict,
        "exact_resume": record.exact_resume,
        "evidence": record.evidence,
        "fingerprint": record.fingerprint,
        "world_size": record.world_size,
        "saved_at": record.saved_at.isoformat(),
        "verified_at": record.verified_at.isoformat() if record.verified_at else None,
        "bytes": record.bytes,
        "components": {component.value: presence.value for component, presence in record.components.items()},
        "warnings": list(record.warnings),
        "skipped": [skipped_as_json(skipped) for skipped in answer.skipped],
        "pending": [pending_as_json(r, left.get(r.id)) for r in answer.pending],
        "order_disputed": dict(answer.disputed) or None,
        "cloud_copy": None,
    }
