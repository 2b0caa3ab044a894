"""What mends training states and random states, and where that would be a lie. Pure."""

from __future__ import annotations

import re
from math import inf
from typing import TYPE_CHECKING, Any, Final

from lastgood import naming
from lastgood.facts import Component
from lastgood.findings import MEANINGS, Code, Finding, Severity, Verdict
from lastgood.layouts import base, counts, hf_trainer, plain
from lastgood.mending.drafting import OF_RNG, Draft, why_not_rewritten, without_wrappers
from lastgood.mending.words import RandomStates, Repair, State
from lastgood.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lastgood.facts import Facts
    from lastgood.mending.words import Neighbour

_STATE: Final = plain.STATES[0]
_STATE_OF_BATCHES: Final = "training_state.pth"
_RNG: Final = "rng_state.pth"
_STATE_OF_ANOTHER: Final = re.compile(
    r"""(?:.*/)?(?:
        [^/]*(?:optim|sched|random|rng|sampler|scaler|state|custom_checkpoint)[^/]*\.(?:bin|pt|pth|pkl|json|safetensors)
    |   [^/]+\.(?:distcp|ckpt) | \.metadata
    )""",
    re.VERBOSE,
)
_KEYS_OF_FORGATHER: Final = frozenset({"optimizer", "lr_scheduler"})
_ADDED_EMPTY: Final = {"optimizer_state_dict": Component.OPTIMIZER, "scheduler_state_dict": Component.SCHEDULER}


def write_training_state(draft: Draft, neighbours: Sequence[Neighbour]) -> None:
    """A `training_state.pt` where there is none: the step of the name, and no state of optimizer and scheduler."""
    facts = draft.facts
    missing = draft.found(Code.TRAINING_STATE_MISSING)
    if not missing:
        return
    if why := _why_no_state(draft, missing, neighbours):
        draft.refused.append(why)
        return
    assert facts.step_by_name is not None
    epoch, how = _estimated_epoch(facts.step_by_name, neighbours)
    entries = {
        "global_step": facts.step_by_name,
        "epoch": epoch,
        naming.BASELINE: ["global_step", "epoch", *_ADDED_EMPTY],
        "best_loss": inf,
        "epoch_losses": [],
        **{key: {} for key in _ADDED_EMPTY},
    }
    does = (
        f"missing: make one with step {facts.step_by_name} (by its name) and epoch {epoch} ({how})",
        "optimizer and scheduler are empty",
        "random states are the current ones",
    )
    rng = draft.found(Code.RNG_MISSING)
    draft.add(Repair(_STATE, State(entries, random=True), does), (*missing, *rng))
    draft.emptied = True


def _why_no_state(draft: Draft, missing: Sequence[Finding], neighbours: Sequence[Neighbour]) -> str | None:
    facts = draft.facts
    if facts.layout != naming.UNKNOWN_LAYOUT:
        return (
            f"{missing[0].file or _STATE}: {missing[0].message}; its writer writes it last, so the save never finished"
        )
    if facts.step_by_name is None:
        return f"{_STATE} is missing, and the folder's name tells no step"
    if foreign := _state_of_another_writer(facts):
        return f"{_STATE} is missing, and {foreign} is of another writer: nothing tells which step it is of"
    if not base.config_files(facts.inventory.names | draft.repairs.keys()):
        return f"{_STATE} is missing, and so is config.json, which no other checkpoint of the same model has"
    others = {other.layout for other in neighbours} - {plain.LAYOUT.name, naming.UNKNOWN_LAYOUT}
    if others:
        return (
            f"the training state is missing: the run's other checkpoints are of {min(others)}, its save never finished"
        )
    if any(_STATE_OF_BATCHES in other.sound for other in neighbours):
        return f"{_STATE_OF_BATCHES} is missing, and nothing tells how many batches of the epoch were done"
    return None


def _state_of_another_writer(facts: Facts) -> str | None:
    """A file in which somebody keeps what he trains by: accelerate's `optimizer.bin`, a sharded checkpoint's parts."""
    weights = facts.homes.get(Component.WEIGHTS, ())
    candidates = (name for name in sorted(facts.inventory.names - {*weights}) if not naming.is_backup(name))
    return next((name for name in candidates if _STATE_OF_ANOTHER.fullmatch(name)), None)


def _estimated_epoch(step: int, neighbours: Sequence[Neighbour]) -> tuple[int, str]:
    """By the nearest checkpoint that tells both, and not outside the epochs of those around it."""
    told = [(other.step, other.epoch, other) for other in neighbours if other.step and other.epoch is not None]
    if not told:
        return 0, "no other checkpoint tells"
    nearest_step, nearest_epoch, nearest = told[0]
    estimate = step * nearest_epoch / nearest_step
    least = max((epoch for other, epoch, _ in told if other <= step), default=0)
    most = min((epoch for other, epoch, _ in told if other >= step), default=estimate)
    return int(min(max(estimate, least), max(most, least))), f"by {nearest.name}"


