"""Plain checkpoints: a Hugging Face model beside one `training_state.pt` (or `.pth`) with all that a resume needs.

Three writers, told apart by their keys and the file's ending:
- `training_state.pt` with `optimizer_state_dict`, `scheduler_state_dict`, `rng_states`, `global_step`, `epoch`;
- `training_state.pt` of Forgather's first versions, with `optimizer`, `lr_scheduler`, `global_step`, and no RNG;
- `training_state.pth` with `optimizer_state_dict`, `epoch`, `step`, `total_batches`; no scheduler, no RNG.
Each may have `scaler_state_dict`, and `model_state_dict` where the weights lie inside. The `.pth` always has a scaler's
key, with None where there is none, and counts batches in `step`: 0 means that the epoch is finished.
CheckpointManager adds `dataloader`, and names in `not_saved` what its job chose to leave out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lastgood.facts import Component, Presence, Progress
from lastgood.findings import Code, Finding
from lastgood.layouts import base, places, states

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lastgood.facts import FileFacts, OptimizerFacts

_STATES: Final = ("training_state.pt", "training_state.pth")
_KEYS: Final = {
    Component.OPTIMIZER: ("optimizer_state_dict", "optimizer"),
    Component.SCHEDULER: ("scheduler_state_dict", "lr_scheduler"),
    Component.RNG: ("rng_states",),
    Component.SCALER: ("scaler_state_dict",),
    Component.DATALOADER: ("dataloader",),
}
_WHERE_USED: Final = (Component.SCALER, Component.DATALOADER)  # not there: the job has none
_COUNTS_BATCHES: Final = "training_state.pth"
_NOT_SAVED: Final = "not_saved"
_INNER_WEIGHTS: Final = "model_state_dict"


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
            _progress(home, state),
            (*_state_findings(home, names, files), *base.misshapen(files)),
            weights=_weights(homes[Component.WEIGHTS], home, files),
            optimizer=_optimizer(files.get(home or ""), state),
            rng=_rng(home, state),
            baseline=frozenset({home} if home and states.is_baseline(_found(Component.RNG, state)[1]) else ()),
            left_out=_left_out(state),
        )


LAYOUT: Final = Plain()


def _state_file(names: frozenset[str]) -> str | None:
    return next((name for name in _STATES if name in names), None)


def _state(names: frozenset[str], files: Mapping[str, FileFacts]) -> Mapping[str, Any]:
    facts = files.get(_state_file(names) or "")
    return facts.contents if facts and isinstance(facts.contents, dict) else {}


def _state_findings(home: str | None, names: frozenset[str], files: Mapping[str, FileFacts]) -> Iterator[Finding]:
    facts = files.get(home or "")
    if facts and facts.format == "torch" and facts.contents is not None and not _state(names, files):
        yield Finding(Code.TRAINING_STATE_MISSING, home, "it holds no training state")


def _weights_inside(names: frozenset[str], files: Mapping[str, FileFacts]) -> bool:
    return base.state_presence(_state(names, files).get(_INNER_WEIGHTS)) is Presence.PRESENT


def _weights(homes: tuple[str, ...], home: str | None, files: Mapping[str, FileFacts]) -> Mapping[str, Any]:
    if home in homes:
        return base.tensors_of(files.get(home or ""), f"{_INNER_WEIGHTS}.")
    return base.weights_of(homes, files)


def _homes(names: frozenset[str], home: str | None, files: Mapping[str, FileFacts]) -> base.Homes:
    inside = (home,) if home else ()
    weights = base.weight_files(names)
    return {
        Component.CONFIG: base.config_files(names),
        Component.WEIGHTS: weights or (inside if _weights_inside(names, files) else ()),
        Component.TOKENIZER: base.present(names, *base.TOKENIZER_FILES),
        Component.TRAINING_STATE: inside,
        **dict.fromkeys(_KEYS, inside),
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


def _left_out(state: Mapping[str, Any]) -> frozenset[Component]:
    """What the job's own settings switched off."""
    named = state.get(_NOT_SAVED)
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
    return base.optimizer_presence(found) if component is Component.OPTIMIZER else base.state_presence(found)


def _optimizer(file: FileFacts | None, state: Mapping[str, Any]) -> OptimizerFacts | None:
    key, found = _found(Component.OPTIMIZER, state)
    return states.optimizer_facts(found, f"{key}.", file) if file else None


def _rng(home: str | None, state: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    key, found = _found(Component.RNG, state)
    return {home: states.rng_kinds(found)} if home and key else {}


def _progress(home: str | None, state: Mapping[str, Any]) -> Progress:
    epoch = base.number(state.get("epoch"))
    step = base.whole_number(state.get("global_step"))
    batches, per_epoch = base.whole_number(state.get("step")), base.whole_number(state.get("total_batches"))
    counts_batches = bool(home and step is None and epoch is not None and batches is not None and per_epoch is not None)
    place = places.by_batches(epoch, batches, per_epoch) if counts_batches else None
    loader, scheduler = (_found(component, state)[1] for component in (Component.DATALOADER, Component.SCHEDULER))
    if counts_batches and epoch is not None and batches is not None and per_epoch is not None:
        step = int((epoch - 1) * per_epoch + batches if batches else epoch * per_epoch)
    return Progress(
        step=step,
        epoch=epoch,
        world_size=base.whole_number(state.get("world_size")),
        schedule_step=states.schedule_step(scheduler),
        counts_batches=counts_batches,
        metrics=base.metrics_in(state),
        place=place or places.by_loader(loader, epoch, per_epoch),
        losses=base.numbers(state.get("epoch_losses")),
        rates=states.last_rates(scheduler),
    )
