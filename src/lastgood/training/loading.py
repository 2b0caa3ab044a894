"""A checkpoint back into a job: nothing damaged, nothing without a word."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lastgood.checks.optimizer import VANISHING
from lastgood.errors import CannotTell, Damaged, LastgoodError, NotACheckpoint
from lastgood.facts import Level
from lastgood.findings import MEANINGS, Code, Verdict
from lastgood.layouts import counts
from lastgood.training import fitting, plainly, ranks, rng, state, undoing, weights
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastgood.facts import Report
    from lastgood.findings import Finding
    from lastgood.training.targets import Targets

_log = logging.getLogger("lastgood")
_ALIKE: Final = 1e-9
_OF_SCHEDULES: Final = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr", "max_momentum", "base_momentum")
# Not there is one thing, and loading goes on without it; there and broken is another.
_BROKEN_OFF: Final = frozenset(
    {Code.FILE_EMPTY, Code.SAFETENSORS_SHORT, Code.ZIP_SHORT, Code.JSON_SHORT, Code.SHARD_MISSING}
    | {Code.SAVE_UNFINISHED, Code.STILL_BEING_WRITTEN, Code.MANIFEST_FILE_MISSING}
)


@dataclass(frozen=True, slots=True)
class Loaded:
    progress: dict[str, Any]  #: step, epochs and batches that are done, losses, metrics and additional state
    whole: bool  #: every state was saved and has been restored, and the data comes in the same pieces


def load(folder: str, targets: Targets) -> Loaded:
    """Loads everything that is given and was saved. What was not saved is said, and left as it is.

    NotACheckpoint where there are no weights, Damaged where a state is none, ValueError where one does not fit,
    TypeError where something cannot take one, RuntimeError where the weights do not fit: then everything is as it was.
    """
    with _telling_damage(folder):
        found = state.read_state(folder)
    fitting.require_fits(found, targets)
    progress, differences = state.progress_of(found, folder), list(fitting.differences(found, targets))
    with _telling_damage(folder):
        saved = weights.read_weights(folder, plainly.load, found.get(state.MODEL))
    before, set_here = _rates(targets.optimizer), _set_rates(targets.optimizer)
    with undoing.as_before_on_error(targets):
        if targets.device is not None:
            targets.model.to(targets.device)
        restored, as_saved = _restore_optimizer(found, targets, saved)
        _restore_scheduler(found, targets, set_here, rates=restored)
        state.restore("scaler", targets.scaler, found)
        state.restore_dataloader(targets.dataloader, found)
        rng.require_restorable(found.get(state.RNG))
        fits = weights.load_weights(targets.model, saved, strict=targets.strict)
        if ranks.is_first():
            rng.restore_rng_states(found.get(state.RNG))  # last: nothing may be drawn after it
        else:  # with those of the first, all would draw the same
            _log.warning("random states are saved of the first process alone: this one's stay as they are")
    for difference in differences:
        _log.warning("%s", difference)
    _tell_rates(before, _rates(targets.optimizer), progress["global_step"])
    # Random states are saved of the first process alone.
    alone = ranks.count() == 1 and counts.whole_number(found.get("world_size", 1)) == 1
    whole = alone and fits and as_saved and not differences and state.saved_in(found) == _given(targets)
    return Loaded(progress, whole=whole)


@contextmanager
def _telling_damage(folder: str) -> Iterator[None]:
    """Damaged where a file cannot be read for what is broken in it: its reader may tell neither which file nor why."""
    try:
        yield
    except LastgoodError:
        raise
    except Exception:
        with suppress(NotACheckpoint, CannotTell):
            require_undamaged(verify(folder, Level.QUICK))
        raise


def _restore_optimizer(found: state.State, targets: Targets, saved: weights.Weights) -> tuple[bool, bool]:
    """Whether it was restored, and whether every number of it is as it was saved."""
    if not state.restore("optimizer", targets.optimizer, found):
        return False, True
    if weights.of_other_kinds(targets.model, saved):
        return True, False
    as_saved = fitting.keep_kinds(state.saved("optimizer", found), targets.optimizer)
    if not as_saved:
        _log.warning("the job changes what is loaded into the optimizer, or rounds it to the dtype of its weights")
    return True, as_saved


def _restore_scheduler(found: state.State, targets: Targets, set_here: list[dict[str, Any]], *, rates: bool) -> None:
    """`rates`: those that were saved came with the state of the optimizer."""
    groups = getattr(targets.optimizer, "param_groups", ())
    restored = state.restore("scheduler", targets.scheduler, found)
    if restored and not rates:
        groups = getattr(getattr(targets.scheduler, "optimizer", None), "param_groups", ())
        for name, told in (("lr", "_last_lr"), ("initial_lr", "base_lrs")):
            for group, rate in zip(groups, getattr(targets.scheduler, told, None) or (), strict=False):
                group[name] = rate
    elif restored or (targets.scheduler is None and not targets.schedule_anew):
        _warn_of_other_rates(found, targets, set_here)
    else:  # it begins with the rates that it was made with: some schedules go on from the last one
        for group, own in zip(groups, set_here, strict=False):
            group.update(own)


def _given(targets: Targets) -> set[str]:
    """What is to go on as it was; a scaler that is switched off has no state."""
    found = {name for name in ("optimizer", "scheduler", "scaler", "dataloader") if getattr(targets, name) is not None}
    return found if targets.scaler is None or state.is_enabled(targets.scaler) else found - {"scaler"}


def require_undamaged(report: Report) -> None:
    """Damaged where something in it is broken. What is merely missing is no damage; wrong numbers are warned of."""
    broken = next((finding for finding in report.findings if _is_damage(finding)), None)
    if broken is not None:
        where = broken.file or "the checkpoint"
        raise Damaged(f"{report.path} is {report.verdict} and is not loaded: {where}: {broken.message}")
    for finding in report.findings:
        if MEANINGS[finding.code].verdict is Verdict.UNHEALTHY:
            _log.warning("%s: %s: %s", report.name, finding.file or "weights", finding.message)


def _is_damage(finding: Finding) -> bool:
    return finding.code in _BROKEN_OFF or MEANINGS[finding.code].verdict in (Verdict.CORRUPT, Verdict.UNREADABLE)


def _warn_of_other_rates(found: state.State, targets: Targets, set_here: list[dict[str, Any]]) -> None:
    if targets.scheduler is not None and not any("initial_lr" in group for group in set_here):
        return  # ReduceLROnPlateau: nothing tells how they were set, once it has changed them
    state_of_optimizer = state.saved("optimizer", found)
    saved = _initial_rates(state_of_optimizer.get("param_groups") if isinstance(state_of_optimizer, Mapping) else None)
    now = _initial_rates(set_here)
    if saved and now and any(abs(a - b) > _ALIKE * max(a, b) for a, b in zip(_span(saved), _span(now), strict=True)):
        _log.warning(
            "the learning rates were set to %s when it was saved, and to %s here: the saved ones are used",
            *(" to ".join(f"{rate:.4g}" for rate in dict.fromkeys(_span(rates))) for rates in (saved, now)),
        )


def _tell_rates(before: list[float], after: list[float], step: int) -> None:
    if not after:
        return
    then, now = (f"{max(rates):.4g}" for rates in (before, after))
    _log.info("at step %s the learning rate is %s; before it was restored, it was %s", step, now, then)
    if max(after) < VANISHING:
        _log.info("the learning rate is at the end of its schedule: check the number of epochs and the warm-up")


def _rates(optimizer: Any) -> list[float]:
    rates = (group.get("lr") for group in getattr(optimizer, "param_groups", ()))
    return [float(rate) for rate in rates if rate is not None]


def _set_rates(optimizer: Any) -> list[dict[str, Any]]:
    """By group, the rate and all that a schedule keeps beside it."""
    groups = getattr(optimizer, "param_groups", ())
    return [{name: group[name] for name in _OF_SCHEDULES if name in group} for group in groups]


def _initial_rates(groups: Any) -> list[float]:
    """As they were set. Every scheduler of torch keeps them in the groups."""
    known = groups if isinstance(groups, list | tuple) else ()
    rates = (group.get("initial_lr", group.get("lr")) for group in known if isinstance(group, dict))
    return [float(rate) for rate in rates if rate is not None]


def _span(rates: list[float]) -> tuple[float, float]:
    return min(rates), max(rates)
