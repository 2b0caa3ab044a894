"""A training job of a few milliseconds that draws from every random generator in each step."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from lastgood.training import DataManager, save_rng_states, set_seed

if TYPE_CHECKING:
    from lastgood.training import CheckpointManager, Restored

_SAMPLES, _WIDTH, _BATCH = 47, 6, 4


@dataclass(frozen=True)
class Recipe:
    optimizer: str = "AdamW"
    accumulate: int = 1  #: batches in one step
    autocast: bool = False
    scaled: bool = False
    scheduled: bool = True
    workers: int = 0


class SmallJob:
    """Model, optimizer and data of one run, as a new process would make them."""

    def __init__(self, recipe: Recipe, seed: int = 7) -> None:
        set_seed(seed)
        self.recipe = recipe
        self.model: Any = nn.Sequential(nn.Linear(_WIDTH, 8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 1))
        options = {"momentum": 0.9} if recipe.optimizer == "SGD" else {}
        self.optimizer = getattr(torch.optim, recipe.optimizer)(self.model.parameters(), lr=0.05, **options)
        steps = torch.optim.lr_scheduler.StepLR
        self.scheduler = steps(self.optimizer, 3, 0.7) if recipe.scheduled else None
        self.scaler = torch.amp.GradScaler("cpu", init_scale=64.0) if recipe.scaled else None
        chance = torch.Generator().manual_seed(1)
        samples = TensorDataset(torch.randn(_SAMPLES, _WIDTH, generator=chance), torch.arange(_SAMPLES) / _SAMPLES)
        self.loader = DataManager(samples).train_loader(_BATCH, num_workers=recipe.workers)
        self.step, self.epoch = 0, 0
        self.losses: list[float] = []

    def train(self, until: int) -> None:
        while self.step < until:
            self._train_epoch(until)

    def _train_epoch(self, until: int) -> None:
        gathered = 0
        for values, target in self.loader:
            self._backward(values, target)
            gathered += 1
            if gathered == self.recipe.accumulate:
                gathered = 0
                self._step()
            if self.step == until:
                return
        self.optimizer.zero_grad()  # what is left at the end of an epoch is no step
        self.epoch += 1

    def _backward(self, values: Any, target: Any) -> None:
        noise = random.random() + float(np.random.rand()) + float(torch.rand(()))  # noqa: NPY002 - what old code draws from
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.autocast):
            found = self.model(values + 0.01 * noise).squeeze(1)
        loss = nn.functional.mse_loss(found.float(), target)
        self.losses.append(float(loss.detach()))
        (self.scaler.scale(loss) if self.scaler else loss).backward()

    def _step(self) -> None:
        if self.scaler:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        if self.scheduler:
            self.scheduler.step()
        self.optimizer.zero_grad()
        self.step += 1

    def save(self, manager: CheckpointManager) -> str:
        return manager.save(
            self.step,
            model=self.model,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            scaler=self.scaler,
            dataloader=self.loader,
            epoch=self.epoch,
            epoch_losses=self.losses,
        )

    def restore(self, manager: CheckpointManager, **how: Any) -> Restored | None:
        start = manager.restore_latest(self.model, self.optimizer, self.scheduler, self.scaler, self.loader, **how)
        if start:
            self.step, self.epoch, self.losses = start.step, int(start.epoch), list(start.epoch_losses)
        return start

    def everything(self) -> dict[str, Any]:
        """All that decides how the run goes on, to be compared bit for bit."""
        return {
            "step": (self.step, self.epoch),
            "losses": self.losses,
            "weights": _plain(self.model.state_dict()),
            "optimizer": _plain(self.optimizer.state_dict()),
            "scheduler": _plain(self.scheduler.state_dict()) if self.scheduler else None,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "random": _plain(save_rng_states()),
            "data": self.loader.state_dict(),
        }


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().view(-1).view(torch.uint8).tolist()
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
