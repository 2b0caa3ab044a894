"""What would mend a checkpoint, and what cannot be mended honestly. Pure: facts in, a plan out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, Final

from lastgood import naming
from lastgood.errors import CannotMend
from lastgood.facts import Component, Presence
from lastgood.findings import MEANINGS, SOUND, Code, Finding, Severity, Verdict, conclude
from lastgood.layouts import base, hf_trainer, plain
from lastgood.mending.words import FromNeighbour, Plan, RandomStates, Renamed, Repair, State, Text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from lastgood.facts import Facts, FileFacts, Report
    from lastgood.mending.neighbours import Neighbour

_STATE: Final = "training_state.pt"
_STATE_OF_BATCHES: Final = "training_state.pth"
_RNG: Final = "rng_state.pth"
_KEYS_OF_FORGATHER: Final = frozenset({"optimizer", "lr_scheduler"})
_INNER_WEIGHTS: Final = "model_state_dict"
# The same in every checkpoint of a run. Of the last ones, a run may have none.
_CONFIG: Final = ("config.json",)
_BESIDE_IT: Final = ("generation_config.json", *base.TOKENIZER_FILES, "chat_template.jinja", "chat_template.json")
_OF_RNG: Final = frozenset({Code.RNG_MISSING, Code.RNG_EMPTY, Code.RNG_INCOMPLETE})
_SHARD: Final = re.compile(r".*-(\d{5})-of-(\d{5})\.(safetensors|bin)")
_ADDED_EMPTY: Final = {"optimizer_state_dict": Component.OPTIMIZER, "scheduler_state_dict": Component.SCHEDULER}
_BECOMES: Final = {
    Code.OPTIMIZER_MISSING: Code.OPTIMIZER_EMPTY,
    Code.SCHEDULER_MISSING: Code.SCHEDULER_EMPTY,
}


@dataclass
class _Draft:
    """A plan in the making."""

    repairs: dict[str, Repair] = field(default_factory=dict)
    mended: set[Finding] = field(default_factory=set)
    emptied: bool = False  #: states that are missing will be there, and empty
    refused: list[str] = field(default_factory=list)

    def add(self, repair: Repair, mended: Collection[Finding] = ()) -> None:
        self.repairs[repair.file] = repair
        self.mended.update(mended)


def plan_repairs(facts: Facts, report: Report, neighbours: Sequence[Neighbour]) -> Plan:
    """What would make the checkpoint one to go on from. A plan without repairs where nothing is amiss.

    `neighbours`: the nearest first. CannotMend, with every reason, where it would not be sound afterwards, or nothing
    at all could be done about what is missing.
    """
    draft = _Draft()
    alike = [other for other in neighbours if _is_same_model(facts, other)]
    _take_from_neighbours(facts, report, alike, draft)
    _write_training_state(facts, report, neighbours, draft)
    _amend_training_state(facts, report, neighbours, draft)
    _write_random_states(facts, report, draft)
    _unwrap_names(facts, report, draft)
    _rebuild_index(facts, report, draft)
    return _concluded(facts, report, draft)


def _concluded(facts: Facts, report: Report, draft: _Draft) -> Plan:
    left = [finding for finding in report.findings if finding not in draft.mended]
    if draft.emptied:
        left = [Finding(_BECOMES.get(found.code, found.code), found.file, found.message) for found in left]
    promised = conclude(left)
    errors = [finding for finding in left if finding.severity is Severity.ERROR]
    mended_before = bool(facts.baseline)
    if promised not in SOUND or not (promised is Verdict.COMPLETE or draft.repairs or mended_before):
        raise CannotMend("; ".join((*draft.refused, *map(_reason, _untold(errors, draft.refused)))))
    repairs = tuple(draft.repairs.values())
    return Plan(report.path, facts.inventory.fingerprint, repairs, promised, tuple(draft.refused))


def _reason(finding: Finding) -> str:
    where = f"{finding.file}: " if finding.file else ""
    what = f"{where}{finding.message}"
    if finding.code in (Code.OPTIMIZER_MISSING, Code.OPTIMIZER_EMPTY):
        return f"{what}, and nothing but a copy brings its moments back"
    if finding.code in (Code.SCHEDULER_MISSING, Code.SCHEDULER_EMPTY):
        return f"{what}, and nothing but a copy tells how far it was"
    return f"{what}, which nothing but a copy mends" if MEANINGS[finding.code].verdict is Verdict.CORRUPT else what


def _untold(errors: Sequence[Finding], refused: Sequence[str]) -> list[Finding]:
    """Those of which no repair has said why it cannot be done."""
    return [error for error in errors if not (refused and error.code in _OF_RNG | {Code.TRAINING_STATE_MISSING})]


def _is_same_model(facts: Facts, other: Neighbour) -> bool:
    bare = naming.bare_names(facts.weights)
    return bool(other.weights) and {bare[n]: tensor.shape for n, tensor in facts.weights.items()} == other.weights


def _take_from_neighbours(facts: Facts, report: Report, alike: Sequence[Neighbour], draft: _Draft) -> None:
    """Configuration, tokenizer: the same in all checkpoints of one run, if their weights are those of one model."""
    for name in (*_CONFIG, *_BESIDE_IT):
        broken = [found for found in report.findings if found.file == name and found.severity is Severity.ERROR]
        if not broken and (name in facts.inventory.names or _is_of_no_use(facts, name)):
            continue
        source = next((other for other in alike if name in other.sound), None)
        if source is not None:
            does = (
                f"{'damaged' if broken and name in facts.inventory.names else 'missing'}: copy that of {_name(source)}"
            )
            draft.add(Repair(name, FromNeighbour(f"{source.path}/{name}"), (does,)), broken)
        elif broken:
            draft.refused.append(f"{name}: no other checkpoint of the same model has a sound one")
    if draft.repairs.keys() & set(_CONFIG):
        draft.mended.update(found for found in report.findings if found.code is Code.CONFIG_MISSING)


def _is_of_no_use(facts: Facts, name: str) -> bool:
    """An adapter has no configuration of a model; what has some of a tokenizer's files has those that it needs."""
    if name in _CONFIG:
        return facts.components.get(Component.CONFIG) is not Presence.MISSING
    return name in base.TOKENIZER_FILES and bool(facts.homes.get(Component.TOKENIZER))


