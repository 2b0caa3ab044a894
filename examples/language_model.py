"""What examples/train.py trains: a small transformer, and the text that it learns. Nothing here knows of lastgood."""

from __future__ import annotations

import dataclasses
import json
import sysconfig
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

TEXT_BYTES = 28_000  # an epoch of some seconds


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the model: what config.json holds."""

    vocab_size: int = 256  # bytes
    context: int = 48
    hidden_size: int = 192
    layers: int = 3
    heads: int = 4
    dropout: float = 0.1

    @classmethod
    def read(cls, folder: str) -> Config:
        """Those of a saved model. OSError or ValueError where there is none of this kind."""
        saved: Any = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
        lacking = [field.name for field in dataclasses.fields(cls) if field.name not in saved]
        if lacking:
            raise ValueError(f"config.json is that of another model: it lacks {', '.join(lacking)}")
        return cls(**{field.name: saved[field.name] for field in dataclasses.fields(cls)})


class Transformer(nn.Module):
    """For bytes (batch, length), what it takes for the byte after each: logits (batch, length, 256)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, width = config, config.hidden_size
        self.embed = nn.Embedding(config.vocab_size, width)
        self.place = nn.Embedding(config.context, width)
        options: Any = {"activation": "gelu", "batch_first": True, "norm_first": True}
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, config.heads, 4 * width, config.dropout, **options)
            for _ in range(config.layers)
        )
        self.head = nn.Linear(width, config.vocab_size)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        length = tokens.shape[1]
        future = nn.Transformer.generate_square_subsequent_mask(length)
        hidden = self.embed(tokens) + self.place(torch.arange(length))
        for layer in self.layers:
            hidden = layer(hidden, src_mask=future, is_causal=True)
        logits: torch.Tensor = self.head(hidden)
        return logits

    def loss(self, windows: torch.Tensor) -> torch.Tensor:
        """How badly it foresees each byte of the windows (batch, length) from those before."""
        return nn.functional.cross_entropy(self(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())

    @classmethod
    def from_pretrained(cls, folder: str) -> Transformer:
        """The model that was saved there, with its weights. OSError, ValueError or RuntimeError where there is none."""
        model = cls(Config.read(folder))
        try:
            weights = safetensors.torch.load_file(Path(folder, "model.safetensors"))
        except safetensors.SafetensorError as error:
            raise ValueError(f"model.safetensors: {error}") from None
        model.load_state_dict(weights)
        return model


class StandardLibrary:
    """Text that every machine has: the standard library's sources, in windows one byte longer than the context."""

    def __init__(self, context: int) -> None:
        sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
        self.text = b"".join(path.read_bytes() for path in sources)[:TEXT_BYTES]
        self.context = context

    def __len__(self) -> int:
        return (len(self.text) - 1) // self.context

    def __getitem__(self, place: int) -> torch.Tensor:
        start = place * self.context
        return torch.tensor(list(self.text[start : start + self.context + 1]))
