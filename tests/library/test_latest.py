"""The answer as of this moment: what was verified is held against the disk before it is handed out."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from builders import make_hf_checkpoint, write_file
from lastgood import writers
from lastgood.errors import NoneAcceptable
from lastgood.facts import Entry, Inventory
from lastgood.inventory import take_inventory
from lastgood.latest import inodes_are_stable, is_as_verified, plan_now, resume_point_now, saved_at
from lastgood.resume import Wishes
from lastgood.retention import Policy
from recording import record
from worker_world import rewrite_in_place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lastgood.records import Record


def verified(root: Path, *steps: int) -> list[Record]:
    """Checkpoints on disk, and the records that they left when they were verified."""
    found = []
    for number, step in enumerate(steps):
        folder = make_hf_checkpoint(root / f"checkpoint-{step}", step)
        fingerprint = take_inventory(str(folder)).fingerprint
        found.append(record(step, number, root=str(root), fingerprint=fingerprint))
    return found


def _remove_one(folder: Path) -> None:
    (folder / "optimizer.pt").unlink()


def _rename_one(folder: Path) -> None:
    (folder / "optimizer.pt").rename(folder / "optimizer.bak")


def _add_one(folder: Path) -> None:
    write_file(folder, "notes.txt", b"note")


def _begin_one(folder: Path) -> None:
    (folder / ".tmpA1b2C3").touch()


def _unlistable(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file in its place")


CHANGES = [
    pytest.param(shutil.rmtree, id="it was removed"),
    pytest.param(_remove_one, id="a file was removed"),
    pytest.param(_rename_one, id="a file was renamed"),
    pytest.param(_add_one, id="a file was added"),
    pytest.param(_begin_one, id="somebody begins to write"),
    pytest.param(lambda folder: rewrite_in_place(folder / "optimizer.pt"), id="rewritten in place"),
    pytest.param(
        lambda folder: rewrite_in_place(folder / "optimizer.pt", mtime_back=True), id="rewritten, and its time set back"
    ),
    pytest.param(lambda folder: os.truncate(folder / "model.safetensors", 20), id="cut short"),
    pytest.param(_unlistable, id="a file stands in its place"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_since_it_was_verified_is_not_handed_out(change: Callable[[Path], object], tmp_path: Path) -> None:
    records = verified(tmp_path, 100, 200)
    assert resume_point_now(records, Wishes()).record.step == 200
    change(tmp_path / "checkpoint-200")
    answer = resume_point_now(records, Wishes())
    assert (answer.record.step, answer.skipped[0].reason) == (100, "changed")
    change(tmp_path / "checkpoint-100")
    with pytest.raises(NoneAcceptable) as caught:
        resume_point_now(records, Wishes())
    assert [found["reason"] for found in caught.value.details["refused"]] == ["changed", "changed"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_plan_relies_on_nothing_that_changed_since_it_was_read(
    change: Callable[[Path], object], tmp_path: Path
) -> None:
    records, policy = verified(tmp_path, 100, 200, 300, 400), Policy(keep_last=1)
    assert [d.record.step for d in plan_now(records, policy, {}).removals] == [100, 200]
    change(tmp_path / "checkpoint-400")
    assert [d.record.step for d in plan_now(records, policy, {}).removals] == [100]
    change(tmp_path / "checkpoint-200")
    assert plan_now(records, policy, {}).removals == ()


def test_our_own_files_are_no_change(tmp_path: Path) -> None:
    (only,) = verified(tmp_path, 100)
    write_file(tmp_path / "checkpoint-100", ".lastgood.json", b"{}")
    assert is_as_verified(only)


def test_what_the_disk_does_not_list_is_not_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (only,) = verified(tmp_path, 100)

    def scandir(_path: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.scandir", scandir)
    assert not is_as_verified(only)


def test_a_disk_that_is_mounted_later_is_looked_at_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inodes_are_stable(str(tmp_path / "mount"))
    (tmp_path / "mount").mkdir()
    monkeypatch.setattr(writers, "filesystem_of", lambda _path: "nfs4")
    assert not inodes_are_stable(str(tmp_path / "mount"))


@pytest.mark.parametrize(
    ("mtime_ns", "year"),
    [
        pytest.param(0, 1970, id="no time at all"),
        pytest.param(-(10**18), 1970, id="before the epoch"),
        pytest.param(10**28, 9999, id="beyond the calendar"),
        pytest.param(10**18, 2001, id="any other"),
    ],
)
def test_a_file_may_claim_any_time(mtime_ns: int, year: int) -> None:
    found: datetime = saved_at(Inventory((Entry("a", 1, mtime_ns, 0, 0),)))
    assert (found.year, found.tzinfo) == (year, UTC)
