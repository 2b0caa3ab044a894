"""Healthy checkpoints by the frameworks themselves, in every layout: tiny models, trained and saved in one process.

Run as a program with a folder as its argument. transformers takes seconds to import, so one process does all of them.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

VOCABULARY: Final = 32
EXAMPLES: Final = 40
BATCH: Final = 2
AN_EPOCH: Final = EXAMPLES // BATCH  # steps
STEPS: Final = 3 * AN_EPOCH
FINISHED: Final = 3.0  # epochs


@dataclass(frozen=True)
class Run:
    """One run of Trainer, and the checkpoint of it that is looked at."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    model: str = "gpt2"
    momentum: float | None = None  #: with SGD of torch's own
    bfloat16: bool = False
    shard: str = ""  #: the largest size of a shard
    tokenizer: bool = False
    resume: bool = False  #: stop at the first save, and go on from there
    last: int = STEPS
    epoch: float = FINISHED


BY_EVALUATION: Final = {"eval_strategy": "epoch", "save_strategy": "epoch"}

RUNS: Final = (
    Run("cosine", {"lr_scheduler_type": "cosine", "warmup_steps": 5}),
    Run("linear to zero", {"lr_scheduler_type": "linear"}, tokenizer=True),
    Run("before the end", {"save_steps": 50, "max_steps": 55}, last=50, epoch=2.5),
    Run("fused", {"optim": "adamw_torch_fused"}),
    Run("adafactor", {"optim": "adafactor", "lr_scheduler_type": "constant"}),
    Run("sgd", {"optim": "sgd"}),
    Run("sgd with momentum", momentum=0.9),
    Run("bfloat16", bfloat16=True),
    Run("bf16 in part", {"bf16": True}),
    Run("in shards", shard="2KB"),
    Run("untied", model="llama"),
    Run("a bias everywhere", model="bert"),
    Run("accumulated", {"gradient_accumulation_steps": 2}, last=STEPS // 2),
    Run("best", {**BY_EVALUATION, "load_best_model_at_end": True, "save_total_limit": 1}),
    Run(
        "plateau",
        {"eval_strategy": "steps", "eval_steps": 6, "lr_scheduler_type": "reduce_lr_on_plateau"},
    ),
    Run("resumed", {"save_steps": AN_EPOCH}, resume=True),
)
ONLY_MODEL: Final = Run("only the model", {"save_only_model": True})
TWO_RANKS: Final = Run("two ranks", {"ddp_backend": "gloo"}, last=STEPS // 2)

PLAIN: Final = ("adamw", "sgd", "sgd with momentum", "adagrad", "amsgrad", "capturable", "two optimizers")
SCHEDULES: Final = ("by step", "by epoch", "sequential", "chained", "plateau", "one cycle", "restarts")


def main() -> None:
    import torch

    place = Path(sys.argv[1])
    torch.set_num_threads(1)
    in_two_ranks(place)
    for run in (*RUNS, ONLY_MODEL):
        train(run, place / run.name)
    with_scaler(place / "cosine", place / "scaled")
    for optimizer in PLAIN:
        plain(place / f"plain, {optimizer}", optimizer, "by step")
    for schedule in SCHEDULES[1:]:
        plain(place / f"plain, {schedule}", "adamw", schedule)
    other_writers(place)


# Trainer


def in_two_ranks(place: Path) -> None:
    """Trains in two processes. They are forked: to import transformers in each would take as long as all the rest."""
    import socket

    import transformers  # noqa: F401 - before the fork

    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port = asked.getsockname()[1]
    children = [_forked(rank, port, place) for rank in (0, 1)]
    if any(os.waitpid(child, 0)[1] for child in children):
        raise SystemExit("a rank failed")


def _forked(rank: int, port: int, place: Path) -> int:
    if child := os.fork():
        return child
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    os.environ.update(here, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    failed = 1
    try:
        train(TWO_RANKS, place / TWO_RANKS.name)
        failed = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(failed)


def train(run: Run, output: Path) -> None:
    """Trains one run to its end, with saves on the way."""
    from transformers import TrainingArguments

    usual = {
        "num_train_epochs": 3,
        "save_strategy": "steps",
        "save_steps": 0.5,
        "per_device_train_batch_size": BATCH,
        "learning_rate": 1e-3,
        "logging_steps": 10,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }
    arguments = TrainingArguments(output_dir=str(output), **{**usual, **run.arguments})
    if run.resume:
        _trainer(run, arguments, stop_after=AN_EPOCH).train()
    _trainer(run, arguments).train(resume_from_checkpoint=run.resume or None)


def _trainer(run: Run, arguments: Any, stop_after: int | None = None) -> Any:
    import torch
    from transformers import Trainer, TrainerCallback

    class Stop(TrainerCallback):  # type: ignore[misc]  # the package has no types
        def on_step_end(self, _arguments: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = state.global_step == stop_after

    class Sharding(Trainer):  # type: ignore[misc]
        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            super()._save(output_dir, state_dict)
            (Path(output_dir or "") / "model.safetensors").unlink()
            self.model.save_pretrained(output_dir, max_shard_size=run.shard)

    made = model(run.model)
    if run.bfloat16:
        made = made.to(torch.bfloat16)
    sgd = torch.optim.SGD(made.parameters(), lr=0.1, momentum=run.momentum) if run.momentum else None
    return (Sharding if run.shard else Trainer)(
        model=made,
        args=arguments,
        train_dataset=_examples(),
        eval_dataset=_examples()[:4],
        processing_class=_tokenizer() if run.tokenizer else None,
        optimizers=(sgd, None),
        callbacks=[Stop()] if stop_after else None,
    )


def model(kind: str) -> Any:
    """A model so small that its files are a few kB."""
    import transformers

    if kind == "llama":
        sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=VOCABULARY, **sizes))
    if kind == "bert":
        sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        return transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=VOCABULARY, **sizes))
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}
    ids = {"bos_token_id": 1, "eos_token_id": 1}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=VOCABULARY, **sizes, **ids))


