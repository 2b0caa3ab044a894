"""Plain checkpoints: a Hugging Face model beside one `training_state.pt` (or `.pth`) with all that a resume needs.

Three writers, told apart by their keys and the file's ending:
- `training_state.pt` with `optimizer_state_dict`, `scheduler_state_dict`, `rng_states`, `global_step`, `epoch`;
- `training_state.pt` of Forgather's first versions, with `optimizer`, `lr_scheduler`, `global_step`, and no RNG;
- `training_state.pth` with `optimizer_state_dict`, `epoch`, `step`, `total_batches`; no scheduler, no RNG.
Each may have `scaler_state_dict`, and `model_state_dict` where the weights lie inside. The `.pth` always has a scaler's
key, with None where there is none, and counts batches in `step`: 0 means that the epoch is finished.
CheckpointManager adds `dataloader`, names in `not_saved` what its job chose to leave out, and in `kinds` the classes of
optimizer and scheduler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lastgood import naming
from lastgood.facts import Component, Presence, Progress
from lastgood.findings import Code, Finding
from lastgood.layouts import base, counts, forms, loaders, places, states

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lastgood.facts import FileFacts, OptimizerFacts

STATES: Final = base.STATES
_KEYS: Final = {
    Component.OPTIMIZER: ("optimizer_state_dict", "optimizer"),
    Component.SCHEDULER: ("scheduler_state_dict", "lr_scheduler"),
    Component.RNG: ("rng_states",),
    Component.SCALER: ("scaler_state_dict",),
    Component.DATALOADER: ("dataloader",),
}
_WHERE_USED: Final = (Component.SCALER, Component.DATALOADER)  # not there: the job has none
_COUNTS_BATCHES: Final = "training_state.pth"
COUNTS: Final = ("global_step", "epoch", "step", "total_batches")
NOT_SAVED: Final = "not_saved"
KINDS: Final = "kinds"  # of optimizer and scheduler
INNER_WEIGHTS: Final = "model_state_dict"
_TRAINED: Final = tuple(f"{key}." for key in (INNER_WEIGHTS, *_KEYS[Component.OPTIMIZER]))
_NO_OTHER_FORM: Final = (Component.OPTIMIZER, Component.SCHEDULER, Component.SCALER)


class Plain:
    """All training state in one file. No file is always the last, so nothing but structure can be evidence."""

    name = "plain"

    def recognises(self, names: frozenset[str]) -> bool:
        return _state_file(names) is not None

    def last_file(self, names: frozenset[str]) -> str | None:  # noqa: ARG002 - the same whatever is there
        return None

    def missing(self, names: frozenset[str], files: Mapping[str, FileFacts]) -> Iterator[Finding]:
        if not _weights_inside(names, files):
            yield from base.missing_weights(names, files)
            yield from base.missing_config(names)

    def still_expected(self, names: frozenset[str]) -> Iterator[str]:  # noqa: ARG002 - one file holds it all
        return iter(())

    def read(self, names: frozenset[str], files: Mapping[str, FileFacts]) -> base.Reading:
        home, state = _state_file(names), _state(names, files)
        homes = _homes(names, home, files)
        return base.Reading(
            homes,
            _components(homes, home, state),
            progress_in(state, _told(home, files, state), of_batches=home == _COUNTS_BATCHES),
            (
                *_state_findings(home, names, files),
                *_untold(home, files, state),
                *base.misshapen(files),
                *base.without_weights(homes, files),
            ),
            weights=_weights(homes[Component.WEIGHTS], home, files),
            optimizer=_optimizer(files.get(home or ""), state),
            rng=_rng(home, state),
            baseline=frozenset({home} if home and states.is_baseline(_found(Component.RNG, state)[1]) else ()),
            left_out=_left_out(state),
            made_up=_made_up(state),
            trained={home: _TRAINED} if home else {},
        )


LAYOUT: Final = Plain()


def _state_file(names: frozenset[str]) -> str | None:
    return next((name for name in STATES if name in names), None)


def _state(names: frozenset[str], files: Mapping[str, FileFacts]) -> Mapping[str, Any]:
    facts = files.get(_state_file(names) or "")
    return facts.contents if facts and isinstance(facts.contents, dict) else {}


def _state_findings(home: str | None, names: frozenset[str], files: Mapping[str, FileFacts]) -> Iterator[Finding]:
    facts = files.get(home or "")
    if home is None or facts is None:
        return
    if facts.format == "torch" and not facts.problems and not _state(names, files):
        yield Finding(Code.TRAINING_STATE_MISSING, home, "it holds no training state")
    state = _state(names, files)
    named = state.get(KINDS)
    for component in _NO_OTHER_FORM:
        value = _found(component, state)[1]
        yield from forms.misshapen_state(component, home, value, named=isinstance(named, dict) and component in named)
    yield from loaders.misshapen(home, _found(Component.DATALOADER, state)[1])


def _weights_inside(names: frozenset[str], files: Mapping[str, FileFacts]) -> bool:
    return base.state_presence(_state(names, files).get(INNER_WEIGHTS)) is Presence.PRESENT


def _weights(homes: tuple[str, ...], home: str | None, files: Mapping[str, FileFacts]) -> Mapping[str, Any]:
    if home in homes:
        return base.tensors_of(files.get(home or ""), f"{INNER_WEIGHTS}.")
    return base.weights_of(homes, files)


def _homes(names: frozenset[str], home: str | None, files: Mapping[str, FileFacts]) -> base.Homes:
    inside = (home,) if home else ()
    weights = base.weight_files(names)
    unheard_of = _unheard_of(home, files)
    return {
        Component.CONFIG: base.config_files(names),
        Component.WEIGHTS: weights or (inside if _weights_inside(names, files) else ()),
        Component.TOKENIZER: base.present(names, *base.TOKENIZER_FILES),
        Component.TRAINING_STATE: inside,
        **{component: () if component in unheard_of else inside for component in _KEYS},
    }


def _components(homes: base.Homes, home: str | None, state: Mapping[str, Any]) -> dict[Component, Presence]:
    weights, config = homes[Component.WEIGHTS], base.config_presence(homes[Component.CONFIG])
    return {
        Component.CONFIG: Presence.NOT_APPLICABLE if weights == (home,) and config is Presence.MISSING else config,
        Component.WEIGHTS: base.presence_of(weights, Presence.MISSING),
        Component.TOKENIZER: base.presence_of(homes[Component.TOKENIZER], Presence.NOT_APPLICABLE),
        Component.TRAINING_STATE: base.presence_of(homes[Component.TRAINING_STATE], Presence.MISSING),
        **{component: _presence(component, home, state) for component in _KEYS},
    }


def _never_saved(home: str | None, state: Mapping[str, Any]) -> frozenset[Component]:
    """What the writer of this file has no place for: the key names and the file's ending tell the writers apart."""
    if home == _COUNTS_BATCHES:
        return frozenset({Component.SCHEDULER, Component.RNG})
    return frozenset({Component.RNG}) if state.keys() & {"optimizer", "lr_scheduler"} else frozenset()


