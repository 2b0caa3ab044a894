"""What a checkpoint means for the training: how far it came, and what a resume from it will be like. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lastgood.checks.steps import batches_a_step, optimizer_agrees
from lastgood.facts import Component, Presence
from lastgood.findings import SOUND, Code
from lastgood.report_json import finding_as_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from lastgood.facts import Facts, Place, Report


@dataclass(frozen=True, slots=True)
class Inspection:
    """One checkpoint, read for a person who is about to go on from it."""

    report: Report
    step: int | None  #: by its state, or its name
    place: Place | None
    optimizer_steps: int | None  #: as the optimizer counts
    optimizer_agrees: bool | None  #: small differences are usual: accumulation, a loss scaler that skips steps
    batches_a_step: int | None  #: if it accumulates gradients
    rates: tuple[float, ...]  #: the learning rates now
    losses: tuple[float, ...]
    rng: tuple[str, ...]  #: of python, numpy, torch and cuda
    homes: Mapping[str, tuple[str, ...]]  #: the components in each file
    outlook: tuple[str, ...]

    @property
    def difference(self) -> int | None:
        """By how many steps the optimizer is off."""
        return None if self.optimizer_steps is None or self.step is None else self.optimizer_steps - self.step

    @property
    def best_loss(self) -> float | None:
        return self.report.metrics.get("best_loss")

    @property
    def metrics(self) -> dict[str, float]:
        return {name: value for name, value in self.report.metrics.items() if name != "best_loss"}


def inspect(facts: Facts, report: Report) -> Inspection:
    """What the facts tell beyond the report that was made of them."""
    progress, optimizer = facts.progress, facts.optimizer
    return Inspection(
        report,
        step=progress.step if progress.step is not None else facts.step_by_name,
        place=progress.place,
        optimizer_steps=optimizer.steps[-1] if optimizer and optimizer.steps else None,
        optimizer_agrees=optimizer_agrees(facts),
        batches_a_step=batches_a_step(facts),
        rates=(optimizer.rates if optimizer else ()) or progress.rates,
        losses=progress.losses,
        rng=tuple(sorted(frozenset().union(*facts.rng.values()))),
        homes=_homes(facts),
        outlook=outlook(facts, report),
    )


def outlook(facts: Facts, report: Report) -> tuple[str, ...]:
    """What a job will meet that goes on from it, one sentence each."""
    if report.verdict not in SOUND:
        return (f"it is {report.verdict}: no job should start from it",)
    codes = {finding.code for finding in report.findings}
    found = [text for component, text in _STARTS_ANEW.items() if _is_lacking(facts, component)]
    if _is_never_saved(facts, Component.SCHEDULER):
        found.append("its trainer saves no state of the scheduler: look at the first learning rates")
    found += _on_random_states(facts, codes)
    if facts.estimated:
        found.append(
            f"{' and '.join(facts.estimated)}: estimated when it was mended, by other checkpoints and its name"
        )
    if Code.SCALER_MISSING in codes or _is_lacking(facts, Component.SCALER):
        found.append("the loss scale starts anew: a few steps may be skipped")
    if Code.WRAPPER_PREFIX in codes:
        found.append("most loaders skip weights whose names bear a prefix of wrappers: `lastgood fix` takes it away")
    found += _on_the_step(facts)
    whole = _EXACTLY if report.exact_resume else "everything that its trainer saves is there"
    rate = (_NO_RATE_LEFT,) if Code.RATE_ZERO in codes else ()
    return (*(found or (whole,)), *rate)


def _on_random_states(facts: Facts, codes: Collection[Code]) -> Iterator[str]:
    if Code.RNG_BASELINE in codes:
        yield "random states are those of the day when it was mended: dropout and shuffling differ from here on"
    elif Code.RNG_INCOMPLETE in codes:
        yield "random states are not all there: dropout and shuffling differ from here on"
    elif _is_never_saved(facts, Component.RNG):
        yield "its trainer saves no random states: dropout and shuffling differ"


def _on_the_step(facts: Facts) -> Iterator[str]:
    if facts.progress.step is not None:
        return
    if facts.step_by_name is not None:
        yield "its state tells no step: the number in its name has to do"
    elif facts.progress.lost_by is not None:
        yield f"the step is unknown: {facts.progress.lost_by} was not saved"
    else:
        yield "neither its state nor its name tells a step: a job begins with step 0"


_EXACTLY: Final = "everything is there: training goes on as if nobody had interrupted it, bit for bit"
_NO_RATE_LEFT: Final = (
    "the learning rate is at the end of its schedule: look at the number of epochs, and at the warm-up"
)
_STARTS_ANEW: Final = {
    Component.OPTIMIZER: "the optimizer starts anew: its moments are lost, and the loss may jump for a while",
    Component.SCHEDULER: "the learning rate starts anew, with its warm-up",
    Component.RNG: "random states are missing: dropout and shuffling differ from here on",
}


def _is_lacking(facts: Facts, component: Component) -> bool:
    return component in facts.left_out or facts.components.get(component) in (Presence.MISSING, Presence.EMPTY)


def _is_never_saved(facts: Facts, component: Component) -> bool:
    return facts.components.get(component) is Presence.NOT_APPLICABLE and component not in facts.left_out


def inspection_as_json(found: Inspection) -> dict[str, Any]:
    """The object that `inspect --json` prints."""
    report = found.report
    return {
        "path": report.path,
        "name": report.name,
        "layout": report.layout,
        "level": report.level.value,
        "verdict": report.verdict.value,
        "exact_resume": report.exact_resume,
        "step": found.step,
        "epoch": report.epoch,
        "position": _place_as_json(found.place) if found.place else None,
        "optimizer": {
            "steps": found.optimizer_steps,
            "expected": found.step,
            "difference": found.difference,
            "consistent": found.optimizer_agrees,
            "batches_per_step": found.batches_a_step,
        },
        "learning_rates": list(found.rates),
        "best_loss": found.best_loss,
        "losses": list(found.losses),
        "metrics": found.metrics,
        "rng": list(found.rng),
        "files": [
            {"path": file.path, "bytes": file.bytes, "components": list(found.homes.get(file.path, ()))}
            for file in report.files
        ],
        "bytes": report.bytes,
        "outlook": list(found.outlook),
        "warnings": [finding_as_json(warning) for warning in report.warnings],
    }


def _place_as_json(place: Place) -> dict[str, Any]:
    done, batches = place.done, place.batches
    finished = place.finished or done is None
    goes_on = place.epoch + 1 if finished else place.epoch
    skipped = None if finished or not done else [0, done - 1]
    trained = None if finished or done is None or batches is None else [done, batches - 1]
    return {
        "epoch": place.epoch,
        "finished": finished,
        "batches_done": done,
        "batches": batches,
        "percent": round(100 * done / batches, 1) if done is not None and batches else (100.0 if finished else None),
        "resume_epoch": goes_on,
        "batches_skipped": skipped,
        "batches_to_train": trained,
    }


def _homes(facts: Facts) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for component, homes in facts.homes.items():
        if facts.components.get(component) is not Presence.NOT_APPLICABLE:
            for home in homes:
                found.setdefault(home, []).append(component.value)
    return {home: tuple(components) for home, components in found.items()}
