"""Forgather: one folder, a file for each component: `<component>_state.pt`, or `<component>_state_rank_<N>.pt` where
every rank has its own. Rank 0 writes `checkpoint_manifest.json` when it has written its parts; other ranks may still
be at theirs, and `checkpoint_metadata.pt` may follow. First versions had no manifest. Its RNG is torch's alone.

Its older checkpoints, with one `training_state.pt`, are the business of `plain`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lastgood.facts import Component, OptimizerFacts, Presence, Progress
from lastgood.findings import Code, Finding
from lastgood.layouts import base, counts, places, states

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lastgood.facts import FileFacts

_MANIFEST: Final = "checkpoint_manifest.json"
_NO_WEIGHTS: Final = ".forgather_no_model_weights"  # says that something else keeps the model's weights
_NAME: Final = re.compile(r"((?!\._)[^/]+?)_state(?:_rank_(\d{1,5})|_[^/]+)?\.pt")
_KEYS: Final = {
    Component.TRAINING_STATE: ("trainer",),
    Component.OPTIMIZER: ("optimizer",),
    Component.SCHEDULER: ("scheduler", "lr_scheduler"),
    Component.RNG: ("rng",),
    Component.DATALOADER: ("dataset",),
}
_TELLING: Final = frozenset(key for keys in _KEYS.values() for key in keys)
_OPTIONAL: Final = (Component.SCHEDULER, Component.DATALOADER)  # not in the manifest: the job has none
_PER_RANK: Final = "per_rank"


class Forgather:
    """Which components there are is the job's choice; the manifest names them, and the ranks that saved each."""

    name = "forgather"

    def recognises(self, names: frozenset[str]) -> bool:
        return any(part.key in _TELLING for part in _parts(names))

    def last_file(self, names: frozenset[str]) -> str | None:  # noqa: ARG002 - the same whatever else is there
        return _MANIFEST

    def missing(self, names: frozenset[str], files: Mapping[str, FileFacts]) -> Iterator[Finding]:
        parts, promised = _parts(names), _promised(files)
        if _NO_WEIGHTS not in names and not _model_files(names):
            yield from base.missing_weights(names, files)
        if not _files_of(parts, Component.TRAINING_STATE) and (promised is None or "trainer" in promised):
            yield Finding(Code.TRAINING_STATE_MISSING, "trainer_state.pt", "the progress of training is not there")
        yield from _missing_ranks(parts, promised or {}, _recorded_world_size(files))

    def still_expected(self, names: frozenset[str]) -> Iterator[str]:
        if _MANIFEST not in names:
            yield _MANIFEST

    def read(self, names: frozenset[str], files: Mapping[str, FileFacts]) -> base.Reading:
        parts = _parts(names)
        homes: base.Homes = {
            Component.CONFIG: base.config_files(names),
            Component.WEIGHTS: base.weight_files(names) or _model_files(names),
            Component.TOKENIZER: base.present(names, *base.TOKENIZER_FILES),
            **{component: _files_of(parts, component) for component in _KEYS},
        }
        progress = _progress(parts, homes, files)
        return base.Reading(
            homes,
            _components(names, homes, files, progress.step),
            progress,
            (
                *base.misshapen(files),
                *base.misshapen_states(homes, files),
                *base.without_weights(homes, files),
                *_manifest_findings(files),
                *_step_findings(homes, files, progress),
            ),
            weights=base.weights_of(homes[Component.WEIGHTS], files),
            optimizer=_optimizer(homes[Component.OPTIMIZER], files),
            rng={home: states.rng_kinds(contents) for home, contents in base.told(homes[Component.RNG], files)},
        )


LAYOUT: Final = Forgather()


@dataclass(frozen=True, slots=True)
class _Part:
    """One file, as its name tells: the component's key, and the rank where each has its own."""

    name: str
    key: str
    rank: int | None


def _parts(names: frozenset[str]) -> tuple[_Part, ...]:
    matches = ((name, _NAME.fullmatch(name)) for name in sorted(names))
    return tuple(_Part(name, match[1], int(match[2]) if match[2] else None) for name, match in matches if match)


def _files_of(parts: tuple[_Part, ...], component: Component) -> tuple[str, ...]:
    found = [part for part in parts if part.key in _KEYS[component]]
    return tuple(part.name for part in sorted(found, key=lambda part: (part.rank or 0, part.name)))


def _model_files(names: frozenset[str]) -> tuple[str, ...]:
    """A pipeline's ranks may each have a part of the model in such a file."""
    return tuple(part.name for part in _parts(names) if part.key == "model")