def with_scaler(run: Path, target: Path) -> None:
    """As Trainer saves in float16, which it refuses to do without a GPU."""
    import torch

    shutil.copytree(run, target)
    for checkpoint in target.iterdir():
        torch.save(torch.amp.GradScaler("cpu").state_dict(), checkpoint / "scaler.pt")


def _examples() -> list[dict[str, Any]]:
    import torch

    chance = torch.Generator().manual_seed(1)
    rows = torch.randint(2, VOCABULARY, (EXAMPLES, 6), generator=chance)
    return [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row} for row in rows]


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"w{number}": number for number in range(VOCABULARY)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")), pad_token="w0", eos_token="w1"
    )


# Loops of one's own, on torch


@dataclass
class Trained:
    """What a loop of one's own has in its hands at the end of an epoch."""

    model: Any
    optimizer: Any
    scheduler: Any
    scaler: Any


def loop(optimizer: str, schedule: str) -> Trained:
    """Trains for three epochs."""
    import torch

    made = model("gpt2")
    states = [_optimizer(optimizer, made.parameters())]
    if optimizer == "two optimizers":
        of_layers, of_others = _split(made)
        states = [torch.optim.AdamW(of_layers, lr=1e-3), torch.optim.SGD(of_others, lr=0.1, momentum=0.9)]
    scheduler, when = _schedule(schedule, states[0])
    examples = _examples()
    for place in range(STEPS):
        rows = torch.stack([examples[(2 * place + n) % EXAMPLES]["input_ids"] for n in (0, 1)])
        made(input_ids=rows, labels=rows).loss.backward()
        for state in states:
            state.step()
            state.zero_grad()
        if when == "step":
            scheduler.step()
        elif (place + 1) % AN_EPOCH == 0:
            scheduler.step(*((1.0,) if when == "measured" else ()))
    return Trained(made, states if len(states) > 1 else states[0], scheduler, torch.amp.GradScaler("cpu"))


def _optimizer(name: str, parameters: Any) -> Any:
    from torch import optim, tensor

    makers: dict[str, Callable[[Any], Any]] = {
        "sgd": lambda these: optim.SGD(these, lr=0.1),
        "sgd with momentum": lambda these: optim.SGD(these, lr=0.1, momentum=0.9),
        "adagrad": lambda these: optim.Adagrad(these, lr=0.1),
        "amsgrad": lambda these: optim.Adam(these, lr=1e-3, amsgrad=True),
        "capturable": lambda these: optim.AdamW(these, lr=tensor(1e-3), foreach=False),
    }
    return makers.get(name, lambda these: optim.AdamW(these, lr=1e-3))(parameters)


def _split(made: Any) -> tuple[list[Any], list[Any]]:
    parameters = list(made.named_parameters())
    return [p for name, p in parameters if ".h." in name], [p for name, p in parameters if ".h." not in name]


def _schedule(name: str, optimizer: Any) -> tuple[Any, str]:
    """The scheduler, and when it is stepped."""
    from torch.optim import lr_scheduler as schedules

    def linear() -> Any:
        return schedules.LambdaLR(optimizer, lambda step: 1 - step / STEPS)

    if name == "by epoch":
        return schedules.StepLR(optimizer, 1), "epoch"
    if name == "sequential":
        parts = [schedules.ConstantLR(optimizer, 0.1, 5), schedules.CosineAnnealingLR(optimizer, STEPS)]
        return schedules.SequentialLR(optimizer, parts, [5]), "step"
    if name == "chained":
        return schedules.ChainedScheduler([linear(), schedules.ExponentialLR(optimizer, 0.99)]), "step"
    if name == "plateau":
        return schedules.ReduceLROnPlateau(optimizer), "measured"
    if name == "one cycle":
        return schedules.OneCycleLR(optimizer, 0.1, STEPS), "step"
    if name == "restarts":
        return schedules.CosineAnnealingWarmRestarts(optimizer, 7), "step"
    return linear(), "step"


