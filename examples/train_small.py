"""A small real training job: a character model on the standard library's own sources, saved as plain checkpoints.

Nothing in it knows of lastgood. It writes straight into `checkpoint-<step>`, as most trainers do.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn

CONTEXT, WIDTH, BATCH = 48, 128, 8


class CharacterModel(nn.Module):
    """Logits (batch, length, 128) of the next ASCII character for tokens (batch, length)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(128, WIDTH)
        self.place = nn.Embedding(CONTEXT, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.1, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 128)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        places = torch.arange(tokens.shape[1])
        future = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        hidden = self.body(self.embed(tokens) + self.place(places), mask=future, is_causal=True)
        logits: torch.Tensor = self.head(hidden)
        return logits


class Job:
    """Model, optimizer, scheduler and progress of one run."""

    def __init__(self) -> None:
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(42)
        self.model = CharacterModel()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-4)
        self.scheduler = torch.optim.lr_scheduler.LinearLR(self.optimizer, 1.0, 0.1, 10_000)
        self.step, self.losses = 0, [float("inf")]
        source = Path(argparse.__file__).read_text(encoding="utf-8") + Path(random.__file__).read_text(encoding="utf-8")
        self.text = torch.tensor([min(ord(character), 127) for character in source])

    def train_step(self) -> float:
        starts = torch.randint(0, len(self.text) - CONTEXT - 1, (BATCH,))
        pieces = torch.stack([self.text[s : s + CONTEXT + 1] for s in starts.tolist()])
        logits = self.model(pieces[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), pieces[:, 1:].flatten())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.step += 1
        return float(loss.detach())

    def save(self, output: Path) -> None:
        folder = output / f"checkpoint-{self.step}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"width": WIDTH, "context": CONTEXT, "vocab_size": 128}))
        safetensors.torch.save_file(self.model.state_dict(), folder / "model.safetensors")
        torch.save(
            {
                "global_step": self.step,
                "epoch": self.step * BATCH * CONTEXT // len(self.text),
                "best_loss": min(self.losses),
                "epoch_losses": self.losses[1:],
                "optimizer_state_dict": self.optimizer.state_dict(),
                "scheduler_state_dict": self.scheduler.state_dict(),
                "rng_states": {
                    "python_rng_state": random.getstate(),
                    "numpy_rng_state": np.random.get_state(),  # noqa: NPY002 - the generator that old code draws from
                    "torch_rng_state": torch.get_rng_state(),
                },
            },
            folder / "training_state.pt",
        )

    def load(self, folder: Path) -> None:
        self.model.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"))
        state = torch.load(folder / "training_state.pt", weights_only=False)
        self.optimizer.load_state_dict(state["optimizer_state_dict"])
        self.scheduler.load_state_dict(state["scheduler_state_dict"])
        self.step, self.losses = state["global_step"], [state["best_loss"], *state["epoch_losses"]]
        random.setstate(state["rng_states"]["python_rng_state"])
        np.random.set_state(state["rng_states"]["numpy_rng_state"])  # noqa: NPY002
        torch.set_rng_state(state["rng_states"]["torch_rng_state"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--resume-from-checkpoint", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--save-every", type=int, default=25)
    options = parser.parse_args()
    torch.set_num_threads(1)  # a small model is slower with more, and the watcher wants a core too
    job = Job()
    if options.resume_from_checkpoint:
        job.load(options.resume_from_checkpoint)
        print(f"goes on at step {job.step} from {options.resume_from_checkpoint.name}", flush=True)
    while job.step < options.steps:
        loss = job.train_step()
        if job.step % options.save_every == 0:
            job.losses.append(loss)
            print(f"step {job.step}, loss {loss:.3f}: saves", flush=True)
            job.save(options.output)


if __name__ == "__main__":
    main()
