"""What every layout answers, and what several of them share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from lastgood.facts import Component, OptimizerFacts, Presence, TensorFact
from lastgood.findings import Code, Finding
from lastgood.formats.inert_pickle import Opaque
from lastgood.layouts import forms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lastgood.facts import FileFacts, Progress

Homes = dict[Component, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a layout makes of the files: where each component lies, and what they hold."""

    homes: Mapping[Component, tuple[str, ...]]
    components: Mapping[Component, Presence]
    progress: Progress
    findings: tuple[Finding, ...] = ()
    weights: Mapping[str, TensorFact] = field(default_factory=dict)
    optimizer: OptimizerFacts | None = None
    rng: Mapping[str, frozenset[str]] = field(default_factory=dict)
    baseline: frozenset[str] = frozenset()
    left_out: frozenset[Component] = frozenset()
    made_up: tuple[str, ...] = ()
    trained: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Layout(Protocol):
    """One framework's way of laying out a checkpoint. Names are paths relative to it."""

    @property
    def name(self) -> str: ...

    def recognises(self, names: frozenset[str]) -> bool:
        """Whether files of these names are of this layout, even where some are still to come."""
        ...

    def last_file(self, names: frozenset[str]) -> str | None:
        """The file that is written last for the whole save; None where there is no such file."""
        ...

    def missing(self, names: frozenset[str], files: Mapping[str, FileFacts]) -> Iterator[Finding]:
        """What a finished save of this layout must have and this one lacks."""
        ...

    def still_expected(self, names: frozenset[str]) -> Iterator[str]:
        """What usually follows the files that are there: a save without it is not believed to be whole by structure."""
        ...

    def read(self, names: frozenset[str], files: Mapping[str, FileFacts]) -> Reading:
        """Components and progress, from the files' facts."""
        ...


MOST_RANKS: Final = 100_000
STATES: Final = ("training_state.pt", "training_state.pth")  # all of a trainer's state in one file
SHARD: Final = re.compile(r"((?!\._).*)-(\d{5})-of-(\d{5})\.(safetensors|bin)")
SINGLE_WEIGHTS: Final = (
    "model.safetensors",
    "pytorch_model.bin",
    "adapter_model.safetensors",
    "adapter_model.bin",
)
_ADAPTERS: Final = ("adapter_model.safetensors", "adapter_model.bin")
INDEXES: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_OBJECTS: Final = ("config.json", "generation_config.json", "adapter_config.json", "tokenizer_config.json", *INDEXES)
TOKENIZER_FILES: Final = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "vocab.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model",
    "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json",
)  # fmt: skip


# A name alone makes these a part of the checkpoint, wherever in it they lie: each trainer gives them to its own.
_OWN_NAMES: Final = re.compile(
    "|".join(map(re.escape, (*SINGLE_WEIGHTS, *STATES, *_OBJECTS, *TOKENIZER_FILES, "chat_template.json")))
    + "|" + SHARD.pattern
    + r"|pytorch_model[^/]*\.bin"
    r"|(?:optimizer|scheduler|scaler|training_args|rng_state|trainer_state|checkpoint_manifest)(?:_\d+)?"
    r"\.(?:pt|pth|bin|json)|.*_states?(?:_[^/]*)?\.(?:pt|pth|bin)"
)  # fmt: skip


def own_files(
    names: frozenset[str], homes: Mapping[Component, tuple[str, ...]], files: Mapping[str, FileFacts]
) -> frozenset[str]:
    """Those that belong to the checkpoint: by its layout, by its index, or by a name that no other program uses."""
    by_name = (name for name in names if _OWN_NAMES.fullmatch(name.rpartition("/")[2]))
    by_index = (shard for index in INDEXES for shard in _shards_in(files.get(index)))
    return frozenset({*by_name, *by_index, *(home for found in homes.values() for home in found)})


def present(names: frozenset[str], *wanted: str) -> tuple[str, ...]:
    """Those of the wanted names that are there, in the order wanted."""
    return tuple(name for name in wanted if name in names)


