"""Hugging Face Trainer: `checkpoint-<step>/`, in the order config, weights, tokenizer, optimizer, scheduler, RNG,
`trainer_state.json` (transformers 4 and 5, `Trainer._save_checkpoint`; order seen with strace).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from lastgood.facts import Component, Presence, Progress
from lastgood.findings import Code, Finding
from lastgood.layouts import base

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lastgood.facts import FileFacts

_STATE: Final = "trainer_state.json"
_OPTIMIZER: Final = ("optimizer.pt", "optimizer.bin")
_RNG: Final = re.compile(r"rng_state(?:_(\d+))?\.pth")


class HfTrainer:
    """One process or several, one weights file or shards; `save_only_model` leaves the training state out."""

    name = "hf_trainer"

    def recognises(self, names: frozenset[str]) -> bool:
        return bool(names & {_STATE, "training_args.bin", "optimizer.pt", "scheduler.pt"}) or bool(_rng_files(names))

    def last_file(self, names: frozenset[str]) -> str | None:  # noqa: ARG002 - the same whatever else is there
        return _STATE

    def missing(self, names: frozenset[str], files: Mapping[str, FileFacts]) -> Iterator[Finding]:
        yield from base.missing_weights(names, files)
        yield from base.missing_config(names)
        if _STATE not in names:
            yield Finding(Code.TRAINING_STATE_MISSING, _STATE, "the file that Trainer writes last is not there")
        yield from _missing_ranks(names)

    def still_expected(self, names: frozenset[str]) -> Iterator[str]:
        groups = {
            "optimizer.pt": bool(names & set(_OPTIMIZER)),
            "scheduler.pt": "scheduler.pt" in names,
            "rng_state.pth": bool(_rng_files(names)),
        }
        if any(groups.values()):
            yield from (name for name, there in groups.items() if not there)

    def read(self, names: frozenset[str], files: Mapping[str, FileFacts]) -> base.Reading:
        homes = {
            Component.CONFIG: _present(names, "config.json", "adapter_config.json"),
            Component.WEIGHTS: base.weight_files(names),
            Component.TOKENIZER: _present(names, *base.TOKENIZER_FILES),
            Component.TRAINING_STATE: _present(names, _STATE),
            Component.OPTIMIZER: _present(names, *_OPTIMIZER),
            Component.SCHEDULER: _present(names, "scheduler.pt"),
            Component.RNG: _rng_files(names),
            Component.SCALER: _present(names, "scaler.pt"),
        }
        optional = {Component.TOKENIZER, Component.SCALER}
        components = {
            component: base.presence_of(found, Presence.NOT_APPLICABLE if component in optional else Presence.MISSING)
            for component, found in homes.items()
        }
        components |= _holding_nothing(homes, files)
        if Component.CONFIG in components and "adapter_config.json" in names and "config.json" not in names:
            components[Component.CONFIG] = Presence.NOT_APPLICABLE
        return base.Reading(homes, components, _progress(names, files), tuple(_state_findings(files)))


LAYOUT: Final = HfTrainer()


def _holding_nothing(homes: base.Homes, files: Mapping[str, FileFacts]) -> dict[Component, Presence]:
    """Components whose file is there, sound, and empty of state."""
    judges = {
        Component.OPTIMIZER: base.optimizer_presence,
        Component.SCHEDULER: base.state_presence,
        Component.RNG: base.state_presence,
    }
    found: dict[Component, Presence] = {}
    for component, judge in judges.items():
        told = [files[home].contents for home in homes[component] if home in files]
        if any(contents is not None and judge(contents) is Presence.EMPTY for contents in told):
            found[component] = Presence.EMPTY
    return found


def _state_findings(files: Mapping[str, FileFacts]) -> Iterator[Finding]:
    facts = files.get(_STATE)
    if facts and not facts.problems and facts.format == "json":
        state = facts.contents if isinstance(facts.contents, dict) else {}
        if base.whole_number(state.get("global_step")) is None:
            yield Finding(Code.TRAINING_STATE_MISSING, _STATE, "it holds no training state: no global_step")


def _present(names: frozenset[str], *wanted: str) -> tuple[str, ...]:
    return tuple(name for name in wanted if name in names)


def _rng_files(names: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in names if _RNG.fullmatch(name)))


def _ranks(names: frozenset[str]) -> frozenset[int]:
    matches = (_RNG.fullmatch(name) for name in names)
    return frozenset(int(match[1]) for match in matches if match and match[1])


def _missing_ranks(names: frozenset[str]) -> Iterator[Finding]:
    """A numbered file means at least two processes; the highest number tells of all below it."""
    if not (ranks := _ranks(names)):
        return
    for rank in sorted(set(range(max(2, max(ranks) + 1))) - ranks):
        yield Finding(Code.RANKS_MISSING, f"rng_state_{rank}.pth", f"the file of rank {rank} is not there")


def _progress(names: frozenset[str], files: Mapping[str, FileFacts]) -> Progress:
    facts = files.get(_STATE)
    state: Any = facts.contents if facts and isinstance(facts.contents, dict) else {}
    return Progress(
        step=base.whole_number(state.get("global_step")),
        epoch=base.number(state.get("epoch")),
        world_size=max(_ranks(names)) + 1 if _ranks(names) else (1 if "rng_state.pth" in names else None),
    )
