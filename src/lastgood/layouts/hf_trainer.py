"""Hugging Face Trainer: `checkpoint-<step>/`, in the order config, weights, tokenizer, optimizer, scheduler, RNG,
`trainer_state.json` (transformers 4 and 5, `Trainer._save_checkpoint`; order seen with strace).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from lastgood.facts import Component, Presence, Progress
from lastgood.findings import Code, Finding
from lastgood.layouts import base, counts, places, states

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lastgood.facts import FileFacts

STATE: Final = "trainer_state.json"
_ARGUMENTS: Final = "training_args.bin"
_OPTIMIZER: Final = ("optimizer.pt", "optimizer.bin")
_SCHEDULER: Final = "scheduler.pt"
_SCALER: Final = "scaler.pt"
_WEIGHTS_ALONE: Final = ("model.safetensors", "pytorch_model.bin")
_OF_SHARDED_TRAINING: Final = re.compile(r"pytorch_model_fsdp|optimizer_\d+/|global_step\d+/")
# Names of parts that 9 of 10 models of transformers 5 have, and few others.
_OF_TRANSFORMERS: Final = re.compile(r"(?:^|\.)(?:embeddings|embed_tokens|wte|attention|q_proj)\.")
_RNG: Final = re.compile(r"rng_state(?:_(\d{1,5}))?\.pth")


class HfTrainer:
    """One process or several, one weights file or shards; `save_only_model` leaves the training state out."""

    name = "hf_trainer"

    def recognises(self, names: frozenset[str]) -> bool:
        own = base.weight_files(names) and names & {*_OPTIMIZER}
        if not own and any(map(_OF_SHARDED_TRAINING.match, names)):
            return False  # weights or optimizer lie in formats of FSDP or DeepSpeed, which are not read here
        if STATE not in names and names & {*base.STATES}:
            return False  # another trainer's, beside what Trainer's `save_model` left
        return bool(names & {STATE, _ARGUMENTS, "optimizer.pt", _SCHEDULER}) or bool(_rng_files(names))

    def last_file(self, names: frozenset[str]) -> str | None:  # noqa: ARG002 - the same whatever else is there
        return STATE

    def missing(self, names: frozenset[str], files: Mapping[str, FileFacts]) -> Iterator[Finding]:
        yield from base.missing_weights(names, files)
        if not _saves_no_config(names, files):
            yield from base.missing_config(names)
        if STATE not in names:
            yield Finding(Code.TRAINING_STATE_MISSING, STATE, "the file that Trainer writes last is not there")
        yield from _missing_ranks(names, files)

    def still_expected(self, names: frozenset[str]) -> Iterator[str]:
        groups = {
            "optimizer.pt": bool(names & set(_OPTIMIZER)),
            _SCHEDULER: _SCHEDULER in names,
            "rng_state.pth": bool(_rng_files(names)),
        }
        if any(groups.values()):
            yield from (name for name, there in groups.items() if not there)

    def read(self, names: frozenset[str], files: Mapping[str, FileFacts]) -> base.Reading:
        homes = _homes(names)
        components = {component: base.presence_of(found, Presence.MISSING) for component, found in homes.items()}
        components[Component.CONFIG] = (
            Presence.NOT_APPLICABLE if _saves_no_config(names, files) else base.config_presence(homes[Component.CONFIG])
        )
        if not homes[Component.TOKENIZER]:
            components[Component.TOKENIZER] = Presence.NOT_APPLICABLE
        if not homes[Component.SCALER] and not _scales_its_loss(names, files):
            components[Component.SCALER] = Presence.NOT_APPLICABLE
        optimizers, progress = base.told(homes[Component.OPTIMIZER], files), _progress(names, files)
        return base.Reading(
            homes,
            components | base.holding_nothing(homes, files, progress.step),
            progress,
            (
                *_state_findings(files),
                *_config_findings(names, files),
                *base.misshapen(files),
                *base.misshapen_states(homes, files),
                *base.without_weights(homes, files),
            ),
            weights=base.weights_of(homes[Component.WEIGHTS], files),
            optimizer=next((states.optimizer_facts(told, "", files[home]) for home, told in optimizers), None),
            rng={home: states.rng_kinds(told) for home, told in base.told(homes[Component.RNG], files)},
            baseline=frozenset(h for h, told in base.told(homes[Component.RNG], files) if states.is_baseline(told)),
        )


LAYOUT: Final = HfTrainer()


def state_files(names: frozenset[str]) -> Mapping[str, str]:
    """Where each state lies, by its key in a `training_state.pt`; random states: those of the first process."""
    homes = {
        "optimizer_state_dict": base.present(names, *_OPTIMIZER),
        "scheduler_state_dict": base.present(names, _SCHEDULER),
        "scaler_state_dict": base.present(names, _SCALER),
        "rng_states": base.present(names, "rng_state.pth", "rng_state_0.pth"),
    }
    return {key: found[0] for key, found in homes.items() if found}


def _homes(names: frozenset[str]) -> base.Homes:
    return {
        Component.CONFIG: base.config_files(names),
        Component.WEIGHTS: base.weight_files(names),
        Component.TOKENIZER: base.present(names, *base.TOKENIZER_FILES),
        Component.TRAINING_STATE: base.present(names, STATE),
        Component.OPTIMIZER: base.present(names, *_OPTIMIZER),
        Component.SCHEDULER: base.present(names, _SCHEDULER),
        Component.RNG: _rng_files(names),
        Component.SCALER: base.present(names, _SCALER),
    }


def _state_findings(files: Mapping[str, FileFacts]) -> Iterator[Finding]:
    facts = files.get(STATE)
    if facts and not facts.problems and facts.format == "json":
        state = facts.contents if isinstance(facts.contents, dict) else {}
        if counts.count(state.get("global_step")) is None:
            yield Finding(Code.TRAINING_STATE_MISSING, STATE, "it holds no training state: no global_step")


def _saves_no_config(names: frozenset[str], files: Mapping[str, FileFacts]) -> bool:
    """Whether the model seems to be a module of the job's own: of such a one Trainer saves the weights, in one file.

    The configuration of transformers' own lands first: where all is there, it was not cut off, but taken away at most.
    """
    weights = base.present(names, *_WEIGHTS_ALONE)
    beside_it = {"generation_config.json", *base.INDEXES}
    if STATE not in names or not weights or base.config_files(names) or names & beside_it:
        return False
    return not any(_OF_TRANSFORMERS.search(name) for file in weights for name in base.tensors_of(files.get(file)))


def _config_findings(names: frozenset[str], files: Mapping[str, FileFacts]) -> Iterator[Finding]:
    if _saves_no_config(names, files):
        message = "no configuration, as Trainer saves a model that is none of transformers' own"
        yield Finding(Code.CONFIG_NOT_SAVED, None, message)


def _rng_files(names: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in names if _RNG.fullmatch(name)))


def _ranks(names: frozenset[str]) -> frozenset[int]:
    matches = (_RNG.fullmatch(name) for name in names)
    return frozenset(int(match[1]) for match in matches if match and match[1])


def _missing_ranks(names: frozenset[str], files: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """A numbered file means at least two processes. Their files may land after the one that rank 0 writes last."""
    if ranks := _ranks(names):
        yield from base.missing_ranks(ranks, max(2, world_size(names, files) or 0), "rng_state_{}.pth")


def world_size(names: frozenset[str], files: Mapping[str, FileFacts]) -> int | None:
    """How many processes saved: as recorded in the arguments, or by the highest number among the files."""
    if not (ranks := _ranks(names)):
        return 1 if "rng_state.pth" in names else None
    return max(recorded_processes(files) or 0, max(ranks) + 1)


def recorded_processes(files: Mapping[str, FileFacts]) -> int | None:
    """As its arguments tell. Where every node saves for itself, each disk has the files of its own processes only."""
    arguments = _arguments(files)
    recorded = None if arguments.get("save_on_each_node") else _attributes(arguments.get("distributed_state"))
    return counts.whole_number((recorded or {}).get("num_processes"))


def _arguments(files: Mapping[str, FileFacts]) -> Mapping[str, Any]:
    """The TrainingArguments by name, where their file could be read."""
    return _attributes(files[_ARGUMENTS].contents) if _ARGUMENTS in files else {}


def _attributes(pickled: Any) -> Mapping[str, Any]:
    state = getattr(pickled, "state", None)
    return state if isinstance(state, dict) else {}


def _scales_its_loss(names: frozenset[str], files: Mapping[str, FileFacts]) -> bool:
    """Whether Trainer saves a loss scaler: with float16, unless DeepSpeed or apex do the scaling."""
    arguments = _arguments(files)
    others = arguments.get("deepspeed") or arguments.get("half_precision_backend") == "apex"
    return arguments.get("fp16") is True and not others and bool(names & set(_OPTIMIZER))


def _progress(names: frozenset[str], files: Mapping[str, FileFacts]) -> Progress:
    facts = files.get(STATE)
    state: Any = facts.contents if facts and isinstance(facts.contents, dict) else {}
    step, epoch = counts.count(state.get("global_step")), counts.epochs(state.get("epoch"))
    scheduler = files[_SCHEDULER].contents if _SCHEDULER in files else None
    accumulated = counts.whole_number(_arguments(files).get("gradient_accumulation_steps")) or 1
    return Progress(
        step=step,
        epoch=epoch,
        world_size=world_size(names, files),
        schedule_step=states.schedule_step(scheduler),
        metrics=metrics_in(state),
        best=_last_part(state.get("best_model_checkpoint")),
        place=places.by_fraction(step, epoch, accumulated),
        losses=counts.numbers([entry.get("loss") for entry in _logged(state)]),
        rates=states.last_rates(scheduler),
    )


def _logged(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    history = state.get("log_history")
    return [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []


def metrics_in(state: Mapping[str, Any]) -> dict[str, float]:
    """What `log_history` has of this very step: the loss, and what an evaluation found."""
    return {
        name: value
        for entry in _logged(state)
        if entry.get("step") == state.get("global_step")
        for name, value in counts.metrics_in(entry).items()
    }


def _last_part(path: Any) -> str | None:
    return path.rstrip("/").rpartition("/")[2] or None if isinstance(path, str) else None