def weight_files(names: frozenset[str]) -> tuple[str, ...]:
    """Every file of these names that holds weights of a Hugging Face model, index included."""
    shards = (name for name in names if SHARD.fullmatch(name))
    return tuple(sorted({*names & {*SINGLE_WEIGHTS, *INDEXES}, *shards, *_in_own_folder(names, _ADAPTERS)}))


def tensors_of(file: FileFacts | None, prefix: str = "") -> dict[str, TensorFact]:
    """The file's tensors below this path of keys, by what follows it."""
    tensors = file.tensors.items() if file else ()
    return {name.removeprefix(prefix): tensor for name, tensor in tensors if name.startswith(prefix)}


def without_weights(homes: Homes, files: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """Files that bear the name of weights, and hold none."""
    for home in homes[Component.WEIGHTS]:
        file = files.get(home)
        if file is not None and file.format in ("safetensors", "torch") and not file.problems and not file.tensors:
            yield Finding(Code.WEIGHTS_MISSING, home, "it holds no weights")


def weights_of(homes: tuple[str, ...], files: Mapping[str, FileFacts]) -> dict[str, TensorFact]:
    """The model's tensors from all its files; those of an adapter in a folder of its own bear the folder's name."""
    found: dict[str, TensorFact] = {}
    for home in homes:
        folder = home.rpartition("/")[0]
        for name, tensor in tensors_of(files.get(home)).items():
            found.setdefault(f"{folder}/{name}" if folder else name, tensor)
    return found


def missing_weights(names: frozenset[str], files: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """Weights that are not there at all, and shards that the index promises; without one, those that a name does."""
    found = weight_files(names)
    if not found:
        yield Finding(Code.WEIGHTS_MISSING, None, f"no weights: none of {', '.join(SINGLE_WEIGHTS)}, no index")
    promised_by_index = {shard for index in INDEXES if index in names for shard in _shards_in(files.get(index))}
    promised = set(promised_by_index)
    if found and not promised and not set(found) - set(INDEXES) and not _damaged(found, files):
        yield Finding(Code.WEIGHTS_MISSING, None, f"{found[0]} names no shard, and there are no other weights")
    for name in found:
        if not promised_by_index and (match := SHARD.fullmatch(name)):
            stem, count, ending = match[1], int(match[3]), match[4]
            promised |= {f"{stem}-{n:05}-of-{count:05}.{ending}" for n in range(1, min(count, 10_000) + 1)}
            if f"{stem}.{ending}.index.json" not in names:
                promised.add(f"{stem}.{ending}.index.json")
    for shard in sorted(promised - names):
        yield Finding(Code.SHARD_MISSING, shard, "another file of this checkpoint promises it")


def missing_config(names: frozenset[str]) -> Iterator[Finding]:
    """That of the model, or of each adapter: peft keeps it beside the adapter's weights."""
    adapters = (name.rpartition("/") for name in sorted(names) if name.rpartition("/")[2] in _ADAPTERS)
    needed = {f"{folder}{slash}adapter_config.json" for folder, slash, _name in adapters if folder.count("/") == 0}
    for name in sorted(needed - names):
        yield Finding(Code.CONFIG_MISSING, name, "the adapter's configuration is not there")
    if not needed and not config_files(names):
        yield Finding(Code.CONFIG_MISSING, "config.json", "the model's configuration is not there")


def config_files(names: frozenset[str]) -> tuple[str, ...]:
    """The model's configuration. An adapter has its own, and none of the model that it is for."""
    return present(names, "config.json", "adapter_config.json") or _in_own_folder(names, ("adapter_config.json",))


def config_presence(homes: tuple[str, ...]) -> Presence:
    if not homes:
        return Presence.MISSING
    return Presence.PRESENT if "config.json" in homes else Presence.NOT_APPLICABLE


def misshapen(files: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """JSON files that hold something else than the object that every loader of theirs expects."""
    for name in _OBJECTS:
        file = files.get(name)
        if file is None or file.problems or file.format != "json":
            continue
        if not isinstance(file.contents, dict):
            yield Finding(Code.JSON_SHAPE, name, "it holds no object")
        elif name in INDEXES and not isinstance(file.contents.get("weight_map"), dict):
            yield Finding(Code.JSON_SHAPE, name, "it holds no weight_map")


def missing_ranks(there: frozenset[int], count: int, pattern: str) -> Iterator[Finding]:
    """The files of ranks below `count` that are not there; `pattern` makes a file's name of a rank."""
    for rank in sorted(frozenset(range(min(count, MOST_RANKS))) - there):
        yield Finding(Code.RANKS_MISSING, pattern.format(rank), f"the file of rank {rank} is not there")


def presence_of(files: tuple[str, ...], absent: Presence) -> Presence:
    return Presence.PRESENT if files else absent


def state_presence(value: Any) -> Presence:
    """Whether a saved state dict holds anything. None and {} are what a failed or mended save leaves."""
    if value is None:
        return Presence.MISSING
    if isinstance(value, Opaque):
        return Presence.PRESENT if value.holds_something else Presence.EMPTY
    try:
        return Presence.PRESENT if len(value) else Presence.EMPTY
    except TypeError:
        return Presence.PRESENT


def optimizer_presence(value: Any, *, steps: int | None = None) -> Presence:
    """As `state_presence`; empty also where its own groups imply a state that is not there, unless no step was made."""
    presence = state_presence(value)
    if presence is Presence.PRESENT and isinstance(value, dict) and steps != 0 and _promises_state(value):
        return Presence.EMPTY
    return presence


def _promises_state(optimizer: dict[Any, Any]) -> bool:
    """Adam always has some state, SGD only with momentum. What is not torch's own state dict promises nothing."""
    if not forms.holds_nothing(optimizer.get("state", optimizer)):
        return False
    groups = optimizer.get("param_groups")
    options = [group for group in groups if isinstance(group, dict)] if isinstance(groups, list) else []
    return not options or any("betas" in group or _has_momentum(group) for group in options)


def _has_momentum(group: Mapping[Any, Any]) -> bool:
    """As SGD's and Muon's. Some of others, as ScionLight, keep theirs in the gradients, and nothing of it is saved."""
    return "nesterov" in group and bool(group.get("momentum"))


def told(homes: tuple[str, ...], files: Mapping[str, FileFacts]) -> Iterator[tuple[str, Any]]:
    """Those of the files that told anything, each with what it holds."""
    for home in homes:
        if home in files and files[home].contents is not None:
            yield home, files[home].contents


def holding_nothing(homes: Homes, files: Mapping[str, FileFacts], steps: int | None) -> dict[Component, Presence]:
    """Components with files of their own whose file is there, sound, and empty of state, after so many steps."""
    judges: dict[Component, Callable[[Any], Presence]] = {
        Component.OPTIMIZER: partial(optimizer_presence, steps=steps),
        Component.SCHEDULER: state_presence,
        Component.RNG: state_presence,
    }
    return {
        component: Presence.EMPTY
        for component, judge in judges.items()
        if any(judge(contents) is Presence.EMPTY for _home, contents in told(homes[component], files))
        or any(_holds_none(files[home]) for home in homes[component] if home in files)
    }


def _holds_none(file: FileFacts) -> bool:
    """What `torch.save(None)` leaves. Of a file with a problem nothing is told either."""
    return file.format == "torch" and file.contents is None and not file.problems


def misshapen_states(homes: Homes, files: Mapping[str, FileFacts]) -> Iterator[Finding]:
    """As `forms.misshapen_state`, of the components that have files of their own."""
    for component in (Component.OPTIMIZER, Component.SCHEDULER, Component.SCALER):
        for home, contents in told(homes.get(component, ()), files):
            yield from forms.misshapen_state(component, home, contents)


def _in_own_folder(names: frozenset[str], wanted: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        sorted(name for name in names if name.count("/") == 1 and name.endswith(tuple(f"/{w}" for w in wanted)))
    )


def _damaged(names: tuple[str, ...], files: Mapping[str, FileFacts]) -> bool:
    return any(files[name].problems for name in names if name in files)


def _shards_in(index: FileFacts | None) -> set[str]:
    mapping = index.contents.get("weight_map") if index and isinstance(index.contents, dict) else None
    return {str(shard) for shard in mapping.values()} if isinstance(mapping, dict) else set()
