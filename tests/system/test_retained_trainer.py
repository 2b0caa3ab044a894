"""Trainer without a rotation of its own, watched by one that has three rules."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

import evaluated_job
from running import SHORT, Program, Watcher, both, environ

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RULES: Final = {
    "LASTGOOD_KEEP_LAST": "2",
    "LASTGOOD_KEEP_BEST": "1 by eval_loss min",
    "LASTGOOD_KEEP_EVERY": "20",
    "LASTGOOD_OBSERVE_FOR": "0",
}


def train(watcher: Watcher, steps: int, *checkpoint: str) -> None:
    arguments = [sys.executable, evaluated_job.__file__, str(watcher.root), str(steps), *checkpoint]
    job = Program("job", arguments, environ(watcher.place), watcher.place / "job.log")
    job.start()
    try:
        watcher.wait("the job to end", lambda: job.ended, 120)
        assert job.end(0) == 0, job.said()
    finally:
        job.kill()


def losses(checkpoint: Path) -> Mapping[int, float]:
    history = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    return {entry["step"]: entry["eval_loss"] for entry in history if "eval_loss" in entry}


def test_exactly_what_a_rule_wants_remains_and_trainer_goes_on_from_there(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    with both(output, tmp_path / "place", **SHORT, **RULES) as watcher:
        for steps, kept in ((45, {20, 40, 45}), (60, {20, 40, 55, 60})):
            latest = watcher.latest_name()
            train(watcher, steps, *([str(output / latest)] if latest else []))
            measured = losses(output / f"checkpoint-{steps}")
            assert list(measured) == list(range(5, steps + 1, 5)), "it went on where it was"
            best = min(measured, key=lambda step: measured[step])
            assert best not in kept, "the rule has something to do"
            expected = {f"checkpoint-{step}" for step in (*kept, best)}
            watcher.wait(
                f"what is to remain: {expected}",
                lambda expected=expected: {path.name for path in output.glob("checkpoint-*")} == expected,  # type: ignore[misc]
            )
            assert watcher.latest_name() == f"checkpoint-{steps}"
        assert {record["verdict"] for record in watcher.records().values()} == {"complete"}
