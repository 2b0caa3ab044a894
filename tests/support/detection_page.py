"""docs/detection.md, made by running it: `python tests/support/detection_page.py > docs/detection.md`.

Every fault of the matrix is brought about once, in the first layout it is written for, and each tool is asked.
"""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import scenes
from faults import FAULTS, Fault, Seen, seen_in
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lastgood.facts import Manifest
    from scenes import Scene

_HEAD: Final = """\
# What notices which fault

Every fault of `tests/faults` was brought about in a small checkpoint that AdamW really trained, and each tool was
asked. **yes**: it raises an error, or names the fault. A dash: it does not. Made by
`python tests/support/detection_page.py`.

- **torch.load**: every torch file, with `weights_only=True` and the classes of healthy random states allowed.
- **safetensors**: `safe_open`, and every tensor read.
- **Trainer takes it**: `transformers.trainer_utils.get_last_checkpoint` names this folder as the one to resume from.
- **testzip**: `zipfile.ZipFile.testzip` on every torch file.
- **lastgood**: `verify` of the folder alone. **beside**: it knows the run's earlier checkpoint, as the worker does.
  **manifest**: it knows the bytes as they were when it was first verified. Here stand the verdict, and every code above
  information ([what they mean](findings.md)).

A yes is an alarm, also where nothing is lost: `testzip` refuses torch's older format and files without checksums, and
`weights_only=True` every class that it does not know. What only the manifest column shows, nobody can see
in the checkpoint itself: the bytes are valid, and others.

| fault | layout | torch.load | safetensors | Trainer takes it | testzip | lastgood | beside | manifest |
|---|---|---|---|---|---|---|---|---|
"""
_TORCH_FILES: Final = (".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Healthy:
    """A run that is whole, and the manifests of its two checkpoints."""

    run: Path
    earlier: Manifest | None
    own: Manifest | None


def detection_page() -> str:
    """The whole page, from a run of every tool."""
    return _HEAD + "".join(_row(fault, outside, own) for fault, outside, own in _cells())


def rows_of(page: str) -> dict[str, list[str]]:
    """The cells of each fault's row after its name."""
    rows = (line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| "))
    return {row[0]: row[1:] for row in rows if row[0] != "fault"}


def _cells() -> Iterator[tuple[Fault, list[str], list[str]]]:
    with tempfile.TemporaryDirectory() as place:
        for fault, scene, healthy in _staged(Path(place)):
            yield fault, _asked_of_others(scene.checkpoint), _asked_of_lastgood(scene, healthy)


def _row(fault: Fault, outside: list[str], own: list[str]) -> str:
    return f"| {' | '.join((fault.name, fault.layouts[0].name, *outside, *own))} |\n"


def _staged(place: Path) -> Iterator[tuple[Fault, Scene, Healthy]]:
    made: dict[str, Healthy] = {}
    for number, fault in enumerate(FAULTS):
        layout = fault.layouts[0]
        if layout.name not in made:
            made[layout.name] = _healthy(place / "healthy" / layout.name, layout)
        scene = scenes.stage(made[layout.name].run, place / str(number), layout, seed=0)
        fault.spoil(scene)
        yield fault, scene, made[layout.name]


def _healthy(place: Path, layout: scenes.Layout) -> Healthy:
    run = scenes.make(place, layout)
    return Healthy(run, *(verify(str(run / f"checkpoint-{step}")).manifest for step in scenes.STEPS))


def _asked_of_lastgood(scene: Scene, healthy: Healthy) -> list[str]:
    path = str(scene.checkpoint)
    reports = verify(path), verify(path, previous=healthy.earlier), verify(path, manifest=healthy.own)
    return [said(seen_in(report)) for report in reports]


def said(seen: Seen) -> str:
    """As the page has it."""
    codes = ", ".join(f"`{code}`" for code in sorted(seen.codes))
    return f"{seen.verdict}: {codes}" if codes else str(seen.verdict)


def _asked_of_others(checkpoint: Path) -> list[str]:
    torch_files = [file for file in _files(checkpoint) if file.suffix in _TORCH_FILES]
    safetensors_files = [file for file in _files(checkpoint) if file.suffix == ".safetensors"]
    return [
        _noticed(_load_with_torch, torch_files),
        _noticed(_read_with_safetensors, safetensors_files),
        "yes" if _trainer_takes(checkpoint) else "no",
        _noticed(_test_zip, torch_files),
    ]


def _files(checkpoint: Path) -> list[Path]:
    """What can be opened: a pipe would hold the reader, and what is not there is not asked for."""
    return sorted(file for file in checkpoint.iterdir() if file.is_file())


def _noticed(read: Callable[[Path], None], files: Iterable[Path]) -> str:
    for file in files:
        try:
            read(file)
        except Exception:  # noqa: BLE001 - any refusal is a refusal
            return "yes"
    return "–"  # noqa: RUF001 - a dash for nothing


def _load_with_torch(file: Path) -> None:
    import numpy as np
    import torch

    # What healthy random states and training arguments name; weights_only=True knows nothing of NumPy.
    reconstruct = np.empty(0).__reduce__()[0]
    known: list[Any] = [reconstruct, np.ndarray, np.dtype, type(np.dtype(np.uint32)), SimpleNamespace]
    with torch.serialization.safe_globals(known):
        torch.load(file, weights_only=True)


def _read_with_safetensors(file: Path) -> None:
    from safetensors import safe_open

    with safe_open(file, "pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - it is no dict
            tensors.get_tensor(name)


def _test_zip(file: Path) -> None:
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as records:
            if records.testzip() is not None:
                raise zipfile.BadZipFile(file.name)
    else:
        raise zipfile.BadZipFile(file.name)


def _trainer_takes(checkpoint: Path) -> bool:
    from transformers.trainer_utils import get_last_checkpoint

    return bool(get_last_checkpoint(str(checkpoint.parent)) == str(checkpoint))


if __name__ == "__main__":
    print(detection_page(), end="")
