"""Whether two runs are one and the same, to the last bit: their losses, and what their checkpoints hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Losses = list[tuple[int, float]]


def losses_of(output: Path) -> Losses:
    """Step and loss, as often as they were computed."""
    path = output / "losses.jsonl"
    # A kill may leave half a line at the end.
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    entries = [json.loads(line) for line in lines if line.endswith("\n")]
    return [(entry["step"], entry["loss"]) for entry in entries]


def losses_that_differ(some: Iterable[tuple[int, float]], right: Mapping[int, float]) -> list[int]:
    """The steps whose loss is not that of the other run, or that it has not."""
    return [step for step, loss in some if step not in right or not identical(loss, right[step])]


def compared(one: Path, other: Path) -> dict[str, bool]:
    """Part by part, whether two checkpoints hold the same."""
    import torch

    weights = [(folder / "model.safetensors").read_bytes() for folder in (one, other)]
    states = [torch.load(folder / "training_state.pt", weights_only=True) for folder in (one, other)]
    same = {key: identical(states[0].get(key), states[1].get(key)) for key in states[0] | states[1]}
    return {"weights": weights[0] == weights[1], **same}


def identical(one: Any, other: Any) -> bool:
    """To the last bit: 0.0 and -0.0 are two, what is not a number is itself."""
    if hasattr(one, "untyped_storage"):  # a tensor; torch takes seconds to load
        return type(one) is type(other) and _content(one) == _content(other)
    if isinstance(one, dict):
        return type(one) is type(other) and one.keys() == other.keys() and all(identical(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(identical, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


def _content(tensor: Any) -> tuple[Any, ...]:
    return tensor.dtype, tensor.shape, tensor.contiguous().numpy().tobytes()