def plain(folder: Path, optimizer: str, schedule: str) -> None:
    """The model beside one training_state.pt."""
    import torch

    trained = loop(optimizer, schedule)
    checkpoint = _with_model(folder, trained.model)
    torch.save(plain_state(trained), checkpoint / "training_state.pt")


def plain_state(trained: Trained) -> dict[str, Any]:
    optimizers = trained.optimizer
    return {
        "epoch": 3,
        "global_step": STEPS,
        "best_loss": 1.5,
        "epoch_losses": [3.0, 2.0, 1.5],
        "optimizer_state_dict": [part.state_dict() for part in optimizers]
        if isinstance(optimizers, list)
        else optimizers.state_dict(),
        "scheduler_state_dict": trained.scheduler.state_dict(),
        "scaler_state_dict": torch_scaler(enabled=False),
        "rng_states": rng_states(),
    }


def torch_scaler(*, enabled: bool) -> dict[str, Any]:
    import torch

    found: dict[str, Any] = torch.amp.GradScaler("cpu", enabled=enabled).state_dict()
    return found


def rng_states() -> dict[str, Any]:
    import numpy as np
    import torch

    return {
        "python_rng_state": random.getstate(),
        "numpy_rng_state": np.random.get_state(),  # noqa: NPY002 - what the trainers save
        "torch_rng_state": torch.get_rng_state(),
        "cuda_rng_state": None,
    }


def other_writers(place: Path) -> None:
    """The same job, as other writers lay it out."""
    import torch

    trained = loop("adamw", "by step")
    inside = place / "plain, weights inside" / f"checkpoint-{STEPS}"
    inside.mkdir(parents=True)
    weights = {"model_state_dict": trained.model.state_dict(), "scaler_state_dict": torch_scaler(enabled=True)}
    torch.save(plain_state(trained) | weights, inside / "training_state.pt")

    optimizer, scheduler = trained.optimizer.state_dict(), trained.scheduler.state_dict()
    old = _with_model(place / "forgather, old", trained.model)
    state = {"optimizer": optimizer, "lr_scheduler": scheduler, "global_step": STEPS}
    torch.save(state, old / "training_state.pt")

    for name, epoch, step in (("pth, a finished epoch", 3, 0), ("pth, within an epoch", 3, AN_EPOCH)):
        state = {
            "epoch": epoch, "step": step, "total_batches": AN_EPOCH, "optimizer_state_dict": optimizer,
            "scaler_state_dict": torch_scaler(enabled=True), "best_val_f1": 0.5, "best_val_acc": 0.5,
        }  # fmt: skip
        torch.save(state, _with_model(place / name, trained.model) / "training_state.pth")

    forgather(place / "forgather, new", trained, ranks=1, manifest=True)
    forgather(place / "forgather, two ranks", trained, ranks=2, manifest=True)
    forgather(place / "forgather, no manifest", trained, ranks=1, manifest=False)


def forgather(folder: Path, trained: Trained, *, ranks: int, manifest: bool) -> None:
    """As its coordinator writes: one file for each component, RNG of each rank, the manifest last."""
    import json

    import torch

    checkpoint = folder / f"checkpoint-{STEPS}"
    checkpoint.mkdir(parents=True)
    trained.model.save_pretrained(checkpoint, max_shard_size="2KB")
    progress = {"global_step": STEPS, "epoch_start_step": 2 * AN_EPOCH, "raw_epoch": 3.0, "total_flos": 1.0}
    torch.save(trained.optimizer.state_dict(), checkpoint / "optimizer_state.pt")
    torch.save(trained.scheduler.state_dict(), checkpoint / "scheduler_state.pt")
    torch.save(progress, checkpoint / "trainer_state.pt")
    torch.save({"position": 12}, checkpoint / "dataset_state.pt")
    rng = {"torch_rng_state": torch.get_rng_state(), "initial_seed": torch.initial_seed()}
    for rank in range(ranks):
        torch.save(rng, checkpoint / (f"rng_state_rank_{rank}.pt" if manifest else "rng_state.pt"))
    if manifest:
        of_all = {key: {"key": key, "sharing_pattern": "replicated", "ranks": [0]} for key in ("optimizer", "trainer")}
        of_each = {"rng": {"key": "rng", "sharing_pattern": "per_rank", "ranks": list(range(ranks))}}
        told = {"world_size": ranks, "components": {**of_all, **of_each, "scheduler": {}, "dataset": {}}}
        (checkpoint / "checkpoint_manifest.json").write_text(json.dumps(told))


def _with_model(folder: Path, made: Any) -> Path:
    checkpoint = folder / f"checkpoint-{STEPS}"
    made.save_pretrained(checkpoint)
    return checkpoint


if __name__ == "__main__":
    main()