def _write_training_state(facts: Facts, report: Report, neighbours: Sequence[Neighbour], draft: _Draft) -> None:
    """A `training_state.pt` where there is none: the step of the name, and no state of optimizer and scheduler."""
    missing = [found for found in report.findings if found.code is Code.TRAINING_STATE_MISSING]
    if not missing:
        return
    if why := _why_no_state(facts, missing, neighbours):
        draft.refused.append(why)
        return
    assert facts.step_by_name is not None
    epoch, how = _estimated_epoch(facts.step_by_name, neighbours)
    entries = {
        "global_step": facts.step_by_name,
        "epoch": epoch,
        "best_loss": inf,
        "epoch_losses": [],
        **{key: {} for key in _ADDED_EMPTY},
    }
    does = (
        f"missing: make one with step {facts.step_by_name} (by its name) and epoch {epoch} ({how})",
        "optimizer and scheduler are empty",
        "random states are those of now",
    )
    rng = [found for found in report.findings if found.code is Code.RNG_MISSING]
    draft.add(Repair(_STATE, State(entries, random=True), does), (*missing, *rng))
    draft.emptied = True


def _why_no_state(facts: Facts, missing: Sequence[Finding], neighbours: Sequence[Neighbour]) -> str | None:
    if facts.layout != "unknown":
        return (
            f"{missing[0].file or _STATE}: {missing[0].message}; its writer writes it last, so the save never finished"
        )
    if facts.step_by_name is None:
        return f"{_STATE} is missing, and the folder's name tells no step"
    others = {other.layout for other in neighbours} - {plain.LAYOUT.name, "unknown"}
    if others:
        return (
            f"the training state is missing: the run's other checkpoints are of {min(others)}, its save never finished"
        )
    if any(_STATE_OF_BATCHES in other.sound for other in neighbours):
        return f"{_STATE_OF_BATCHES} is missing, and nothing tells how many batches of the epoch were done"
    return None


