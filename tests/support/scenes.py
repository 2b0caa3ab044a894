"""Where a fault is staged: one copy of a healthy checkpoint, in one layout, and chance with a seed."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import safetensors.torch
import torch

import trained
from builders import Files, saved, write_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trained import Moment, Weights


@dataclass(frozen=True)
class Layout:
    """A layout as the faults see it: its files, and where each part lies, as file or `file:key`."""

    name: str
    files: Callable[[Moment], Files]
    optimizer: str = "optimizer.pt"
    scheduler: str | None = "scheduler.pt"
    rng: str | None = "rng_state.pth"
    state: str = "trainer_state.json"


HF: Final = Layout("hf", trained.hf_files)
HF_BIN: Final = Layout("hf with .bin", partial(trained.hf_files, weights=trained.in_bin))
HF_SHARDS: Final = Layout("hf in shards", partial(trained.hf_files, weights=trained.in_shards))
HF_RANKS: Final = Layout("hf of three ranks", partial(trained.hf_files, ranks=3), rng="rng_state_1.pth")
HF_SCALER: Final = Layout("hf with a loss scaler", trained.hf_with_scaler_files)
PLAIN: Final = Layout(
    "plain",
    trained.plain_files,
    "training_state.pt:optimizer_state_dict",
    "training_state.pt:scheduler_state_dict",
    "training_state.pt:rng_states",
    "training_state.pt",
)
PTH: Final = Layout(
    "plain .pth", trained.pth_files, "training_state.pth:optimizer_state_dict", None, None, "training_state.pth"
)
FORGATHER_OLD: Final = Layout(
    "Forgather, one file",
    trained.forgather_old_files,
    "training_state.pt:optimizer",
    "training_state.pt:lr_scheduler",
    None,
    "training_state.pt",
)
FORGATHER: Final = Layout(
    "Forgather",
    trained.forgather_new_files,
    "optimizer_state.pt",
    "scheduler_state.pt",
    "rng_state.pt",
    "trainer_state.pt",
)
STEPS: Final = (trained.EARLIER, trained.STEP)
LAYOUTS: Final = (HF, HF_BIN, HF_SHARDS, HF_RANKS, HF_SCALER, PLAIN, PTH, FORGATHER_OLD, FORGATHER)


@dataclass
class Scene:
    """A healthy checkpoint to be spoilt, the run's earlier one beside it, and what to decide places with."""

    checkpoint: Path
    earlier: Path
    layout: Layout
    chance: random.Random

    def pick(self, *patterns: str) -> Path:
        """One of the files that fit."""
        found = sorted({path for pattern in patterns for path in self.checkpoint.glob(pattern)})
        return self.chance.choice(found)

    def file_of(self, part: str) -> Path:
        return self.checkpoint / part.partition(":")[0]

    def weights(self) -> Path:
        return self.pick("*.safetensors", "pytorch_model.bin")

    def change(self, part: str, change: Callable[[Any], Any]) -> None:
        """Writes a part anew, with true checksums, as `change` makes it of what it held."""
        name, _, key = part.partition(":")
        file = self.checkpoint / name
        if file.suffix == ".json":
            file.write_bytes(trained.as_json(change(json.loads(file.read_bytes()))))
            return
        held = torch.load(file, weights_only=False)
        file.write_bytes(saved(held | {key: change(held[key])} if key else change(held)))

    def change_weights(self, file: Path, change: Callable[[Weights], Weights]) -> None:
        if file.suffix == ".safetensors":
            file.write_bytes(trained.as_safetensors(change(safetensors.torch.load(file.read_bytes()))))
        else:
            file.write_bytes(saved(change(torch.load(file))))


def make(run: Path, layout: Layout) -> Path:
    """The run in this layout: two checkpoints. Where it is."""
    for step in STEPS:
        write_files(run / f"checkpoint-{step}", layout.files(trained.moment(step)))
    return run


def stage(run: Path, place: Path, layout: Layout, seed: int) -> Scene:
    """A copy of the run's later checkpoint, to be spoilt."""
    earlier, now = (f"checkpoint-{step}" for step in STEPS)
    shutil.copytree(run / now, place / now)
    return Scene(place / now, run / earlier, layout, random.Random(seed))