def _manifest(files: Mapping[str, FileFacts]) -> Mapping[str, Any]:
    file = files.get(_MANIFEST)
    return file.contents if file and isinstance(file.contents, dict) else {}


def _promised(files: Mapping[str, FileFacts]) -> Mapping[str, Mapping[str, Any]] | None:
    """What the manifest says of each component; None where there is no manifest to ask."""
    components = _manifest(files).get("components")
    if not isinstance(components, dict):
        return None
    return {str(key): told if isinstance(told, dict) else {} for key, told in components.items()}


def _recorded_world_size(files: Mapping[str, FileFacts]) -> int | None:
    return counts.whole_number(_manifest(files).get("world_size"))


def _missing_ranks(
    parts: tuple[_Part, ...], promised: Mapping[str, Mapping[str, Any]], world_size: int | None
) -> Iterator[Finding]:
    """What every rank saves must be there of each: as many as recorded, or as the highest number tells."""
    numbered = [(part.key, part.rank) for part in parts if part.rank is not None]
    count = max([world_size or 0, *(rank + 1 for _key, rank in numbered)])
    per_rank = {key for key, told in promised.items() if told.get("sharing_pattern") == _PER_RANK and key != "model"}
    for key in sorted(per_rank | {key for key, _rank in numbered}):
        there = frozenset(rank for other, rank in numbered if other == key)
        yield from base.missing_ranks(there, count, key + "_state_rank_{}.pt")


def _components(
    names: frozenset[str], homes: base.Homes, files: Mapping[str, FileFacts], steps: int | None
) -> dict[Component, Presence]:
    promised = _promised(files)
    components = {component: base.presence_of(found, Presence.MISSING) for component, found in homes.items()}
    absent = (Component.CONFIG, Component.TOKENIZER, *((Component.WEIGHTS,) if _NO_WEIGHTS in names else ()))
    if promised is not None:
        absent += tuple(component for component in _OPTIONAL if not promised.keys() & set(_KEYS[component]))
    else:
        absent += (Component.DATALOADER,)
    components |= {component: Presence.NOT_APPLICABLE for component in absent if not homes[component]}
    components[Component.SCALER] = Presence.NOT_APPLICABLE  # it lies in the trainer's state, where there is one
    return components | base.holding_nothing(homes, files, steps)


def _manifest_findings(files: Mapping[str, FileFacts]) -> Iterator[Finding]:
    file = files.get(_MANIFEST)
    if file and file.format == "json" and not file.problems and not isinstance(file.contents, dict):
        yield Finding(Code.JSON_SHAPE, _MANIFEST, "it holds no object")


def _step_findings(homes: base.Homes, files: Mapping[str, FileFacts], progress: Progress) -> Iterator[Finding]:
    home = next((home for home, _contents in base.told(homes[Component.TRAINING_STATE], files)), None)
    if home and progress.step is None:
        yield Finding(Code.TRAINING_STATE_MISSING, home, "it holds no training state: no global_step")


def _optimizer(homes: tuple[str, ...], files: Mapping[str, FileFacts]) -> OptimizerFacts | None:
    """Of several ranks, only what does not depend on how the parameters are split between them."""
    found = [facts for home in homes if home in files if (facts := _one_optimizer(files[home]))]
    if len(found) < 2:
        return next(iter(found), None)
    return OptimizerFacts(
        tuple(sorted({step for facts in found for step in facts.steps})),
        found[0].rates,
        unsound_rates=found[0].unsound_rates,
        lacking=tuple(lacking for facts in found for lacking in facts.lacking),
    )


def _one_optimizer(file: FileFacts) -> OptimizerFacts | None:
    return states.optimizer_facts(file.contents, "", file)


def _progress(parts: tuple[_Part, ...], homes: base.Homes, files: Mapping[str, FileFacts]) -> Progress:
    states_found = base.told(homes[Component.TRAINING_STATE], files)
    home, state = next(((home, told) for home, told in states_found if isinstance(told, dict)), ("", {}))
    schedule = next((told for _home, told in base.told(homes[Component.SCHEDULER], files)), None)
    ranks = [part.rank for part in parts if part.rank is not None]
    raw, told, step = (states.told(files.get(home), state, key) for key in ("raw_epoch", "epoch", "global_step"))
    epoch = counts.epochs(raw) if counts.epochs(raw) is not None else counts.epochs(told)
    return Progress(
        step=counts.count(step),
        epoch=epoch,
        world_size=_recorded_world_size(files) or (max(ranks) + 1 if ranks else None),
        schedule_step=states.schedule_step(schedule),
        metrics=counts.metrics_in(state),
        place=places.by_fraction(counts.count(step), epoch),
        rates=states.last_rates(schedule),
    )