def _unheard_of(home: str | None, files: Mapping[str, FileFacts]) -> frozenset[Component]:
    """Of a state that cannot be read, or believed: what it does not name, and its writer does not always save."""
    file = files.get(home or "")
    state = file.contents if file and isinstance(file.contents, dict) else {}
    if state and file and not file.doubtful:
        return frozenset()
    rare = {*_WHERE_USED, *_never_saved(home, state)}
    return frozenset(component for component in rare if not _found(component, state)[0])


def _left_out(state: Mapping[str, Any]) -> frozenset[Component]:
    """What the job's own settings switched off."""
    named = state.get(NOT_SAVED)
    told = named if isinstance(named, list | tuple) else ()
    return frozenset(component for component in (Component.OPTIMIZER, Component.SCHEDULER) if component.value in told)


def _found(component: Component, state: Mapping[str, Any]) -> tuple[str, Any]:
    """The key under which the component lies, and what lies there; None where it does not."""
    return next(((key, state[key]) for key in _KEYS[component] if key in state), ("", None))


def _presence(component: Component, home: str | None, state: Mapping[str, Any]) -> Presence:
    key, found = _found(component, state)
    if component in _WHERE_USED and not found:  # {} is what a scaler saves that is switched off
        legacy = component is Component.SCALER and home == _COUNTS_BATCHES and state and not key
        return Presence.MISSING if legacy else Presence.NOT_APPLICABLE
    if found is None and component in _never_saved(home, state) | _left_out(state):
        return Presence.NOT_APPLICABLE
    if component is Component.OPTIMIZER:
        return base.optimizer_presence(found, steps=counts.count(state.get("global_step")))
    return base.state_presence(found)