def _estimated_epoch(step: int, neighbours: Sequence[Neighbour]) -> tuple[int, str]:
    """By the nearest checkpoint that tells both, and not outside the epochs of those around it."""
    told = [(other.step, other.epoch, other) for other in neighbours if other.step and other.epoch is not None]
    if not told:
        return 0, "no other checkpoint tells"
    nearest_step, nearest_epoch, nearest = told[0]
    estimate = step * nearest_epoch / nearest_step
    least = max((epoch for other, epoch, _ in told if other <= step), default=0)
    most = min((epoch for other, epoch, _ in told if other >= step), default=estimate)
    return int(min(max(estimate, least), max(most, least))), f"by {_name(nearest)}"


def _amend_training_state(facts: Facts, report: Report, neighbours: Sequence[Neighbour], draft: _Draft) -> None:
    """Random states and entries that the `training_state.pt` of the guides' writers should have."""
    file = facts.files.get(_STATE) if facts.layout == plain.LAYOUT.name else None
    if file is None or not isinstance(file.contents, dict) or file.contents.keys() & _KEYS_OF_FORGATHER:
        return
    if any(found.file == _STATE and MEANINGS[found.code].verdict is Verdict.CORRUPT for found in report.findings):
        return
    entries = dict(_lacking_entries(facts, file.contents, neighbours))
    rng = [found for found in report.findings if found.code in _OF_RNG]
    names = _without_wrappers(facts, file, f"{_INNER_WEIGHTS}.")
    does = [f"add {', '.join(entries)}"] if entries else []
    does += ["add the random states of now"] if rng else []
    does += [f"take the names of wrappers from {len(names)} tensors"] if names else []
    if not does:
        return
    if why := _why_not_rewritten(file):
        draft.refused.append(why)
        return
    wrapped = [found for found in report.findings if found.code is Code.WRAPPER_PREFIX and names]
    draft.add(Repair(_STATE, State(entries, random=bool(rng), names=names), tuple(does)), (*rng, *wrapped))
    draft.emptied = draft.emptied or bool(entries.keys() & _ADDED_EMPTY.keys())


def _why_not_rewritten(file: FileFacts) -> str | None:
    """What is kept of a file of torch must be loaded, and nothing in it is trusted. NumPy's own pieces are known."""
    unknown = sorted(name for name in file.globals if not name.startswith("numpy."))
    if unknown:
        return f"{file.path} holds {unknown[0]}, and is not rewritten: to load it would be to trust it"
    return None if isinstance(file.contents, dict) else f"{file.path} does not hold what it should"


def _lacking_entries(
    facts: Facts, state: Mapping[str, Any], neighbours: Sequence[Neighbour]
) -> Iterator[tuple[str, Any]]:
    if "global_step" not in state and facts.step_by_name is not None:
        yield "global_step", facts.step_by_name
    step = facts.progress.step if facts.progress.step is not None else facts.step_by_name
    if "epoch" not in state and step is not None:
        yield "epoch", _estimated_epoch(step, neighbours)[0]
    if "best_loss" not in state:
        yield "best_loss", inf
    if "epoch_losses" not in state:
        yield "epoch_losses", []
    for key, component in _ADDED_EMPTY.items():
        if key not in state and component not in facts.left_out:
            yield key, {}


def _write_random_states(facts: Facts, report: Report, draft: _Draft) -> None:
    """Trainer's, of one process: several would all draw the same."""
    rng = [found for found in report.findings if found.code in _OF_RNG]
    if facts.layout != hf_trainer.LAYOUT.name or not rng:
        return
    recorded = max(hf_trainer.recorded_processes(facts.files) or 1, facts.progress.world_size or 1)
    if recorded > 1:
        draft.refused.append(f"each of {recorded} processes has random states of its own: nothing tells them")
        return
    file = facts.files.get(_RNG)
    if file is not None and (why := _why_not_rewritten(file)):
        draft.refused.append(why)
        return
    draft.add(Repair(_RNG, RandomStates(), ("add the random states of now",)), rng)


