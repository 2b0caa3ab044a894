"""What mends the names of tensors, and the index of shards. Pure."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from lastgood import naming
from lastgood.checks.telling import some
from lastgood.facts import Component
from lastgood.findings import Code, Finding, Severity
from lastgood.layouts import base, plain
from lastgood.mending.drafting import Draft, why_not_rewritten, without_wrappers, would_be_called_the_same
from lastgood.mending.words import Renamed, Repair, State, Text, shapes_of
from lastgood.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastgood.facts import Facts, FileFacts
    from lastgood.mending.words import Neighbour

    Shapes = Mapping[str, tuple[int, ...]]


def unwrap_names(draft: Draft) -> None:
    """The names of torch.compile and of data-parallel wrappers, out of files that hold nothing but weights."""
    facts = draft.facts
    wrapped = draft.found(Code.WRAPPER_PREFIX)
    if not wrapped:
        return
    if would_be_called_the_same(facts):
        draft.refused.append("without the wrappers' prefixes, two tensors would have the same name")
        return
    for home in _weight_files(facts):
        inside = f"{plain.INNER_WEIGHTS}." if home in plain.STATES else ""
        names = without_wrappers(facts, facts.files[home], inside)
        if names and (why := why_not_rewritten(facts.files[home])):
            draft.refused.append(why)
        elif names and home not in draft.repairs:
            does = (f"strip the wrappers' prefixes from the names of {counted(len(names), 'tensor')}",)
            draft.add(Repair(home, State({}, names=names) if inside else Renamed(names), does), wrapped)


def rebuild_index(draft: Draft, neighbours: Sequence[Neighbour]) -> None:
    """The list of which tensor lies in which shard, from the shards themselves."""
    facts, report = draft.facts, draft.report
    models = [other.weights for other in neighbours if other.weights]
    for index in base.INDEXES:
        ending = index.removesuffix(".index.json").rpartition(".")[2]
        shards = [name for name in _weight_files(facts) if base.SHARD.fullmatch(name) and name.endswith(ending)]
        amiss = [found for found in report.findings if _is_of_index(found, index, shards)]
        renamed = any(isinstance(repair.work, Renamed) for repair in draft.repairs.values())
        if not shards or not (amiss or (renamed and index in facts.inventory.names)):
            continue
        if why := _why_no_index(facts, index, shards, models):
            draft.refused.append(f"{index}: {why}")
            continue
        bare = naming.bare_names(facts.weights) if renamed else {}
        content = _index_of({shard: facts.files[shard] for shard in shards}, bare, facts.files.get(index))
        draft.add(Repair(index, Text(content), (f"make it anew from {len(shards)} shards",)), amiss)


def _is_of_index(finding: Finding, index: str, shards: Sequence[str]) -> bool:
    if finding.code is Code.SHARD_STRAY:
        return finding.file in shards
    return finding.file == index and (finding.severity is Severity.ERROR or finding.code is Code.INDEX_DISAGREES)


def _why_no_index(facts: Facts, index: str, shards: Sequence[str], models: Sequence[Shapes]) -> str | None:
    matches = [match for shard in shards if (match := base.SHARD.fullmatch(shard))]
    counts = {int(match[3]) for match in matches}
    if len(counts) != 1 or {int(match[2]) for match in matches} != set(range(1, max(counts) + 1)):
        return "not all of its shards are there"
    if whole := sorted(facts.inventory.names.intersection(base.SINGLE_WEIGHTS)):
        return f"beside the shards lies {whole[0]}, and nothing tells which of them are of this save"
    if any(facts.files[shard].problems for shard in shards):
        return "a shard is damaged"
    names = [name for shard in shards for name in facts.files[shard].tensors]
    if len(set(names)) < len(names):
        return "two shards hold the same tensor"
    if lost := sorted(_named_in(facts.files.get(index)) - set(naming.bare_names(names).values())):
        return f"it names tensors that no shard holds: {some(lost)}"
    return _why_not_whole(facts, models)


def _why_not_whole(facts: Facts, models: Sequence[Shapes]) -> str | None:
    """Without an index nothing here says which tensors there were: other checkpoints, and the optimizer, may."""
    own = shapes_of(facts)
    alike = [model for model in models if 2 * len(model.keys() & own.keys()) > len(model)]
    if alike and own not in alike:
        lost = alike[0].keys() - own.keys() or {name for name in own if own[name] != alike[0].get(name)}
        return f"the shards do not hold the model of the other checkpoints: {some(lost)}"
    if not alike and facts.optimizer is not None and facts.optimizer.parameters > len(own):
        return f"the optimizer trains {facts.optimizer.parameters} tensors, the shards hold {len(own)}"
    return None


def _named_in(index: FileFacts | None) -> set[str]:
    mapping = index.contents.get("weight_map") if index and isinstance(index.contents, dict) else None
    return set(naming.bare_names(map(str, mapping)).values()) if isinstance(mapping, dict) else set()


def _index_of(shards: Mapping[str, FileFacts], bare: Mapping[str, str], before: FileFacts | None) -> dict[str, Any]:
    """As transformers writes it: `metadata` with parameters and bytes, `weight_map` by the tensor's name."""
    told = before.contents.get("metadata") if before and isinstance(before.contents, dict) else None
    size = sum(tensor.bytes for shard in shards.values() for tensor in shard.tensors.values())
    mapping = {bare.get(name, name): shard for shard, file in shards.items() for name in file.tensors}
    count = sum(prod(tensor.shape) for shard in shards.values() for tensor in shard.tensors.values())
    metadata = {**(told if isinstance(told, dict) else {}), "total_parameters": count, "total_size": size}
    return {"metadata": metadata, "weight_map": dict(sorted(mapping.items()))}


def _weight_files(facts: Facts) -> list[str]:
    homes = facts.homes.get(Component.WEIGHTS, ())
    return [home for home in homes if home in facts.files and not home.endswith(".json")]
