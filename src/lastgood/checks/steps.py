"""Whether the places that tell the step agree: the state, the folder's name, the optimizer, the scheduler."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from lastgood.checks.telling import home_of
from lastgood.facts import Component, Presence
from lastgood.findings import Code, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastgood.facts import Facts

_OF_OPTIMIZER: Final = "the optimizer counts"
_STEPS_ALLOWED: Final = 20
_SHARE_ALLOWED: Final = 0.1
_MOST_STEPS_ALLOWED: Final = 100
_STEPS_OF_DRIFT: Final = 2  # between two saves; a loss scaler skips steps, and may skip more of them
_MOST_BATCHES_A_STEP: Final = 1024


@dataclass(frozen=True, slots=True)
class _Count:
    """One place that counts steps, and what it said in the run's previous checkpoint."""

    what: str
    file: str | None
    value: int
    before: int | None


def check_steps_agree(facts: Facts) -> Iterator[Finding]:
    """Every count is that of the state. Some writers count otherwise: a small offset, or a steady one, is usual."""
    step = facts.progress.step if facts.progress.step is not None else facts.step_by_name
    if step is None:
        return
    counts = [count for count in _counts(facts) if not _counts_otherwise(facts, count, step)]
    others = [count for count in counts if count.value != step]
    found = [_finding(facts, count, step) for count in others]
    if (
        len(others) > 1
        and others == counts
        and len({(f.code, c.value) for f, c in zip(found, others, strict=True)}) == 1
    ):
        # All of them agree, and not with the state: it is the state that is of another step.
        whose = ", ".join(f"{count.what} {count.value}" for count in others)
        found = [replace(found[0], file=home_of(facts, Component.TRAINING_STATE), message=f"step {step}, but {whose}")]
    yield from found


def check_progress_is_told(facts: Facts) -> Iterator[Finding]:
    """The training state says how far training was, or its folder's name does: otherwise a job begins with step 0."""
    progress, home = facts.progress, home_of(facts, Component.TRAINING_STATE)
    is_there = facts.components.get(Component.TRAINING_STATE) is Presence.PRESENT
    if not is_there or progress.step is not None or any(f.code is Code.TRAINING_STATE_MISSING for f in facts.lacking):
        return
    if progress.epoch is None:
        yield Finding(Code.PROGRESS_UNTOLD, home, "it tells neither step nor epoch")
    elif facts.step_by_name is None:
        yield Finding(Code.PROGRESS_UNTOLD, home, "it tells no step, and neither does the folder's name")


def check_progress_is_of_the_save(facts: Facts) -> Iterator[Finding]:
    """Neither step nor epoch was put there later, when the checkpoint was mended."""
    if facts.estimated:
        home, names = home_of(facts, Component.TRAINING_STATE), " and ".join(facts.estimated)
        yield Finding(Code.PROGRESS_ESTIMATED, home, f"{names}: estimated when it was mended")


def optimizer_agrees(facts: Facts) -> bool | None:
    """Whether the optimizer counts the steps of this save, small differences apart; None where it counts none."""
    step = facts.progress.step if facts.progress.step is not None else facts.step_by_name
    count = next((count for count in _counts(facts) if count.what == _OF_OPTIMIZER), None)
    if step is None or count is None:
        return None
    return _counts_otherwise(facts, count, step) or not _is_too_far(facts, count, step)


def batches_a_step(facts: Facts) -> int | None:
    """How many batches make one step of the optimizer, if it accumulates gradients and the state counts batches.

    None where its count is no such part of the state's.
    """
    step = facts.progress.step if facts.progress.step is not None else facts.step_by_name
    count = next((count for count in _counts(facts) if count.what == _OF_OPTIMIZER), None)
    if step is None or count is None or count.value == facts.step_by_name or not _may_be_of_batches(facts, count, step):
        return None
    return round(step / count.value)


def _finding(facts: Facts, count: _Count, step: int) -> Finding:
    code = Code.STEP_DISAGREES if _is_too_far(facts, count, step) else Code.STEP_OFFSET
    by = "its state was saved at" if facts.progress.step is not None else "its name says"
    return Finding(code, count.file, f"{count.what} {count.value}, {by} step {step}")


def _counts(facts: Facts) -> Iterator[_Count]:
    before = facts.previous
    if facts.step_by_name is not None:
        yield _Count("its name says", None, facts.step_by_name, before.step_by_name if before else None)
    if facts.optimizer and facts.optimizer.steps:
        told = max(before.optimizer_steps, default=None) if before else None
        yield _Count(_OF_OPTIMIZER, home_of(facts, Component.OPTIMIZER), facts.optimizer.steps[-1], told)
    if facts.progress.schedule_step is not None:
        told = before.schedule_step if before else None
        home = home_of(facts, Component.SCHEDULER)
        yield _Count("the scheduler counts", home, facts.progress.schedule_step, told)


def _counts_otherwise(facts: Facts, count: _Count, step: int) -> bool:
    """Whether it does not count steps: a scheduler may count epochs, a state batches, a process those of all."""
    progress = facts.progress
    if count.what == "the scheduler counts":
        if progress.epoch is not None and abs(count.value - progress.epoch) <= 1:
            return True
        if progress.world_size and count.value == step * progress.world_size:
            return True
        if progress.epoch is None and count.value < step / 2 and not _counted_steps(facts, count):
            return True
    return progress.counts_batches and count.file is not None and _may_be_of_batches(facts, count, step)


def _may_be_of_batches(facts: Facts, count: _Count, step: int) -> bool:
    """Whether it may count steps of several batches each, where the state counts batches."""
    return 0 < count.value < step and _is_a_whole_part(count.value, step) and not _counted_steps(facts, count)


def _is_a_whole_part(count: int, step: int) -> bool:
    """Whether so many batches make one step (gradient accumulation): what is left at an epoch's end is a step too."""
    batches = round(step / count)
    return 2 <= batches <= _MOST_BATCHES_A_STEP and abs(count - step / batches) <= max(2, 0.02 * count)


def _is_too_far(facts: Facts, count: _Count, step: int) -> bool:
    """Whether it moved otherwise than the state since the previous checkpoint; without one, how far off it is."""
    earlier = _earlier_step(facts)
    if count.before is None or earlier is None or earlier >= step:
        return abs(count.value - step) > min(max(_STEPS_ALLOWED, _SHARE_ALLOWED * step), _MOST_STEPS_ALLOWED)
    scaled = facts.components.get(Component.SCALER) is Presence.PRESENT
    least = _STEPS_ALLOWED if scaled else _STEPS_OF_DRIFT
    moved, in_step = count.value - count.before, step - earlier
    in_proportion = in_step * count.before / earlier if earlier else in_step  # several batches make one step
    return all(abs(moved - usual) > max(least, _SHARE_ALLOWED * usual) for usual in (in_step, in_proportion))


def _counted_steps(facts: Facts, count: _Count) -> bool:
    earlier = _earlier_step(facts)
    if count.before is None or earlier is None:
        return False
    return abs(count.before - earlier) <= max(_STEPS_ALLOWED, _SHARE_ALLOWED * earlier)


def _earlier_step(facts: Facts) -> int | None:
    before = facts.previous
    if before is None:
        return None
    return before.step if before.step is not None else before.step_by_name
