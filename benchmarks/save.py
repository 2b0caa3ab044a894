"""How long a save holds the training, beside `torch.save` of the same state; and how many bytes it takes.

    python benchmarks/save.py [--rounds 7 --megabytes 400]

A model with AdamW's moments, all of it on the CPU, four ways in interleaved rounds: `torch.save` of everything in one
file, which is not verified and not brought onto the disk; the same with an fsync; CheckpointManager; and that with
`async_save`, of which the time until `save` returns counts, and the time until it is on the disk is told beside.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.table import Table

from lastgood import CheckpointManager
from lastgood.settings import Settings
from lastgood.training import save_rng_states

if TYPE_CHECKING:
    from collections.abc import Callable

MB = 1_000_000
WIDTH = 1024
say = Console(width=110).print


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--megabytes", type=int, default=400)
    options = parser.parse_args()
    model, optimizer, scheduler = job_of(options.megabytes * MB)
    with tempfile.TemporaryDirectory() as scratch:
        ways = ways_to_save(Path(scratch), model, optimizer, scheduler)
        found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in ways}
        for _round in range(options.rounds + 1):  # the first one warms up
            for name, save in ways.items():
                found[name].append(save())
    report({name: times[1:] for name, times in found.items()})


def job_of(size: int) -> tuple[Any, Any, Any]:
    """Weights and two moments of each: together so many bytes."""
    layers = max(1, size // (3 * 4 * WIDTH * WIDTH))
    model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(layers)))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, WIDTH)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _step: 1.0)


def ways_to_save(
    scratch: Path, model: Any, optimizer: Any, scheduler: Any
) -> dict[str, Callable[[], tuple[float, float, int]]]:
    """Each gives the seconds that the training is held, the seconds until it is written, and the bytes."""
    nobody = Settings(url="http://127.0.0.1:1")
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}

    def plainly(*, sync: bool) -> tuple[float, float, int]:
        path = scratch / "plain.pt"
        started = time.perf_counter()
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({**states, "rng_states": save_rng_states()}, path)
        if sync:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        seconds = time.perf_counter() - started
        size = path.stat().st_size
        path.unlink()
        return seconds, seconds, size

    def ours(*, beside: bool) -> tuple[float, float, int]:
        manager = CheckpointManager(scratch / "ours", settings=nobody, async_save=beside)
        started = time.perf_counter()
        folder = Path(manager.save(1, **parts))
        held = time.perf_counter() - started
        manager.wait()
        written = time.perf_counter() - started
        size = sum(path.stat().st_size for path in folder.iterdir())
        shutil.rmtree(folder)
        return held, written, size

    return {
        "torch.save": lambda: plainly(sync=False),
        "torch.save, fsync": lambda: plainly(sync=True),
        "lastgood": lambda: ours(beside=False),
        "lastgood, async_save": lambda: ours(beside=True),
    }


def report(found: dict[str, list[tuple[float, float, int]]]) -> None:
    table = Table("", "training is held", "of torch.save", "on the disk after", "bytes")
    plain = found["torch.save"]
    for name, times in found.items():
        held = [seconds for seconds, _written, _size in times]
        ratios = [seconds / other[0] for seconds, other in zip(held, plain, strict=True)]
        written = [seconds for _held, seconds, _size in times]
        more = times[0][2] / plain[0][2] - 1
        table.add_row(
            name,
            f"{median(held):.3f} s ({min(held):.3f}-{max(held):.3f})",
            f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
            f"{median(written):.3f} s ({min(written):.3f}-{max(written):.3f})",
            f"{times[0][2]:,} ({more:+.2%})",
        )
    say(f"{len(plain)} rounds, torch {torch.__version__}, {os.cpu_count()} cores, {platform.platform()}")
    say(table)


if __name__ == "__main__":
    main()
