"""The list of its files that a save leaves: it says that the save is finished, and what its bytes were."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch

from lastgood import naming
from lastgood.facts import Component, FileDigest, FileList, Level, Presence
from lastgood.findings import Code, Severity, Verdict
from lastgood.inventory import take_inventory
from lastgood.manifest import is_all_there, read_file_list
from lastgood.records import Evidence
from lastgood.training import CheckpointManager
from lastgood.verify import verify
from small_job import Recipe, SmallJob
from worker_world import rewrite_in_place, world_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Configured(torch.nn.Linear):  # type: ignore[misc]
    """A model whose weights and configuration get files of their own."""

    config: dict[str, Any] = {"width": 4}  # noqa: RUF012 - as a model has it


@pytest.fixture
def saved(manager: CheckpointManager, tmp_path: Path) -> Path:
    """A checkpoint with several files."""
    manager.save(1, model=Configured(4, 4), optimizer=SmallJob(Recipe()).optimizer)
    return tmp_path / "output" / "checkpoint-1"


def codes(report: Any) -> set[Code]:
    return {finding.code for finding in report.findings}


@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
def test_a_sound_save_is_as_its_list_says(saved: Path, level: Level) -> None:
    report = verify(str(saved), level)
    assert not codes(report) & {Code.MANIFEST_MISMATCH, Code.MANIFEST_FILE_MISSING, Code.FILE_LIST_BROKEN}


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "training_state.pt"])
def test_one_flipped_bit_in_any_file_is_found_at_the_first_reading(saved: Path, file: str) -> None:
    whole = (saved / file).read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 40)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        (saved / file).write_bytes(damaged)
        report = verify(str(saved))
        assert report.verdict is Verdict.CORRUPT, f"bit in byte {place}: {report.findings}"
        assert Code.MANIFEST_MISMATCH in codes(report)


def test_what_was_found_damaged_stays_so_however_often_it_is_read(saved: Path) -> None:
    rewrite_in_place(saved / "model.safetensors")
    first = verify(str(saved))
    assert first.components[Component.WEIGHTS] is Presence.DAMAGED
    again = verify(str(saved), manifest=first.manifest)
    assert (first.verdict, again.verdict) == (Verdict.CORRUPT, Verdict.CORRUPT)
    assert [f.message for f in again.findings if f.file == "model.safetensors" and f.severity is Severity.ERROR] == [
        "its bytes are not those that were saved"
    ]


def test_one_difference_is_told_once_whoever_knows_of_it(saved: Path) -> None:
    manifest = verify(str(saved)).manifest
    rewrite_in_place(saved / "model.safetensors")
    found = verify(str(saved), manifest=manifest).findings
    assert [f.code for f in found if f.severity is Severity.ERROR].count(Code.MANIFEST_MISMATCH) == 1


def test_a_file_that_went_away_is_missed_although_the_layout_does_not_need_it(saved: Path) -> None:
    (saved / "generation_config.json").write_text("{}")
    listed = json.loads((saved / naming.FILE_LIST).read_text())
    listed["files"].append({"path": "generation_config.json", "bytes": 2, "digest": None})
    (saved / naming.FILE_LIST).write_text(json.dumps(listed))
    assert Code.MANIFEST_FILE_MISSING not in codes(verify(str(saved)))
    (saved / "generation_config.json").unlink()
    assert Code.MANIFEST_FILE_MISSING in codes(verify(str(saved)))


def _empty(path: Path) -> None:
    path.write_text("")


def _of_the_future(path: Path) -> None:
    path.write_text('{"lastgood_checkpoint": 9, "files": []}')


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


@pytest.mark.parametrize("spoil", [_empty, _of_the_future, _pipe, _folder, _link_to_itself])
def test_a_broken_list_is_a_warning_and_holds_nobody_up(saved: Path, spoil: Callable[[Path], None]) -> None:
    before = verify(str(saved)).verdict
    spoil(saved / naming.FILE_LIST)
    report = verify(str(saved))
    assert report.verdict is before
    assert [f.file for f in report.warnings if f.code is Code.FILE_LIST_BROKEN] == [naming.FILE_LIST]
    assert not is_all_there(read_file_list(str(saved)), take_inventory(str(saved)))


def test_without_a_list_nothing_is_said_of_it(saved: Path) -> None:
    (saved / naming.FILE_LIST).unlink()
    assert read_file_list(str(saved)) is None
    assert Code.FILE_LIST_BROKEN not in codes(verify(str(saved)))


# --- as evidence that the save is finished ---


def _add(folder: Path) -> None:
    (folder / "notes.txt").write_text("later")


def _shorten(folder: Path) -> None:
    os.truncate(folder / "config.json", 5)


def _remove(folder: Path) -> None:
    (folder / "config.json").unlink()


def _write_again(folder: Path) -> None:
    content = (folder / "config.json").read_bytes()
    (folder / "config.json").write_bytes(content)


@pytest.mark.parametrize("happens", [_add, _shorten, _remove, _write_again])
def test_a_list_speaks_for_a_folder_only_while_it_fits_and_was_written_last(
    saved: Path, happens: Callable[[Path], None]
) -> None:
    assert is_all_there(read_file_list(str(saved)), take_inventory(str(saved)))
    happens(saved)
    assert not is_all_there(read_file_list(str(saved)), take_inventory(str(saved)))


def test_an_empty_list_speaks_for_nothing(saved: Path) -> None:
    shutil.rmtree(saved)
    saved.mkdir()
    assert not is_all_there(FileList((), 10**20), take_inventory(str(saved)))
    assert not is_all_there(FileList((FileDigest("gone", 1, None),), 10**20), take_inventory(str(saved)))


@pytest.mark.parametrize("before_us", [True, False])
def test_a_save_of_ours_is_taken_at_its_word_and_at_once(tmp_path: Path, *, before_us: bool) -> None:
    with world_in(tmp_path) as world:
        manager = CheckpointManager(world.root)
        job = SmallJob(Recipe())
        if not before_us:
            world.look()
        job.train(2)
        job.save(manager)
        world.settle(1.0)
        assert world.latest() == "checkpoint-2"
        assert world.record().evidence is Evidence.DECLARED


def test_a_save_over_an_older_one_is_served_again_when_it_is_whole(tmp_path: Path) -> None:
    with world_in(tmp_path) as world:
        manager = CheckpointManager(world.root)
        job = SmallJob(Recipe())
        for _ in range(2):
            job.train(2)
            job.save(manager)
            world.settle(2.0)
        assert world.latest() == "checkpoint-2"
        assert (world.record().generation, world.record().evidence) == (2, Evidence.DECLARED)
