"""The manifest of a verified checkpoint: sizes, digests, and what the next one of its run is held against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastgood.facts import FileDigest, Manifest

if TYPE_CHECKING:
    from lastgood.facts import Facts


def manifest_of(facts: Facts) -> Manifest:
    """What is worth keeping of a checkpoint that was read to its last byte."""
    optimizer = facts.optimizer
    return Manifest(
        name=facts.name,
        fingerprint=facts.inventory.fingerprint,
        files=tuple(FileDigest(file.path, file.size, file.digest) for file in facts.files.values()),
        step=facts.progress.step,
        step_by_name=facts.step_by_name,
        schedule_step=facts.progress.schedule_step,
        optimizer_steps=optimizer.steps if optimizer else (),
        rates=optimizer.rates if optimizer else (),
        weights={name: f"{tensor.dtype} {list(tensor.shape)}" for name, tensor in facts.weights.items()},
        zero={file.path: file.numbers.zero for file in facts.files.values() if file.numbers.zero},
    )