def amend_training_state(draft: Draft, neighbours: Sequence[Neighbour]) -> None:
    """Random states and entries that the `training_state.pt` of the guides' writers should have."""
    facts, report = draft.facts, draft.report
    file = facts.files.get(_STATE) if facts.layout == plain.LAYOUT.name else None
    if file is None or not isinstance(file.contents, dict):
        return
    if any(found.file == _STATE and MEANINGS[found.code].verdict is Verdict.CORRUPT for found in report.findings):
        return
    step, doubt = _step_of(facts, file.contents)
    if doubt:
        draft.refused.append(doubt)
    lacking = list(_lacking_entries(facts, file.contents, step, neighbours))
    entries = {key: value for key, value, _by in lacking}
    if made_up := [key for key, _value, by in lacking if by or key in _ADDED_EMPTY]:
        entries[naming.BASELINE] = [*facts.made_up, *made_up]
    rng = [found for found in report.findings if found.code in OF_RNG]
    names = without_wrappers(facts, file, f"{plain.INNER_WEIGHTS}.")
    does = [f"add {', '.join(f'{key} {value} ({by})' if by else key for key, value, by in lacking)}"] if lacking else []
    does += ["add the current random states"] if rng else []
    does += [f"strip the wrappers' prefixes from the names of {counted(len(names), 'tensor')}"] if names else []
    if not does:
        return
    if why := why_not_rewritten(file):
        draft.refused.append(why)
        return
    wrapped = draft.found(Code.WRAPPER_PREFIX) if names else []
    draft.add(Repair(_STATE, State(entries, random=bool(rng), names=names), tuple(does)), (*rng, *wrapped))
    draft.emptied = draft.emptied or bool(entries.keys() & _ADDED_EMPTY.keys())


def _step_of(facts: Facts, state: Mapping[str, Any]) -> tuple[int | None, str]:
    """The step of the save, or why nothing tells it: a folder's number may count something else."""
    named = facts.step_by_name
    if facts.progress.step is not None or named is None:
        return facts.progress.step, ""
    told = (
        ("the optimizer", facts.optimizer.steps[-1] if facts.optimizer and facts.optimizer.steps else None),
        ("the scheduler", facts.progress.schedule_step),
        ("its entry `step`", counts.whole_number(state.get("step"))),
    )
    for who, count in told:
        if count is not None and abs(count - named) > 1:
            return None, f"global_step is not added: the folder's name says {named}, {who} counts {count}"
    return named, ""


def _lacking_entries(
    facts: Facts, state: Mapping[str, Any], step: int | None, neighbours: Sequence[Neighbour]
) -> Iterator[tuple[str, Any, str]]:
    """Key, value, and what tells it: nothing where there is nothing to tell. Of Forgather's, the step is all."""
    if facts.progress.step is None and step is not None:
        yield "global_step", step, f"by its name{_in_place_of('global_step', state)}"
    if state.keys() & _KEYS_OF_FORGATHER:
        return
    if facts.progress.epoch is None and step is not None:
        epoch, by = _estimated_epoch(step, neighbours)
        yield "epoch", epoch, f"{by}{_in_place_of('epoch', state)}"
    if "best_loss" not in state:
        yield "best_loss", inf, ""
    if "epoch_losses" not in state:
        yield "epoch_losses", [], ""
    for key, component in _ADDED_EMPTY.items():
        if key not in state and component not in facts.left_out:
            yield key, {}, ""


def _in_place_of(key: str, state: Mapping[str, Any]) -> str:
    """What cannot be, and counts for nothing."""
    return f", in place of {counts.shortened(state[key])}" if state.get(key) is not None else ""


def write_random_states(draft: Draft, neighbours: Sequence[Neighbour]) -> None:
    """Trainer's, of one process: several would all draw the same."""
    facts, report = draft.facts, draft.report
    broken = [found for found in report.findings if found.file == _RNG and found.severity is Severity.ERROR]
    broken = [found for found in broken if MEANINGS[found.code].verdict is Verdict.INCOMPLETE]  # it is worth nothing
    rng = [found for found in report.findings if found.code in OF_RNG or found in broken]
    if facts.layout != hf_trainer.LAYOUT.name or not rng:
        return
    told = (hf_trainer.recorded_processes(facts.files), facts.progress.world_size, *(n.world_size for n in neighbours))
    recorded = max(count or 1 for count in told)
    if recorded > 1:
        draft.refused.append(f"each of {recorded} processes has random states of its own: nothing tells them")
        return
    file = facts.files.get(_RNG)
    if any(found.code not in OF_RNG for found in broken):
        does = ("of no use: write the current random states",)
        draft.add(Repair(_RNG, RandomStates(anew=True), does), rng)
        return
    if file is not None and (why := why_not_rewritten(file)):
        draft.refused.append(why)
        return
    draft.add(Repair(_RNG, RandomStates(), ("add the current random states",)), rng)
