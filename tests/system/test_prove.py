"""What takes too long for the suite: the defaults' own times, for real."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import pytest

from builders import hf_files, make_hf_checkpoint
from running import Asker, up
from writing import acts_of_file, acts_of_save, writer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.prove, pytest.mark.timeout(0)]

SECONDS_BETWEEN_FILES: Final = 20.0
SOON: Final = 2.0
SAVES: Final = 20


def test_a_writer_that_pauses_twenty_seconds_between_files_is_waited_for(tmp_path: Path) -> None:
    names = [name for name, _content in hf_files(200)]
    source, output = make_hf_checkpoint(tmp_path / "source", 200, weight_rows=20_000), tmp_path / "output"
    make_hf_checkpoint(output / "checkpoint-100", 100)
    with up(output, tmp_path / "place") as watcher, Asker(watcher) as asker, writer() as job:
        for name in names:
            assert asker.handed_out() <= {"checkpoint-100"}
            job.do([*acts_of_file(output / "checkpoint-200", name, source), ("pause", SECONDS_BETWEEN_FILES)])
        watcher.wait("the save", lambda: watcher.latest_name() == "checkpoint-200")
        record = watcher.record(None, "checkpoint-200")
    assert (record["generation"], record["verdict"]) == (1, "complete")
    print(f"{len(names)} files, {SECONDS_BETWEEN_FILES} s between them: handed out only when whole")


def test_the_answer_follows_the_last_file_within_two_seconds(tmp_path: Path) -> None:
    names, output = [name for name, _content in hf_files(100)], tmp_path / "output"
    waited = []
    with up(output, tmp_path / "place") as watcher, Asker(watcher) as asker, writer() as job:
        for step in range(100, 100 * SAVES + 1, 100):
            folder = output / f"checkpoint-{step}"
            source = make_hf_checkpoint(tmp_path / f"source-{step}", step, weight_rows=200_000)
            job.do(acts_of_save(folder, source, names))
            watcher.wait(folder.name, lambda name=folder.name: name in asker.handed_out())  # type: ignore[misc]
            waited.append(asker.first_seen[None, folder.name] - (folder / names[-1]).stat().st_mtime)
            threading.Event().wait(0.5)
    print(f"last file to answer, {SAVES} saves: {', '.join(f'{seconds:.2f}' for seconds in sorted(waited))} s")
    assert max(waited) < SOON
