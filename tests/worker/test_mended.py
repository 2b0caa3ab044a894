"""What is mended beside a watcher is no new save: it is judged again and handed out in its old line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builders import make_plain_checkpoint
from commanding import run, settle_in
from injuries import leave_out
from worker_world import world_in

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_what_was_mended_is_handed_out_in_its_old_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle_in(tmp_path, monkeypatch)
    with world_in(tmp_path) as world:
        for step in (100, 200, 300):
            make_plain_checkpoint(world.path(step), step)
        leave_out("rng_states")(world.path(200) / "training_state.pt")
        world.settle()
        assert world.record("checkpoint-200").verdict == "partial"
        assert run("fix", world.path(200))[0] == 0
        world.settle()
        mended = world.record("checkpoint-200")
        assert (mended.verdict, mended.evidence, mended.branch) == ("complete", "declared", 1)
        assert world.latest() == "checkpoint-300"
        assert [event.message for event in world.events("mended")] == ["checkpoint-200 was mended"]
        assert world.events("came-back") == []


def test_what_was_mended_by_the_name_of_a_link_is_no_new_save_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle_in(tmp_path, monkeypatch)
    with world_in(tmp_path) as world:
        for step in (100, 200):
            make_plain_checkpoint(world.path(step), step)
        leave_out("rng_states")(world.path(100) / "training_state.pt")
        world.settle()
        (tmp_path / "best").symlink_to(world.path(100))
        code, printed, _complaint = run("fix", tmp_path / "best")
        assert (code, printed.splitlines()[-1]) == (0, f"{world.path(100)} is complete")
        world.settle()
        assert world.record("checkpoint-100").verdict == "complete"
        assert [event.message for event in world.events("mended")] == ["checkpoint-100 was mended"]


def test_the_newest_one_is_handed_out_once_it_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle_in(tmp_path, monkeypatch)
    with world_in(tmp_path) as world:
        for step in (100, 200):
            make_plain_checkpoint(world.path(step), step)
        (world.path(200) / "config.json").unlink()
        world.settle()
        assert world.latest() == "checkpoint-100"
        assert run("fix", "--all", world.root)[0] == 0
        world.settle()
        assert world.latest() == "checkpoint-200"
