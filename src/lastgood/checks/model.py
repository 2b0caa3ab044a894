"""Whether the weights are those of this model: their names, the index, the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lastgood import naming
from lastgood.checks.telling import some
from lastgood.facts import Component
from lastgood.findings import Code, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lastgood.facts import Facts, FileFacts

_EMBEDDINGS: Final = (
    "embed_tokens.weight", "wte.weight", "word_embeddings.weight", "shared.weight", "tok_embeddings.weight",
    "embed_in.weight",
)  # fmt: skip
_NOT_ALL_THERE: Final = (Code.WEIGHTS_MISSING, Code.SHARD_MISSING)
_WIDTHS: Final = ("hidden_size", "n_embd", "d_model")


def check_no_tensor_was_lost(facts: Facts) -> Iterator[Finding]:
    """The model has the tensors that it had, and at least as many as the optimizer trains."""
    if not facts.weights or not weights_are_readable(facts):
        return
    trained = facts.optimizer.parameters if facts.optimizer else 0
    too_few = trained > len(facts.weights)
    if facts.previous is None or not facts.previous.weights:
        # Of a prompt encoder, an adapter keeps the prompts alone.
        if too_few and not any(home.startswith("adapter_model") for home in facts.homes.get(Component.WEIGHTS, ())):
            message = f"the optimizer trains {trained} tensors, the weights are {len(facts.weights)}"
            yield Finding(Code.TENSORS_CHANGED, None, message)
        return
    now = _bare({name: f"{tensor.dtype} {list(tensor.shape)}" for name, tensor in facts.weights.items()})
    before = _bare(facts.previous.weights)
    if lost := sorted(before.keys() - now.keys()):
        # The same configuration, or an optimizer that trains more than there is: nobody left them out on purpose.
        code = Code.TENSORS_LOST if too_few or _same_config(facts) else Code.TENSORS_CHANGED
        yield Finding(code, None, f"no longer there since {facts.previous.name}: {some(lost)}")
    if added := sorted(now.keys() - before.keys()):
        yield Finding(Code.TENSORS_CHANGED, None, f"new since {facts.previous.name}: {some(added)}")
    if other := sorted(name for name in now.keys() & before.keys() if now[name] != before[name]):
        shown = f"{other[0]} was {before[other[0]]}, is {now[other[0]]}"
        yield Finding(Code.TENSORS_CHANGED, None, f"{shown}" + (f", and {len(other) - 1} more" if other[1:] else ""))


def check_names_bear_no_wrapper(facts: Facts) -> Iterator[Finding]:
    """No tensor is named after torch.compile or a data-parallel wrapper: loaders of the bare model skip such ones."""
    names = facts.weights
    compiled = [name for name in names if naming.COMPILED in name]
    if compiled:
        yield Finding(Code.WRAPPER_PREFIX, None, f"{len(compiled)} of {len(names)} names bear `{naming.COMPILED}`")
    if names and all(name.startswith(naming.PARALLEL) for name in names):
        yield Finding(Code.WRAPPER_PREFIX, None, f"every name begins with `{naming.PARALLEL}`")


def check_index_agrees_with_shards(facts: Facts) -> Iterator[Finding]:
    """The index of a sharded model names each tensor where it lies, and no shard is left over."""
    for path in facts.homes.get(Component.WEIGHTS, ()):
        if not path.endswith(".index.json"):
            continue
        mapping = _weight_map(facts.files.get(path))
        shards = {home: facts.files[home] for home in facts.homes[Component.WEIGHTS] if home in facts.files}
        shards.pop(path, None)
        if not mapping or any(shard.problems for shard in shards.values()):
            continue
        for stray in sorted(shards.keys() - set(mapping.values())):
            yield Finding(Code.SHARD_STRAY, stray, "the index does not name it")
            del shards[stray]
        yield from _index_findings(path, mapping, shards)


def check_config_agrees_with_weights(facts: Facts) -> Iterator[Finding]:
    """The vocabulary and the width of config.json are to be found in the weights."""
    config = _contents(facts.files.get("config.json"))
    sizes = {size for tensor in facts.weights.values() for size in tensor.shape}
    embedding = next((n for n in facts.weights if n.endswith(_EMBEDDINGS)), None)
    if not sizes or embedding is None or any(tensor.dtype in ("U8", "I8") for tensor in facts.weights.values()):
        return  # an adapter, or packed weights
    rows = facts.weights[embedding].shape[0] if facts.weights[embedding].shape else 0
    vocabulary = config.get("vocab_size")
    # More rows than words are usual: many pad them to a multiple of 64.
    if type(vocabulary) is int and vocabulary not in sizes and rows < vocabulary:
        message = f"vocab_size is {vocabulary}, {embedding} has {rows} rows"
        yield Finding(Code.CONFIG_DISAGREES, "config.json", message)
    for key in _WIDTHS:
        if type(config.get(key)) is int and config[key] not in sizes:
            yield Finding(Code.CONFIG_DISAGREES, "config.json", f"{key} is {config[key]}: no weight has that size")


def weights_are_readable(facts: Facts) -> bool:
    """Whether all files with weights are there and sound: of those that are not, little can be concluded."""
    homes = facts.homes.get(Component.WEIGHTS, ())
    sound = all(home in facts.files and not facts.files[home].problems for home in homes)
    return sound and not any(finding.code in _NOT_ALL_THERE for finding in facts.lacking)


def _bare(weights: Mapping[str, str]) -> Mapping[str, str]:
    """By their names without wrappers: those are another check's."""
    bare = naming.bare_names(weights)
    return {bare[name]: kind for name, kind in weights.items()}


def _index_findings(path: str, mapping: Mapping[str, str], shards: Mapping[str, FileFacts]) -> Iterator[Finding]:
    where = {name: shard for shard, file in shards.items() for name in file.tensors}
    if unnamed := sorted(where.keys() - mapping.keys()):
        yield Finding(Code.INDEX_DISAGREES, path, f"it does not name {some(unnamed)}")
    if nowhere := sorted(name for name, shard in mapping.items() if name not in where and shard in shards):
        yield Finding(Code.TENSORS_LOST, path, f"in no shard: {some(nowhere)}")
    if moved := sorted(name for name, shard in mapping.items() if where.get(name, shard) != shard):
        yield Finding(Code.INDEX_DISAGREES, path, f"in another shard than it says: {some(moved)}")


def _same_config(facts: Facts) -> bool:
    before = {file.path: file.digest for file in facts.previous.files} if facts.previous else {}
    now = facts.files.get("config.json")
    return now is not None and now.digest is not None and before.get("config.json") == now.digest


def _weight_map(index: FileFacts | None) -> dict[str, str]:
    mapping = _contents(index).get("weight_map")
    return {str(name): str(shard) for name, shard in mapping.items()} if isinstance(mapping, dict) else {}


def _contents(file: FileFacts | None) -> dict[str, Any]:
    return file.contents if file is not None and isinstance(file.contents, dict) else {}
