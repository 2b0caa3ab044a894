"""What is damaged is fetched from a copy of the same save, and no byte is ever lost."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from builders import make_hf_checkpoint
from cloud_worker import cloud_world
from commanding import run, settle_in
from injuries import flip_bit_in_storage
from lastgood.errors import CannotMend
from lastgood.mending import carrying
from lastgood.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

    from cloud_world import Cloud
    from s3_servers import S3Server


@pytest.fixture
def checkpoint(cloud: Cloud, place: Path) -> Path:
    """Copied, and afterwards damaged: one bit of its optimizer, and no scheduler."""
    cloud.save(place, "llama", 100)
    folder = place / "llama" / "checkpoint-100"
    flip_bit_in_storage(folder / "optimizer.pt")
    (folder / "scheduler.pt").unlink()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_damaged_and_missing_files_are_fetched_and_what_lay_there_is_kept(checkpoint: Path) -> None:
    before = contents(checkpoint)
    code, printed, _complaint = run("fix", checkpoint)
    assert (code, printed.splitlines()[-1]) == (0, f"{checkpoint} is complete")
    assert verify(str(checkpoint)).verdict == "complete"
    after = contents(checkpoint)
    assert after["optimizer.pt.backup"] == before["optimizer.pt"]
    assert {name: after[name] for name in before if name != "optimizer.pt"} == {
        name: content for name, content in before.items() if name != "optimizer.pt"
    }
    assert set(after) - set(before) == {"scheduler.pt", "optimizer.pt.backup"}
    times = {path.stat().st_mtime for path in checkpoint.iterdir() if not path.name.endswith(".backup")}
    assert len(times) == 1


def test_twice_is_once(checkpoint: Path) -> None:
    run("fix", checkpoint, "--no-backup")
    before = contents(checkpoint)
    assert "optimizer.pt.backup" not in before
    assert run("fix", checkpoint) == (0, f"{checkpoint}: nothing is damaged\n", "")
    assert contents(checkpoint) == before


def test_a_dry_run_says_what_would_be_fetched_and_touches_nothing(checkpoint: Path) -> None:
    before = contents(checkpoint)
    code, printed, _complaint = run("fix", checkpoint, "--dry-run")
    assert (code, printed.splitlines()[-1]) == (0, "  it would be complete then; nothing was changed")
    assert [line.strip().partition(":")[0] for line in printed.splitlines()[:-1]] == ["optimizer.pt", "scheduler.pt"]
    assert contents(checkpoint) == before
    code, printed, _complaint = run("fix", checkpoint, "--dry-run", "--json")
    assert json.loads(printed)["files"] == ["optimizer.pt", "scheduler.pt"]


def test_a_copy_of_another_save_mends_nothing(checkpoint: Path) -> None:
    make_hf_checkpoint(checkpoint, 100, weight_rows=6)
    flip_bit_in_storage(checkpoint / "optimizer.pt")
    before = contents(checkpoint)
    code, printed, complaint = run("fix", checkpoint)
    assert (code, printed) == (1, "")
    assert "of another save" in complaint
    assert contents(checkpoint) == before


def test_without_a_copy_of_that_name_nothing_is_done(checkpoint: Path) -> None:
    other = checkpoint.rename(checkpoint.parent / "checkpoint-200")
    code, _printed, complaint = run("fix", other)
    assert code == 1
    assert complaint.endswith("no proven copy of checkpoint-200 is known\n")


def test_what_does_not_help_is_put_back_byte_for_byte(
    checkpoint: Path, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(checkpoint)

    monkeypatch.setattr(carrying, "_judged", _refuses)
    code, _printed, complaint = run("fix", checkpoint)
    assert (code, complaint) == (1, "lastgood: it did not help\n")
    assert contents(checkpoint) == before


def test_a_copy_that_lacks_the_same_hides_no_repair_from_what_is_here(cloud: Cloud, place: Path) -> None:
    folder = make_hf_checkpoint(place / "llama" / "checkpoint-100", 100)
    (folder / "rng_state.pth").unlink()
    cloud.upload(folder, "llama")
    code, printed, _complaint = run("fix", folder)
    assert (code, printed.splitlines()[-1]) == (0, f"{folder} is complete")


def test_a_folder_that_was_lost_is_made_again_and_no_empty_one_is_left_by_a_failure(
    cloud: Cloud, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_hf_checkpoint(place / "llama" / "checkpoint-100", 100)
    part = folder / "global_step100" / "deep" / "part.pt"
    part.parent.mkdir(parents=True)
    part.write_bytes((folder / "scheduler.pt").read_bytes())
    cloud.upload(folder, "llama")
    shutil.rmtree(folder / "global_step100")
    flip_bit_in_storage(folder / "optimizer.pt")
    with monkeypatch.context() as patch:
        patch.setattr(carrying, "_judged", _refuses)
        assert run("fix", folder)[0] == 1
    assert not (folder / "global_step100").exists()
    assert run("fix", folder)[0] == 0
    assert part.read_bytes() == (folder / "scheduler.pt").read_bytes()


def _refuses(*_: object, **__: object) -> None:
    raise CannotMend("it did not help")


def test_what_was_mended_beside_a_watcher_is_handed_out_again_in_its_old_line(
    tmp_path: Path, seaweed: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle_in(tmp_path, monkeypatch)
    with cloud_world(tmp_path, seaweed, bucket, tmp_path.name) as world:
        for step in (100, 200):
            make_hf_checkpoint(world.path(step, "llama"), step)
        world.copy_all()
        flip_bit_in_storage(world.path(100, "llama") / "optimizer.pt")
        world.copy_all()
        monkeypatch.setenv("LASTGOOD_REMOTE", world.settings.remote)
        monkeypatch.setenv("LASTGOOD_REMOTE_ENDPOINT", seaweed.endpoint)
        assert run("fix", world.path(100, "llama"), "--run", "llama")[0] == 0
        world.copy_all()
        world.copy_all()
        mended = world.record("checkpoint-100")
        assert (mended.verdict, mended.evidence, mended.branch) == ("complete", "declared", 1)
        assert world.latest("llama") == "checkpoint-200"
