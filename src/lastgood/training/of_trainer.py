"""What Hugging Face Trainer spreads over several files (`lastgood.layouts.hf_trainer`), as one training state."""

from __future__ import annotations

import json
import os
from typing import Any, Final

from lastgood.errors import Damaged
from lastgood.layouts import hf_trainer
from lastgood.training import plainly

BY_TRAINER: Final = "by_trainer"


def read_state(folder: str) -> dict[str, Any]:
    """Under the keys of `training_state.pt`; {} where it is none of Trainer's. Damaged where a file is not what it is
    called. Of several processes the random states are those of the first.
    """
    names = frozenset(os.listdir(folder))
    if hf_trainer.STATE not in names:
        return {}
    found = {key: plainly.load(os.path.join(folder, name)) for key, name in hf_trainer.state_files(names).items()}
    processes = hf_trainer.world_size(names, {}) or 1
    return {BY_TRAINER: True, "world_size": processes, **found, **_progress(os.path.join(folder, hf_trainer.STATE))}


def _progress(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path} is not loaded: {error}") from error
    if not isinstance(told, dict):
        raise Damaged(f"{path} is not loaded: it holds no training state but a {type(told).__name__}")
    progress = {key: told[key] for key in ("global_step", "epoch") if key in told}
    return {**progress, "metrics": hf_trainer.metrics_in(told)}
