"""The smallest good checkpoints, with the names, keys and order of the real writers; no framework but torch is needed.

torch is imported on first use, and what one step's files hold is made once per process.
"""

from __future__ import annotations

import io
import json
import os
import random
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Files = list[tuple[str, bytes]]

WIDTH = 8
LEFT_OUT = object()


def hf_files(step: int, *, shards: int = 1, ranks: int = 1, weight_rows: int = 4) -> Files:
    """The files of a Hugging Face Trainer's save, in the order in which it writes them."""
    return [
        ("config.json", _json({"architectures": ["Tiny"], "hidden_size": WIDTH, "model_type": "tiny"})),
        ("generation_config.json", _json({"eos_token_id": 2, "transformers_version": "5.23.0"})),
        *_weights(step, shards, weight_rows),
        ("training_args.bin", saved(SimpleNamespace(output_dir="output", learning_rate=5e-5))),
        ("optimizer.pt", _optimizer_file(step, weight_rows)),
        ("scheduler.pt", saved(_scheduler_state(step))),
        *_rng_files(step, ranks),
        ("trainer_state.json", _json(_trainer_state(step))),
    ]


def make_hf_checkpoint(folder: Path, step: int, *, shards: int = 1, ranks: int = 1, weight_rows: int = 4) -> Path:
    """Makes `folder` a checkpoint as Trainer saves it at `step`."""
    return write_files(folder, hf_files(step, shards=shards, ranks=ranks, weight_rows=weight_rows))


def plain_files(step: int, *, weight_rows: int = 4) -> Files:
    """The files of a save that keeps all training state in one `training_state.pt`."""
    return [
        ("config.json", _json({"architectures": ["Tiny"], "hidden_size": WIDTH, "model_type": "tiny"})),
        ("generation_config.json", _json({"eos_token_id": 2, "transformers_version": "5.23.0"})),
        *_weights(step, 1, weight_rows),
        ("tokenizer.json", _json({"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})),
        ("tokenizer_config.json", _json({"tokenizer_class": "PreTrainedTokenizerFast"})),
        ("training_state.pt", _plain_state_file(step, weight_rows)),
    ]


def make_plain_checkpoint(folder: Path, step: int, *, weight_rows: int = 4) -> Path:
    """Makes `folder` a checkpoint with a `training_state.pt` saved at `step`."""
    return write_files(folder, plain_files(step, weight_rows=weight_rows))


def pth_files(epoch: int, batches: int, total: int, *, optimizer_steps: int, **changes: Any) -> Files:
    """The files of a save with a `training_state.pth`, whose `step` counts batches: 0 when the epoch is finished.

    `changes`: entries of the state that are others; those that are `LEFT_OUT` are not there.
    """
    state = {
        "epoch": epoch,
        "step": batches,
        "total_batches": total,
        "optimizer_state_dict": adamw_state(optimizer_steps),
        "scaler_state_dict": None,
        "best_val_f1": 0.5,
        **changes,
    }
    kept = {key: value for key, value in state.items() if value is not LEFT_OUT}
    others = [(name, content) for name, content in plain_files(optimizer_steps) if name != "training_state.pt"]
    return [*others, ("training_state.pth", saved(kept))]


def write_files(folder: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """Writes them one after the other, into a new folder or over an old one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files:
        write_file(folder, name, content)
    return folder


def write_file(folder: Path, name: str, content: bytes) -> None:
    """Writes one file; safetensors, as its own library does, under a temporary name that is then changed."""
    final = folder / name
    if not name.endswith(".safetensors"):
        final.write_bytes(content)
        return
    temporary = folder / ".tmpA1b2C3"
    temporary.write_bytes(content)
    os.replace(temporary, final)


def saved(value: Any) -> bytes:
    """The bytes that `torch.save` makes of it."""
    import torch

    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def adamw_state(step: int, rows: int = 4) -> dict[str, Any]:
    """What AdamW's `state_dict` holds after `step` steps on one weight."""
    import torch

    moments = {"exp_avg": torch.full((rows, WIDTH), 0.5), "exp_avg_sq": torch.full((rows, WIDTH), 0.25)}
    group = {"lr": 5e-5, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "params": [0]}
    return {"state": {0: {"step": torch.tensor(float(step)), **moments}}, "param_groups": [group]}


def plain_state(step: int, rows: int = 4) -> dict[str, Any]:
    import numpy as np
    import torch

    return {
        "epoch": 1,
        "global_step": step,
        "best_loss": 1.25,
        "epoch_losses": [1.5, 1.25],
        "optimizer_state_dict": adamw_state(step, rows),
        "scheduler_state_dict": _scheduler_state(step),
        "rng_states": {
            "python_rng_state": random.Random(step).getstate(),
            "numpy_rng_state": np.random.RandomState(step).get_state(),
            "torch_rng_state": torch.Generator().manual_seed(step).get_state(),
        },
    }


@cache
def _plain_state_file(step: int, rows: int) -> bytes:
    return saved(plain_state(step, rows))


@cache
def _optimizer_file(step: int, rows: int) -> bytes:
    return saved(adamw_state(step, rows))


@cache
def _rng_file(seed: int) -> bytes:
    import numpy as np
    import torch

    return saved(
        {
            "python": random.Random(seed).getstate(),
            "numpy": np.random.RandomState(seed).get_state(),
            "cpu": torch.Generator().manual_seed(seed).get_state(),
        }
    )


def _rng_files(step: int, ranks: int) -> Files:
    if ranks == 1:
        return [("rng_state.pth", _rng_file(step))]
    return [(f"rng_state_{rank}.pth", _rng_file(step + rank)) for rank in range(ranks)]


@cache
def _weights(step: int, shards: int, rows: int) -> tuple[tuple[str, bytes], ...]:
    if shards == 1:
        return (("model.safetensors", _shard(step, ("embed.weight", "head.weight"), rows)),)
    names = [f"model-{number:05}-of-{shards:05}.safetensors" for number in range(1, shards + 1)]
    index = {
        "metadata": {"total_size": shards * rows * WIDTH * 4},
        "weight_map": {f"layers.{number}.weight": name for number, name in enumerate(names)},
    }
    return (
        *((name, _shard(step, (f"layers.{number}.weight",), rows)) for number, name in enumerate(names)),
        ("model.safetensors.index.json", _json(index)),
    )


def _shard(step: int, tensors: tuple[str, ...], rows: int) -> bytes:
    import safetensors.torch
    import torch

    values = {name: torch.full((rows, WIDTH), step + place / 2) for place, name in enumerate(tensors)}
    written: bytes = safetensors.torch.save(values, {"format": "pt"})
    return written


def _scheduler_state(step: int) -> dict[str, Any]:
    return {"base_lrs": [5e-5], "last_epoch": step, "_step_count": step + 1, "_last_lr": [2.5e-5], "lr_lambdas": [{}]}


def _trainer_state(step: int) -> dict[str, Any]:
    logged = {"epoch": step / 100, "grad_norm": 1.5, "learning_rate": 2.5e-5, "loss": 3.0, "step": step}
    return {
        "best_metric": None,
        "epoch": step / 100,
        "global_step": step,
        "is_world_process_zero": True,
        "log_history": [logged],
        "max_steps": 10_000,
        "save_steps": 100,
        "trial_name": None,
    }


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
