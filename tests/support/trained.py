"""Checkpoints of a small model that AdamW really trained, in every layout: moments, counts and sizes are true.

Names and shapes are those of a one-layer Llama. One run gives several moments, so that two saves of it can be compared.
"""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import safetensors.torch
import torch

from builders import Files, saved

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EARLIER: Final = 100
STEP: Final = 200
OTHER: Final = 150  #: a step at which no checkpoint of the run was saved
VOCABULARY: Final = 256
HIDDEN: Final = 32
_STEPS_AN_EPOCH: Final = 100
_LAST_STEP: Final = 400

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Moment:
    """All state of one run at one step."""

    step: int
    weights: Weights
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    hidden: int


@cache
def moment(step: int, *, seed: int = 0, hidden: int = HIDDEN) -> Moment:
    """The run of this seed as it stood after `step` steps."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model is many times slower with more
    try:
        return _run(seed, hidden)[step]
    finally:
        torch.set_num_threads(threads)


@cache
def _run(seed: int, hidden: int) -> Mapping[int, Moment]:
    chance = torch.Generator().manual_seed(seed)
    model = {name: _new(shape, chance) for name, shape in _shapes(hidden).items()}
    optimizer = torch.optim.AdamW(model.values(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / _LAST_STEP)
    words = torch.arange(VOCABULARY)
    found = {}
    for step in range(1, STEP + 1):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(_logits(model, words), words.roll(step % 7)).backward()
        optimizer.step()
        scheduler.step()
        if step in (EARLIER, OTHER, STEP):
            found[step] = Moment(step, *_copied(model, optimizer.state_dict(), scheduler.state_dict()), hidden)
    return found


def _copied(model: Weights, optimizer: dict[str, Any], scheduler: dict[str, Any]) -> tuple[Any, Any, Any]:
    weights = {name: weight.detach().clone() for name, weight in model.items()}
    kept = {
        number: {key: value.clone() for key, value in state.items()} for number, state in optimizer["state"].items()
    }
    groups = [dict(group) for group in optimizer["param_groups"]]
    return weights, {"state": kept, "param_groups": groups}, dict(scheduler)


def _shapes(hidden: int) -> dict[str, tuple[int, ...]]:
    square, inner, layer = (hidden, hidden), 2 * hidden, "model.layers.0"
    return {
        "model.embed_tokens.weight": (VOCABULARY, hidden),
        **{f"{layer}.self_attn.{letter}_proj.weight": square for letter in "qkvo"},
        f"{layer}.mlp.gate_proj.weight": (inner, hidden),
        f"{layer}.mlp.up_proj.weight": (inner, hidden),
        f"{layer}.mlp.down_proj.weight": (hidden, inner),
        f"{layer}.input_layernorm.weight": (hidden,),
        f"{layer}.post_attention_layernorm.weight": (hidden,),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (VOCABULARY, hidden),
    }


def _new(shape: tuple[int, ...], chance: torch.Generator) -> torch.Tensor:
    values = torch.ones(shape) if len(shape) == 1 else torch.randn(shape, generator=chance) * 0.1
    return values.requires_grad_()


def _logits(model: Weights, words: torch.Tensor) -> torch.Tensor:
    def through(name: str, value: torch.Tensor) -> torch.Tensor:
        return value @ model[f"model.layers.0.{name}_proj.weight"].T

    value = model["model.embed_tokens.weight"][words]
    normed = value * model["model.layers.0.input_layernorm.weight"]
    mixed = torch.sigmoid(through("self_attn.q", normed) * through("self_attn.k", normed))
    value = value + through("self_attn.o", mixed * through("self_attn.v", normed))
    normed = value * model["model.layers.0.post_attention_layernorm.weight"]
    value = value + through("mlp.down", torch.tanh(through("mlp.gate", normed)) * through("mlp.up", normed))
    return (value * model["model.norm.weight"]) @ model["lm_head.weight"].T


# The files of each layout, in the order in which its writer saves them


def hf_files(now: Moment, *, ranks: int = 1, weights: Callable[[Moment], Files] | None = None) -> Files:
    return [
        *model_files(now),
        *(weights or single)(now),
        ("training_args.bin", saved(SimpleNamespace(output_dir="output", fp16=False))),
        ("optimizer.pt", saved(now.optimizer)),
        ("scheduler.pt", saved(now.scheduler)),
        *_rank_files(now, ranks),
        ("trainer_state.json", as_json(_trainer_state(now.step))),
    ]


def hf_with_scaler_files(now: Moment) -> Files:
    scaler = {"scale": 1024.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000}
    files = hf_files(now)
    return [*files[:-1], ("scaler.pt", saved(scaler | {"_growth_tracker": now.step})), files[-1]]


def plain_files(now: Moment) -> Files:
    state = {
        "epoch": now.step // _STEPS_AN_EPOCH,
        "global_step": now.step,
        "best_loss": 1.25,
        "epoch_losses": [1.5, 1.25],
        "optimizer_state_dict": now.optimizer,
        "scheduler_state_dict": now.scheduler,
        "rng_states": {
            "python_rng_state": random.Random(now.step).getstate(),
            "numpy_rng_state": np.random.RandomState(now.step).get_state(),
            "torch_rng_state": torch.Generator().manual_seed(now.step).get_state(),
        },
    }
    return [*model_files(now), *single(now), ("training_state.pt", saved(state))]


def pth_files(now: Moment) -> Files:
    """`step` counts batches within the epoch: 0 when it is finished."""
    state = {
        "epoch": now.step // _STEPS_AN_EPOCH,
        "step": now.step % _STEPS_AN_EPOCH,
        "total_batches": _STEPS_AN_EPOCH,
        "optimizer_state_dict": now.optimizer,
        "scaler_state_dict": None,
        "best_val_f1": 0.5,
        "best_val_acc": 0.5,
    }
    return [*model_files(now), *single(now), ("training_state.pth", saved(state))]


def forgather_old_files(now: Moment) -> Files:
    state = {"global_step": now.step, "optimizer": now.optimizer, "lr_scheduler": now.scheduler}
    return [*model_files(now), *single(now), ("training_state.pt", saved(state))]


def forgather_new_files(now: Moment) -> Files:
    parts = {key: {"sharing_pattern": "global"} for key in ("model", "optimizer", "scheduler", "rng", "trainer")}
    progress = {"global_step": now.step, "epoch": now.step / _STEPS_AN_EPOCH, "max_steps": _LAST_STEP}
    return [
        *model_files(now),
        *single(now),
        ("optimizer_state.pt", saved(now.optimizer)),
        ("scheduler_state.pt", saved(now.scheduler)),
        ("rng_state.pt", saved({"torch_rng_state": torch.Generator().manual_seed(now.step).get_state()})),
        ("trainer_state.pt", saved(progress)),
        ("checkpoint_manifest.json", as_json({"world_size": 1, "components": parts})),
    ]


def model_files(now: Moment) -> Files:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": now.hidden,
        "intermediate_size": 2 * now.hidden,
        "model_type": "llama",
        "num_attention_heads": 4,
        "num_hidden_layers": 1,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "vocab_size": VOCABULARY,
    }
    generation = {"eos_token_id": 2, "transformers_version": "5.23.0"}
    return [("config.json", as_json(config)), ("generation_config.json", as_json(generation))]


def single(now: Moment) -> Files:
    return [("model.safetensors", as_safetensors(now.weights))]


def in_bin(now: Moment) -> Files:
    return [("pytorch_model.bin", saved(now.weights))]


def in_shards(now: Moment) -> Files:
    names = list(now.weights)
    parts = {
        f"model-{number:05}-of-00003.safetensors": {name: now.weights[name] for name in names[start:end]}
        for number, (start, end) in enumerate(itertools.pairwise((0, 5, 9, len(names))), 1)
    }
    index = {
        "metadata": {"total_size": sum(weight.nbytes for weight in now.weights.values())},
        "weight_map": {name: shard for shard, part in parts.items() for name in part},
    }
    return [
        *((shard, as_safetensors(part)) for shard, part in parts.items()),
        ("model.safetensors.index.json", as_json(index)),
    ]


def as_safetensors(tensors: Weights) -> bytes:
    written: bytes = safetensors.torch.save(tensors, {"format": "pt"})
    return written


def as_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _rng(seed: int) -> dict[str, Any]:
    return {
        "python": random.Random(seed).getstate(),
        "numpy": np.random.RandomState(seed).get_state(),
        "cpu": torch.Generator().manual_seed(seed).get_state(),
    }


def _rank_files(now: Moment, ranks: int) -> Files:
    if ranks == 1:
        return [("rng_state.pth", saved(_rng(now.step)))]
    return [(f"rng_state_{rank}.pth", saved(_rng(now.step + rank))) for rank in range(ranks)]


def _trainer_state(step: int) -> dict[str, Any]:
    return {
        "best_metric": None,
        "epoch": step / _STEPS_AN_EPOCH,
        "global_step": step,
        "is_world_process_zero": True,
        "log_history": [{"epoch": step / _STEPS_AN_EPOCH, "grad_norm": 1.5, "loss": 3.0, "step": step}],
        "max_steps": _LAST_STEP,
        "save_steps": _STEPS_AN_EPOCH,
    }
