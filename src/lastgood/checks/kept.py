"""The bytes against those known from before: as the job saved them, as they were judged, those of the predecessor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastgood import naming
from lastgood.facts import Component
from lastgood.findings import Code, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lastgood.facts import Facts, FileDigest, FileFacts, Manifest


def check_bytes_are_those_of_the_manifest(facts: Facts) -> Iterator[Finding]:
    """Every file of the manifest is there, as long and with the bytes that it had."""
    if facts.manifest is None:
        return
    yield from _changes(facts, facts.manifest.files, "verified")
    listed = {file.path for file in facts.manifest.files}
    for path in sorted(facts.files.keys() - listed):
        yield Finding(Code.MANIFEST_FILE_NEW, path, "the manifest does not list it")


def check_bytes_are_those_that_were_saved(facts: Facts) -> Iterator[Finding]:
    """Every file that the job says it saved is there, as long and with the bytes that it wrote."""
    if facts.saved is None:
        return
    if facts.saved.problem is not None:
        yield Finding(Code.FILE_LIST_BROKEN, naming.FILE_LIST, facts.saved.problem)
    told = {finding.file for finding in check_bytes_are_those_of_the_manifest(facts)}
    yield from _changes(facts, (file for file in facts.saved.files if file.path not in told), "saved")


def _changes(facts: Facts, known: Iterable[FileDigest], when: str) -> Iterator[Finding]:
    """What is no longer as it was when it was saved, or verified."""
    for kept in known:
        file = facts.files.get(kept.path)
        if file is None:
            yield Finding(Code.MANIFEST_FILE_MISSING, kept.path, f"it was there when it was {when}")
        elif why := _difference(kept, file, when):
            yield Finding(Code.MANIFEST_MISMATCH, kept.path, why)


def check_no_file_is_of_the_previous_checkpoint(facts: Facts) -> Iterator[Finding]:
    """What changes with every step is not what the previous checkpoint holds, byte for byte."""
    before = facts.previous
    if before is None or not _went_on(facts, before):
        return
    kept = {file.path: file.digest for file in before.files}
    counting = set(facts.homes.get(Component.TRAINING_STATE, ()))
    if facts.optimizer and facts.optimizer.steps:
        counting |= set(facts.homes.get(Component.OPTIMIZER, ()))
    for path in sorted(counting):
        if _is_as_kept(facts.files.get(path), kept.get(path)):
            yield Finding(Code.FILE_OF_ANOTHER, path, f"the very bytes of {before.name}")
    yield from _unchanged_weights(facts, before)


def _unchanged_weights(facts: Facts, before: Manifest) -> Iterator[Finding]:
    """Weights that training did not move although the learning rate says that it should have."""
    optimizer = facts.optimizer
    if optimizer is None or not any(optimizer.rates) or not any(before.rates):
        return
    kept = {file.path: file.digest for file in before.files}
    homes = [home for home in facts.homes.get(Component.WEIGHTS, ()) if not home.endswith(".json")]
    same = [home for home in homes if _is_as_kept(facts.files.get(home), kept.get(home))]
    # A part may be frozen on purpose: one shard counts only where the optimizer trains every tensor.
    if same and (len(same) == len(homes) or optimizer.parameters == len(facts.weights)):
        yield Finding(Code.WEIGHTS_UNCHANGED, same[0], f"the very bytes of {before.name}, although training went on")


def _went_on(facts: Facts, before: Manifest) -> bool:
    return (
        facts.step_by_name is not None
        and before.step_by_name is not None
        and (facts.step_by_name > before.step_by_name)
    )


def _difference(kept: FileDigest, file: FileFacts, when: str) -> str | None:
    if kept.bytes != file.size:
        return f"{file.size} bytes, {kept.bytes} when it was {when}"
    if kept.digest is None or file.digest is None or _algorithm(kept.digest) != _algorithm(file.digest):
        return None
    return None if kept.digest == file.digest else f"its bytes are not those that were {when}"


def _is_as_kept(file: FileFacts | None, digest: str | None) -> bool:
    return file is not None and file.digest is not None and file.digest == digest


def _algorithm(digest: str) -> str:
    return digest.partition(":")[0]
