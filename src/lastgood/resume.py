"""Where a job should start from now, and why not later. Pure: no disk, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from lastgood import naming
from lastgood.branches import CONCURRENT_WRITERS, Order, concurrent_writers, first_look_order, lineage
from lastgood.errors import NoCheckpointsYet, NoneAcceptable
from lastgood.facts import Component, Presence
from lastgood.findings import Code, Finding, Verdict
from lastgood.life import IN_PLACE, State
from lastgood.report_json import components_as_json, finding_as_json
from lastgood.wording import counted, none_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastgood.errors import Refusal
    from lastgood.records import Record

_IN_WORK: Final = (State.LANDING, State.SETTLED)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the asker can use."""

    accept: Verdict = Verdict.COMPLETE  #: the least verdict: complete or partial
    require: frozenset[Component] = frozenset()
    world_size: int | None = None
    max_step: int | None = None
    strict: bool = False  #: refuse warnings
    order: Order = "landed"  #: which of a run's saves is the newest


Reason = tuple[str, str]  #: a stable word, and a sentence


@dataclass(frozen=True, slots=True)
class Skipped:
    """A checkpoint that was passed over, and why."""

    record: Record
    reason: str  #: stable: a verdict, or one of evidence, changed, failed, step, component, world-size, warning
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The resume point, and what is to be known of the newer ones."""

    record: Record
    skipped: tuple[Skipped, ...] = ()
    pending: tuple[Record, ...] = ()
    disputed: Mapping[str, str] = field(default_factory=dict)  #: {"mtime": name, "step": name} where they disagree
    warnings: tuple[Finding, ...] = ()  #: of the run, beside those of the checkpoint


def resume_point(records: Sequence[Record], wishes: Wishes, changed: frozenset[int] = frozenset()) -> Answer:
    """The checkpoint of one run to start from. `changed`: ids that are no longer as they were verified.

    NoCheckpointsYet, or NoneAcceptable with every reason, where there is none.
    """
    mine = [record for record in records if not record.copy]
    present = [record for record in mine if record.state in IN_PLACE]
    if not present:
        raise nothing_saved([record.name for record in records if record.copy and record.state in IN_PLACE])
    warnings = (Finding(Code.CONCURRENT_WRITERS, None, CONCURRENT_WRITERS),) if concurrent_writers(mine) else ()
    if wishes.strict and warnings:
        raise NoneAcceptable(CONCURRENT_WRITERS, refused=[], pending=[])
    skipped: list[Skipped] = []
    for record in lineage(mine, wishes.order):
        if record.state is not State.VERIFIED:
            continue
        refusal = refusal_of(record, wishes, changed)
        if refusal is None:
            newer = tuple(r for r in present if r.state in _IN_WORK and _is_newer(r, record))
            return Answer(record, tuple(skipped), newer, dispute(present, record, wishes), warnings)
        skipped.append(refusal)
    raise none_acceptable(present, skipped, wishes, changed)


def nothing_saved(others: Sequence[str], where: str = "here") -> Refusal:
    """Where there is only what was saved otherwise, to begin anew would be wrong, and which is meant nobody can tell.

    `others`: copies, and files that are a checkpoint each.
    """
    if not others:
        return NoCheckpointsYet(f"nothing has been saved {where} yet")
    what = "single files" if all(map(naming.is_whole_checkpoint, others)) else "copies"
    return NoneAcceptable(
        f"there is nothing {where} but {what} ({', '.join(sorted(others)[:3])}), which are not handed out by "
        "themselves: name one to go on from it, or move them away to begin anew",
        refused=[],
        pending=[],
    )


def refusal_of(record: Record, wishes: Wishes, changed: frozenset[int]) -> Skipped | None:
    """Why this one cannot be handed out; None where it can."""
    if wishes.max_step is not None and record.step > wishes.max_step:
        return Skipped(record, "step", f"step {record.step} is above max_step {wishes.max_step}")
    return _trouble_with(record, wishes.accept, changed) or _unmet(record, wishes)


def _trouble_with(record: Record, accept: Verdict, changed: frozenset[int]) -> Skipped | None:
    if record.verdict not in (Verdict.COMPLETE, accept):
        return Skipped(record, str(record.verdict), _verdict_in_words(record))
    if not record.finished:
        return Skipped(record, "evidence", "nothing but silence says that its save is finished")
    if record.failed:
        return Skipped(record, "failed", f"{record.failures} times in a row a job could not start from it")
    if record.id in changed:
        return Skipped(record, "changed", "its files changed since it was verified")
    return None


def _unmet(record: Record, wishes: Wishes) -> Skipped | None:
    lacking = sorted(c.value for c in wishes.require if record.components.get(c) is not Presence.PRESENT)
    if lacking:
        return Skipped(record, "component", f"it lacks {', '.join(lacking)}")
    if wishes.world_size and record.world_size and record.world_size != wishes.world_size:
        by = counted(record.world_size, "process", "processes")
        return Skipped(record, "world-size", f"it was saved by {by}, not {wishes.world_size}")
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


def dispute(present: Sequence[Record], answer: Record, wishes: Wishes) -> Mapping[str, str]:
    """The newest by time and the newest by step, where nobody saw them land, none was asked for, and they differ."""
    guessed = [record for record in present if record.before_us and record.branch is not None]
    if not answer.before_us or wishes.order != "landed":
        return {}
    by_step = max(guessed, key=lambda record: record.number)
    by_mtime = guessed[first_look_order((r.saved_at.timestamp(), r.number) for r in guessed)[-1]]
    return {} if by_step is by_mtime else {"mtime": by_mtime.name, "step": by_step.name}


def none_acceptable(
    present: Sequence[Record],
    skipped: Sequence[Skipped],
    wishes: Wishes,
    changed: frozenset[int],
    *,
    ask: str | None = None,
) -> NoneAcceptable:
    """The refusal, with every reason, and the best partial one with the way to ask for it.

    `ask`: how a command names the run; by its name, where None.
    """
    pending = [pending_as_json(record) for record in present if record.state in _IN_WORK]
    if not skipped:
        return NoneAcceptable("what was saved is not judged yet", refused=[], pending=pending)
    as_partial = replace(wishes, accept=Verdict.PARTIAL)
    best = next((s.record for s in skipped if refusal_of(s.record, as_partial, changed) is None), None)
    message = f"{none_of(len(skipped), 'judged checkpoint')} can be handed out"
    details: dict[str, Any] = {"refused": [skipped_as_json(s) for s in skipped], "pending": pending}
    if best is not None:
        message += f"; {best.name} could be with accept=partial"
        details["best_partial"] = {"name": best.name, "step": best.step, "path": best.path}
        details["accept_with"] = f"lastgood latest {ask or f'--run {best.run}'} --accept partial"
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


def answer_as_json(
    answer: Answer,
    seconds_left: Mapping[int, float] | None = None,
    cloud_copy: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
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
        "components": components_as_json(record.components),
        "warnings": [*map(finding_as_json, answer.warnings), *record.warnings],
        "skipped": [skipped_as_json(skipped) for skipped in answer.skipped],
        "pending": [pending_as_json(r, left.get(r.id)) for r in answer.pending],
        "order_disputed": dict(answer.disputed) or None,
        "cloud_copy": cloud_copy,
    }
