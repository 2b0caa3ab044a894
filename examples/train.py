"""A small language model learns the standard library's sources, and goes on bit for bit wherever it was interrupted.

Three things make it so: CheckpointManager saves and restores all that a step depends on, DataManager splits and
shuffles the text alike in every run, and set_seed seeds what is drawn. Where to go on, lastgood says.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import pickle
import sys
from typing import TYPE_CHECKING, Any

import torch

from language_model import Config, StandardLibrary, Transformer
from lastgood import CheckpointManager, LastgoodError, Verdict, resume_point
from lastgood.errors import NotACheckpoint
from lastgood.findings import Severity
from lastgood.training import DataManager, set_seed
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LATEST = "latest"
WAIT_SECONDS = 60.0  # for a save that is just being judged: going on from an older one, work would be done twice


class Trainer:
    """Trains a model, saves everything every so many steps, and goes on from any checkpoint."""

    def __init__(
        self,
        model: Transformer,
        output: str,
        *,
        batch_size: int = 8,
        checkpoint_every_n_steps: int = 50,
        fetch: bool = False,
        **options: Any,
    ) -> None:
        self.model, self.fetch = model, fetch
        self.manager = CheckpointManager(output, save_steps=checkpoint_every_n_steps, **options)
        data = DataManager(StandardLibrary(model.config.context))
        self.loader, self.validation = data.train_loader(batch_size), data.validation_loader(batch_size)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        # Warm-up, then one rate: no matter how many epochs were asked for, more can be added later.
        self.scheduler = torch.optim.lr_scheduler.LinearLR(self.optimizer, start_factor=0.05, total_iters=40)
        self.step, self.epoch, self.best_loss = 0, 0, float("inf")
        self.epoch_losses: list[float] = []

    def train(self, num_epochs: int = 3, resume_from: str | None = None, resume_checkpoint: str | None = None) -> None:
        """Until so many epochs are done. `resume_from`, or `resume_checkpoint`: a checkpoint's path, or "latest"."""
        if resume_from and resume_checkpoint and resume_from != resume_checkpoint:
            raise ValueError(f"resume_from is {resume_from}, resume_checkpoint is {resume_checkpoint}: which one?")
        if start := resume_from or resume_checkpoint:
            self._go_on_from(start)
        while self.epoch < num_epochs and not self.manager.preempted:
            self._train_epoch()
            if self.manager.is_due(self.step) or self.epoch == num_epochs:
                self._save()
        if self.epoch < num_epochs:
            say(f"stopped by a signal: step {self.step} is saved, and --resume-from-checkpoint {LATEST} goes on")
            return
        say(f"{self.epoch} epochs are done, {self.step} steps: best validation loss {self.best_loss:.4f}")

    def _train_epoch(self) -> None:
        """What is left of the epoch, and its validation."""
        for windows in self.loader:
            self._train_step(windows)
            if self.manager.is_due(self.step) and self.loader.order.rest():  # at its end, after the validation
                self._save()
            if self.manager.preempted:
                return
        self.epoch += 1
        self.epoch_losses.append(self._validation_loss())
        self.best_loss = min(self.epoch_losses)
        say(f"epoch {self.epoch} is done: validation loss {self.epoch_losses[-1]:.4f}")

    def _train_step(self, windows: torch.Tensor) -> None:
        self.model.train()
        loss = self.model.loss(windows)
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        self.step += 1
        self._note(step=self.step, loss=float(loss.detach()))
        if self.step % 10 == 0:
            say(f"step {self.step}, epoch {self.epoch + 1}: loss {float(loss.detach()):.4f}")

    def _validation_loss(self) -> float:
        self.model.eval()
        with torch.no_grad():
            losses = [float(self.model.loss(windows)) for windows in self.validation]
        return sum(losses) / len(losses)

    def _note(self, **entry: float) -> None:
        """Appended, to the last bit: steps that are done again after a kill stand there twice, with the same loss."""
        with open(os.path.join(self.manager.folder, "losses.jsonl"), "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    @property
    def _parts(self) -> dict[str, Any]:
        """All that has a state: what is saved, and restored."""
        parts = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        return {**parts, "dataloader": self.loader}

    def _save(self) -> None:
        folder = self.manager.save(
            self.step,
            **self._parts,
            epoch=self.epoch,
            best_loss=self.best_loss,
            epoch_losses=self.epoch_losses,
        )
        say(f"saved {os.path.basename(folder)}")

    def _go_on_from(self, start: str) -> None:
        try:
            saved = self._restored_latest() if start == LATEST else self._restored(start)
        except (RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
            raise NotACheckpoint(f"{start} does not fit this job: {in_one_line(error)}") from None
        if saved is None:
            return
        self.step, self.epoch = saved["global_step"], saved["epoch"]
        self.best_loss, self.epoch_losses = saved["best_loss"], list(saved["epoch_losses"])

    def _restored_latest(self) -> Mapping[str, Any] | None:
        """From the last good one, as lastgood names it. None where nothing has been saved yet."""
        found = self.manager.restore_latest(**self._parts, fetch=self.fetch)
        return {**dataclasses.asdict(found), "global_step": found.step} if found else None

    def _restored(self, path: str) -> Mapping[str, Any]:
        """From this one, after every byte of it was read: damaged weights load without a word."""
        report = verify(path)
        if report.verdict not in (Verdict.COMPLETE, Verdict.PARTIAL):
            why = next(finding for finding in report.findings if finding.severity is Severity.ERROR)
            raise NotACheckpoint(f"{path} is {report.verdict}: {why.file or 'the checkpoint'}: {why.message}")
        saved = self.manager.load_checkpoint(path, **self._parts, level=None)
        say(f"goes on at step {saved['global_step']} from {path}")
        return saved


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 trained to the end, 2 could not be done, 130 interrupted by a person, 143 by a signal, and saved."""
    options = options_from(arguments)
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger("lastgood").setLevel(logging.INFO)
    torch.set_num_threads(1)  # a small model is slower with more, and the watcher wants a core too
    torch.use_deterministic_algorithms(True)
    try:
        set_seed()
        start = start_of(options)
        trainer = Trainer(
            model_for(start, options.pretrained_model),
            options.model_output,
            batch_size=options.batch_size,
            checkpoint_every_n_steps=options.checkpoint_every_n_steps,
            fetch=options.fetch,
            resume_from_checkpoint=start or False,
            overwrite_output_dir=options.overwrite_output_dir,
        )
        with trainer.manager:
            if start is None:
                trainer.manager.resume(trainer.model)  # refuses to write over what was saved there
            trainer.manager.save_on_signals()  # a machine that is taken away says so first
            trainer.train(num_epochs=options.epochs, resume_from=start)
    except (LastgoodError, OSError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say(f"interrupted; --resume-from-checkpoint {LATEST} goes on")
        return 130
    return 143 if trainer.epoch < options.epochs else 0


def options_from(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--model-output", required=True, metavar="DIR", help="where checkpoint-<step> and losses.jsonl are written")
    add("--resume-from-checkpoint", metavar="PATH|latest", help="go on from this one, or from the last good one in DIR")
    add("--fetch", action="store_true", help="latest: where nothing there will do, the last good copy from the cloud")
    add("--overwrite-output-dir", action="store_true", help="begin anew where checkpoints lie; they are written over")
    add("--pretrained-model", metavar="DIR", help="start with the model in this folder")
    for flag, usual in (("--epochs", 3), ("--batch-size", 8), ("--checkpoint-every-n-steps", 50)):
        add(flag, type=positive, default=usual, metavar="N", help=f"{usual} unless told otherwise")
    options = parser.parse_args(arguments)
    if options.fetch and options.resume_from_checkpoint != LATEST:
        parser.error(f"--fetch belongs to --resume-from-checkpoint {LATEST}")
    return options


def positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def start_of(options: argparse.Namespace) -> str | None:
    """The checkpoint to go on from. None: from the first step, because nobody asked, or nothing was saved yet."""
    if options.resume_from_checkpoint != LATEST:
        return options.resume_from_checkpoint  # type: ignore[no-any-return]
    os.makedirs(options.model_output, exist_ok=True)
    start = resume_point(options.model_output, run=".", wait=WAIT_SECONDS, fetch=options.fetch)
    if start is None:
        say("nothing has been saved yet: begins with the first step")
    return start


def model_for(start: str | None, pretrained: str | None) -> Transformer:
    """The pretrained one; or one as large as that of the checkpoint to go on from; or one of the usual size."""
    folder = pretrained or start
    if folder is None:
        return Transformer(Config())
    if not os.path.isdir(folder):
        raise NotACheckpoint(f"{folder}: no such folder")
    try:
        return Transformer.from_pretrained(folder) if pretrained else Transformer(Config.read(folder))
    except (OSError, ValueError, TypeError, RuntimeError, AssertionError) as error:
        raise NotACheckpoint(f"{folder} holds no model for this job: {in_one_line(error)}") from None


def in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def say(what: str) -> None:
    print(what, flush=True)


if __name__ == "__main__":
    sys.exit(main())
