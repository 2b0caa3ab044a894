"""How long retention takes to plan 10,000 checkpoints of one run, in several lines of saves, with all four rules.

    PYTHONPATH=tests/support python benchmarks/retention.py [--rounds 15 --known 10000 --lines 8]

Beside it, in interleaved rounds: to sort the same records by step, and to copy each of them. The run is planned as it
is found, with nothing removed before, and again once that plan is carried out, as the worker does at every look.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import random
import time
from dataclasses import replace
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from lastgood.findings import Verdict
from lastgood.life import State
from lastgood.records import Evidence
from lastgood.retention import Policy, plan
from lastgood.settings_values import KeepBest
from recording import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from lastgood.records import Record

POLICY: Final = Policy(5, KeepBest(3, "eval_loss", "min"), 1000, timedelta(hours=36))
#: One in twenty is partial, one damaged, one was killed.
VERDICTS: Final = [Verdict.COMPLETE] * 17 + [Verdict.PARTIAL, Verdict.CORRUPT, Verdict.INCOMPLETE]
say = Console(width=110).print


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in (("rounds", 15), ("known", 10_000), ("lines", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    wanted = parser.parse_args()
    found = saves(wanted.known, wanted.lines)
    made = plan(found, POLICY, {})
    doomed = {decision.record.id for decision in made.removals}
    after = [replace(saved, state=State.TRASHED) if saved.id in doomed else saved for saved in found]
    say(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, {load()}")
    say(f"{len(found):,} checkpoints in {wanted.lines} lines, {POLICY}: {len(doomed):,} are removed\n")
    measured = measure(
        {
            "sort them by step": lambda: sorted(found, key=lambda saved: saved.step),
            "copy each": lambda: [replace(saved) for saved in found],
            "plan": lambda: plan(found, POLICY, {}),
            "plan again, most in the trash": lambda: plan(after, POLICY, {}),
        },
        wanted.rounds,
    )
    show(measured)
    say(f"{load()}")


def saves(count: int, lines: int) -> list[Record]:
    """In several lines: each one but the first goes back to the middle of the one before."""
    chance, step = random.Random(1), 0
    made: list[Record] = []
    for place in range(count):
        line = 1 + place * lines // count
        step = step // 2 if made and made[-1].branch != line else step + 10
        verdict = chance.choice(VERDICTS)
        evidence = Evidence.QUIET if verdict is Verdict.INCOMPLETE else Evidence.MARKER
        metrics = {"eval_loss": chance.random(), "loss": chance.random()}
        made.append(record(step, place, branch=line, verdict=verdict, evidence=evidence, metrics=metrics))
    return made


def measure(what: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds that each took in each round; the first round warms up."""
    took: dict[str, list[float]] = {name: [] for name in what}
    for number in range(1 + rounds):
        for name, act in what.items():
            gc.collect()
            began = time.perf_counter()
            act()
            if number:
                took[name].append(time.perf_counter() - began)
    return took


def show(measured: dict[str, list[float]]) -> None:
    baselines = list(measured)[:2]
    table = Table("", "median", "range", *(f"of `{name}`" for name in baselines), title="time to plan")
    for name, took in measured.items():
        ratios = (f"{median(took) / median(measured[baseline]):.1f}" for baseline in baselines)
        table.add_row(name, f"{median(took) * 1e3:.1f} ms", f"{min(took) * 1e3:.1f} to {max(took) * 1e3:.1f}", *ratios)
    say(table)


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
