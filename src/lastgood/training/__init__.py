"""In the training job: complete state saved whole, restored exactly, and data in an order that can be continued."""

from __future__ import annotations

from lastgood.training.data import DataManager, ResumableLoader, ShuffledOrder, outlive_signals
from lastgood.training.manager import CheckpointManager, Restored
from lastgood.training.options import SaveOptions
from lastgood.training.rng import restore_rng_states, save_rng_states, set_seed

__all__ = [
    "CheckpointManager",
    "DataManager",
    "Restored",
    "ResumableLoader",
    "SaveOptions",
    "ShuffledOrder",
    "outlive_signals",
    "restore_rng_states",
    "save_rng_states",
    "set_seed",
]
