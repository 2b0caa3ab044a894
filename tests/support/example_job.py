"""examples/train.py with a model of a few milliseconds a step: run in forks, and held against an uninterrupted run."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import torch

import train
from comparing import compared, losses_of, losses_that_differ
from language_model import Config, Transformer
from lastgood import CheckpointManager
from lastgood.training import restore_rng_states, save_rng_states

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EPOCHS, BATCH, EVERY, STEPS = 2, 64, 7, 50
FLAGS: Final = ("--epochs", str(EPOCHS), "--batch-size", str(BATCH), "--checkpoint-every-n-steps", str(EVERY))
LAST: Final = f"checkpoint-{STEPS}"


def save_small_model(folder: Path, *, hidden_size: int = 32) -> Path:
    """For `--pretrained-model`."""
    sizes = Config(context=16, hidden_size=hidden_size, layers=1, heads=2)
    CheckpointManager.save_checkpoint(folder, Transformer(sizes))
    return folder


def uninterrupted(output: Path, small: Path) -> Path:
    """What a job wrote that was left in peace."""
    assert ended(started(output, "--pretrained-model", str(small))) == 0
    assert [step for step, _loss in losses_of(output)] == list(range(1, STEPS + 1))
    return output


def started(output: Path, *flags: str) -> int:
    """The process id of a job: a fork of ours, which has torch loaded."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            output.mkdir(parents=True, exist_ok=True)
            sys.stdout = sys.stderr = (output / "job.log").open("a")
            code = train.main(["--model-output", str(output), *FLAGS, *flags])
            sys.stdout.flush()
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    """Its exit code, below 0 the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def assert_same(output: Path, right: Path) -> None:
    """Every loss that was ever computed, and the last checkpoint, part by part."""
    losses, expected = losses_of(output), dict(losses_of(right))
    assert losses_that_differ(losses, expected) == []
    assert dict(losses).keys() == expected.keys()
    assert_same_end(output, right)


def assert_same_end(output: Path, right: Path) -> None:
    assert [part for part, same in compared(output / LAST, right / LAST).items() if not same] == []


@contextmanager
def process_as_it_was() -> Iterator[None]:
    """What a job changes in its own process is given back to the other tests."""
    threads, states, level = torch.get_num_threads(), save_rng_states(), logging.getLogger("lastgood").level
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    restore_rng_states(states)
    logging.getLogger("lastgood").setLevel(level)
