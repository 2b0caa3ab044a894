"""A job that is killed in the middle of a save, at ten random moments, and goes on in a new folder each time."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Final

from builders import hf_files, make_hf_checkpoint
from running import SHORT, Asker, both
from writing import acts_of_save, writer

if TYPE_CHECKING:
    from pathlib import Path

MOMENTS: Final = 10
ROWS: Final = 250_000  # four tensors of 8 MB
CHUNK: Final = 1 << 18
SEED: Final = int(os.environ.get("PROVE_SEED", "1"))


def test_a_save_that_was_killed_at_any_moment_is_never_handed_out(tmp_path: Path) -> None:
    random_moment = random.Random(SEED)
    names = [name for name, _content in hf_files(100)]
    output = tmp_path / "output"
    make_hf_checkpoint(output / "checkpoint-100", 100)
    killed = range(200, 200 + 100 * MOMENTS, 100)
    last = killed[-1] + 100
    source = make_hf_checkpoint(tmp_path / "source", last, weight_rows=ROWS)
    with both(output, tmp_path / "place", **SHORT) as watcher, Asker(watcher) as asker:
        watcher.wait("the first save", lambda: watcher.latest_name() == "checkpoint-100")
        for step in killed:
            acts = acts_of_save(output / f"checkpoint-{step}", source, names, CHUNK)
            with writer() as job:
                # All but the last act, at most: closing the file that ends the save.
                job.do(acts[: random_moment.randrange(2, len(acts) - 1)])
                job.kill()
        with writer() as job:
            job.do(acts_of_save(output / f"checkpoint-{last}", source, names, CHUNK))
        watcher.wait("the save after them", lambda: watcher.latest_name() == f"checkpoint-{last}")

        def all_are_judged() -> bool:
            return all(watcher.record(None, f"checkpoint-{step}").get("verdict") for step in killed)

        watcher.wait("a verdict on each", all_are_judged)
        verdicts = {name: record["verdict"] for name, record in watcher.records().items()}
    assert asker.handed_out() <= {"checkpoint-100", f"checkpoint-{last}"}
    assert {verdicts.pop("checkpoint-100"), verdicts.pop(f"checkpoint-{last}")} == {"complete"}
    assert set(verdicts.values()) <= {"incomplete", "corrupt"}
    assert len(verdicts) == MOMENTS
