"""`python -m lastgood.deep_load`: the real loaders, in a process that may die of it. It alone imports torch.

JSON lines in on stdin: {"path", "format": "torch" | "safetensors", "mapped": bool}. One line out for each: {} where it
loads, {"refused": why}, {"only_with_trust": why} where nothing but `weights_only=True` stands in the way, or
{"unreadable": why} where disk or memory failed.
"""

from __future__ import annotations

import json
import pickle
import re
import sys
import warnings
from typing import Any, Final

_GLOBAL: Final = re.compile(r"GLOBAL (\S+)")
# What `weights_only=True` says of a file that is merely richer than it allows.
_OF_POLICY: Final = re.compile(
    r"Unsupported (global|operand|class)|TorchScript archives|blocklisted|unsafe class|Can only (build|create)",
    re.IGNORECASE,
)
_LONGEST: Final = 300


def main() -> None:
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        job = json.loads(line)
        sys.stdout.write(json.dumps(_loaded(job)) + "\n")
        sys.stdout.flush()


def refusal(error: Exception) -> dict[str, str]:
    """What a loader's refusal means for the file."""
    said = str(error)
    if isinstance(error, OSError | MemoryError):
        return {"unreadable": f"{type(error).__name__}: {said}"}
    if found := _GLOBAL.search(said):
        return {"only_with_trust": f"it names {found[1].rstrip('.')}"}
    if isinstance(error, pickle.UnpicklingError | RuntimeError) and (found := _OF_POLICY.search(said)):
        return {"only_with_trust": _line_around(said, found.start())}
    return {"refused": f"{type(error).__name__}: {' '.join(said.split())[:_LONGEST]}"}


def _loaded(job: dict[str, Any]) -> dict[str, str]:
    try:
        if job["format"] == "safetensors":
            _load_safetensors(job["path"])
        else:
            _load_torch(job["path"], mapped=job["mapped"])
    except Exception as error:  # noqa: BLE001 - whatever a loader raises is its answer
        return refusal(error)
    return {}


def _load_torch(path: str, *, mapped: bool) -> None:
    import torch  # noqa: PLC0415 - a checkpoint of safetensors alone does not need it

    try:
        torch.load(path, map_location="meta", weights_only=True, mmap=mapped)
    except NotImplementedError:  # tensors that are quantised have to be somewhere
        torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _load_safetensors(path: str) -> None:
    from safetensors import safe_open  # noqa: PLC0415

    with safe_open(path, framework="np") as file:
        for name in file.keys():  # noqa: SIM118 - it is no dictionary
            file.get_slice(name).get_shape()


def _line_around(text: str, position: int) -> str:
    start = text.rfind("\n", 0, position) + 1
    return text[start:].partition("\n")[0].strip()[:_LONGEST]


if __name__ == "__main__":
    main()