def _unwrap_names(facts: Facts, report: Report, draft: _Draft) -> None:
    """The names of torch.compile and of data-parallel wrappers, out of files that hold nothing but weights."""
    wrapped = [found for found in report.findings if found.code is Code.WRAPPER_PREFIX]
    if not wrapped:
        return
    if _would_be_called_the_same(facts):
        draft.refused.append("without the names of wrappers, two tensors would be called the same")
        return
    for home in _weight_files(facts):
        names = _without_wrappers(facts, facts.files[home])
        if names and (why := _why_not_rewritten(facts.files[home])):
            draft.refused.append(why)
        elif names and home != _STATE:
            does = (f"take the names of wrappers from {len(names)} tensors",)
            draft.add(Repair(home, Renamed(names), does), wrapped)


def _without_wrappers(facts: Facts, file: FileFacts, prefix: str = "") -> dict[str, str]:
    """By the names of the file's tensors, those that are others without wrappers. They count over all files."""
    if _would_be_called_the_same(facts):
        return {}
    bare = naming.bare_names(facts.weights)
    names = (name.removeprefix(prefix) for name in file.tensors if name.startswith(prefix))
    return {name: bare[name] for name in names if name in bare and bare[name] != name}


def _would_be_called_the_same(facts: Facts) -> bool:
    bare = naming.bare_names(facts.weights)
    return len(set(bare.values())) < len(bare)


def _rebuild_index(facts: Facts, report: Report, draft: _Draft) -> None:
    """The list of which tensor lies in which shard, from the shards themselves."""
    for index in base.INDEXES:
        ending = index.removesuffix(".index.json").rpartition(".")[2]
        shards = [name for name in _weight_files(facts) if _SHARD.fullmatch(name) and name.endswith(ending)]
        amiss = [found for found in report.findings if _is_of_index(found, index, shards)]
        renamed = any(isinstance(repair.work, Renamed) for repair in draft.repairs.values())
        if not shards or not (amiss or (renamed and index in facts.inventory.names)):
            continue
        if why := _why_no_index(facts, report, shards):
            draft.refused.append(f"{index}: {why}")
            continue
        bare = naming.bare_names(facts.weights) if renamed else {}
        content = _index_of({shard: facts.files[shard] for shard in shards}, bare, facts.files.get(index))
        draft.add(Repair(index, Text(content), (f"make it anew from {len(shards)} shards",)), amiss)


def _is_of_index(finding: Finding, index: str, shards: Sequence[str]) -> bool:
    if finding.code is Code.SHARD_STRAY:
        return finding.file in shards
    return finding.file == index and (finding.severity is Severity.ERROR or finding.code is Code.INDEX_DISAGREES)


def _why_no_index(facts: Facts, report: Report, shards: Sequence[str]) -> str | None:
    matches = [match for shard in shards if (match := _SHARD.fullmatch(shard))]
    counts = {int(match[2]) for match in matches}
    if len(counts) != 1 or {int(match[1]) for match in matches} != set(range(1, max(counts) + 1)):
        return "not all of its shards are there"
    if any(facts.files[shard].problems for shard in shards):
        return "a shard is damaged"
    if any(found.code is Code.TENSORS_LOST for found in report.findings):
        return "it names tensors that no shard holds"
    names = [name for shard in shards for name in facts.files[shard].tensors]
    return "two shards hold the same tensor" if len(set(names)) < len(names) else None


def _index_of(shards: Mapping[str, FileFacts], bare: Mapping[str, str], before: FileFacts | None) -> dict[str, Any]:
    """As transformers writes it: `metadata` with `total_size` in bytes, `weight_map` by the tensor's name."""
    told = before.contents.get("metadata") if before and isinstance(before.contents, dict) else None
    size = sum(tensor.bytes for shard in shards.values() for tensor in shard.tensors.values())
    mapping = {bare.get(name, name): shard for shard, file in shards.items() for name in file.tensors}
    metadata = {**(told if isinstance(told, dict) else {}), "total_size": size}
    return {"metadata": metadata, "weight_map": dict(sorted(mapping.items()))}


def _weight_files(facts: Facts) -> list[str]:
    homes = facts.homes.get(Component.WEIGHTS, ())
    return [home for home in homes if home in facts.files and not home.endswith(".json")]


def _name(other: Neighbour) -> str:
    return other.path.rpartition("/")[2]