def _optimizer(file: FileFacts | None, state: Mapping[str, Any]) -> OptimizerFacts | None:
    key, found = _found(Component.OPTIMIZER, state)
    return states.optimizer_facts(found, f"{key}.", file) if file else None


def _rng(home: str | None, state: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    key, found = _found(Component.RNG, state)
    return {home: states.rng_kinds(found)} if home and key else {}


def _told(home: str | None, files: Mapping[str, FileFacts], state: Mapping[str, Any]) -> dict[str, Any]:
    """What it counts."""
    return {key: states.told(files.get(home or ""), state, key) for key in COUNTS if key in state}


def _untold(home: str | None, files: Mapping[str, FileFacts], state: Mapping[str, Any]) -> Iterator[Finding]:
    """What cannot be, and therefore counts for nothing."""
    told = {key: value for key, value in _told(home, files, state).items() if value is not None}
    for key, value in told.items():
        if counts.epochs(value) is None or (key != "epoch" and counts.count(value) is None):
            yield Finding(Code.PROGRESS_UNTOLD, home, f"{key} is {counts.shortened(value)}, and counts for nothing")
    epoch, batches, per_epoch = (counts.number(told.get(key)) for key in ("epoch", "step", "total_batches"))
    if epoch is not None and batches is not None and per_epoch is not None and "global_step" not in told:
        if batches > per_epoch:
            yield Finding(
                Code.PROGRESS_UNTOLD, home, f"{batches} batches of {per_epoch} are done, and count for nothing"
            )
        elif batches and epoch < 1:
            yield Finding(
                Code.PROGRESS_UNTOLD, home, f"{batches} batches of epoch {epoch:g} are done: the first one is epoch 1"
            )


def _made_up(state: Mapping[str, Any]) -> tuple[str, ...]:
    told = state.get(naming.BASELINE)
    return tuple(name for name in told if isinstance(name, str)) if isinstance(told, list) else ()


def progress_in(state: Mapping[str, Any], told: Mapping[str, Any], *, of_batches: bool = False) -> Progress:
    """`told`: of `COUNTS` those that are there, as plain values. What cannot be counts for nothing.

    `of_batches`: the writer is known to count batches, also where it does not say how many an epoch has.
    """
    epoch = counts.epochs(told.get("epoch"))
    step, batches, per_epoch = (counts.count(told.get(key)) for key in ("global_step", "step", "total_batches"))
    place = places.by_batches(epoch, batches, per_epoch) if step is None else None
    loader, scheduler = (_found(component, state)[1] for component in (Component.DATALOADER, Component.SCHEDULER))
    counts_batches = place is not None
    if place is not None and place.done is not None and per_epoch is not None:
        step = counts.count((place.epoch - 1) * per_epoch + place.done)
    lost = of_batches and step is None and told.get("total_batches") is None
    if lost:
        place = places.by_batches_of_untold_epochs(epoch, batches)
    return Progress(
        step=step,
        epoch=epoch,
        world_size=counts.whole_number(state.get("world_size")),
        schedule_step=states.schedule_step(scheduler),
        counts_batches=counts_batches,
        lost_by="total_batches" if lost and place is not None else None,
        metrics=counts.metrics_in(state),
        place=place or places.by_loader(loader, epoch, per_epoch),
        losses=counts.numbers(state.get("epoch_losses")),
        rates=states.last_rates(scheduler),
    )
