"""Plain checkpoints: a Hugging Face model beside one `training_state.pt` (or `.pth`) with all that a resume needs.

Keys, by the tools that write them: `optimizer_state_dict` or `optimizer`, `scheduler_state_dict` or `lr_scheduler`,
`rng_states`, `scaler_state_dict`, `global_step`, `epoch`; `model_state_dict` where the weights lie inside.
A `.pth` counts batches in `step`: 0 means that the epoch is finished.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lastgood.facts import Component, Presence, Progress
from lastgood.findings import Code, Finding
from lastgood.layouts import base

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lastgood.facts import FileFacts

_STATES: Final = ("training_state.pt", "training_state.pth")
_KEYS: Final = {
    Component.OPTIMIZER: ("optimizer_state_dict", "optimizer"),
    Component.SCHEDULER: ("scheduler_state_dict", "lr_scheduler"),
    Component.RNG: ("rng_states",),
    Component.SCALER: ("scaler_state_dict",),
}
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
        home = _state_file(names)
        state = _state(names, files)
        weights = base.weight_files(names)
        if not weights and _weights_inside(names, files) and home:
            weights = (home,)
        homes: base.Homes = {
            Component.CONFIG: tuple(name for name in ("config.json",) if name in names),
            Component.WEIGHTS: weights,
            Component.TOKENIZER: tuple(name for name in base.TOKENIZER_FILES if name in names),
            Component.TRAINING_STATE: (home,) if home else (),
        }
        components = {
            Component.CONFIG: base.presence_of(homes[Component.CONFIG], Presence.MISSING),
            Component.WEIGHTS: base.presence_of(weights, Presence.MISSING),
            Component.TOKENIZER: base.presence_of(homes[Component.TOKENIZER], Presence.NOT_APPLICABLE),
            Component.TRAINING_STATE: base.presence_of(homes[Component.TRAINING_STATE], Presence.MISSING),
        }
        if weights == (home,) and components[Component.CONFIG] is Presence.MISSING:
            components[Component.CONFIG] = Presence.NOT_APPLICABLE
        for component, keys in _KEYS.items():
            homes[component] = (home,) if home else ()
            components[component] = _presence(component, home, state, keys)
        return base.Reading(homes, components, _progress(home, state), tuple(_state_findings(home, names, files)))


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


def _never_saved(home: str | None, state: Mapping[str, Any]) -> frozenset[Component]:
    """What the writer of this file has no place for: the key names and the file's ending tell the writers apart."""
    if home == "training_state.pth":
        return frozenset({Component.SCHEDULER, Component.RNG})
    return frozenset({Component.RNG}) if "optimizer" in state else frozenset()


def _presence(component: Component, home: str | None, state: Mapping[str, Any], keys: tuple[str, ...]) -> Presence:
    found = next((state[key] for key in keys if key in state), None)
    if component is Component.SCALER and found is None:
        return Presence.NOT_APPLICABLE
    if found is None and component in _never_saved(home, state):
        return Presence.NOT_APPLICABLE
    return base.optimizer_presence(found) if component is Component.OPTIMIZER else base.state_presence(found)


def _progress(home: str | None, state: Mapping[str, Any]) -> Progress:
    epoch = base.number(state.get("epoch"))
    step = base.whole_number(state.get("global_step"))
    batches, per_epoch = base.whole_number(state.get("step")), base.whole_number(state.get("total_batches"))
    if home and step is None and epoch is not None and batches is not None and per_epoch is not None:
        step = int((epoch - 1) * per_epoch + batches if batches else epoch * per_epoch)
    return Progress(step=step, epoch=epoch)
