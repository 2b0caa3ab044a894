"""`save_total_limit` counts good checkpoints, leaves the last good ones, and leaves the removing to a live worker."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from injuries import cut_in_half
from lastgood import removal
from lastgood.settings import Settings
from lastgood.training import CheckpointManager, rotation
from small_job import Recipe, SmallJob
from worker_world import world_in

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = Settings(url="http://127.0.0.1:1")


def saves(manager: CheckpointManager, *steps: int) -> SmallJob:
    job = SmallJob(Recipe())
    for step in steps:
        job.train(step)
        job.save(manager)
    manager.wait()
    return job


def there(manager: CheckpointManager) -> list[str]:
    return sorted(name for name in os.listdir(manager.folder) if not name.startswith("."))


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(
    ("limit", "left"),
    [
        pytest.param(None, [1, 2, 3, 4], id="all without a limit"),
        pytest.param(3, [2, 3, 4], id="the newest three"),
        pytest.param(1, [3, 4], id="never fewer than two"),
    ],
)
def test_so_many_good_ones_are_kept(tmp_path: Path, limit: int | None, left: list[int], *, beside: bool) -> None:
    options: dict[str, Any] = {"save_total_limit": limit, "async_save": beside}
    manager = CheckpointManager(tmp_path / "output", settings=NOBODY, **options)
    saves(manager, 1, 2, 3, 4)
    assert there(manager) == [f"checkpoint-{step}" for step in left]
    trash = tmp_path / "output" / ".lastgood" / "trash"
    assert not trash.exists() or list(trash.iterdir()) == []


def test_damaged_ones_do_not_push_good_ones_out_and_go_when_a_newer_one_is_complete(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path / "output", settings=NOBODY)
    job = saves(manager, 1, 2, 3, 4)
    for step in (3, 4):
        cut_in_half(tmp_path / "output" / f"checkpoint-{step}" / "training_state.pt")
    limited = CheckpointManager(tmp_path / "output", settings=NOBODY, save_total_limit=2)
    job.train(5)
    job.save(limited)
    assert there(limited) == ["checkpoint-2", "checkpoint-5"]


def test_a_job_that_begins_anew_keeps_what_it_has_just_saved(tmp_path: Path) -> None:
    options: dict[str, Any] = {"save_total_limit": 2, "resume_from_checkpoint": False, "overwrite_output_dir": True}
    saves(CheckpointManager(tmp_path / "output", settings=NOBODY), 400, 500)
    manager = CheckpointManager(tmp_path / "output", settings=NOBODY, **options)
    job = SmallJob(Recipe())
    for step in (1, 2, 3):
        job.train(step)
        assert os.path.isdir(job.save(manager))
    assert {"checkpoint-2", "checkpoint-3"} <= set(there(manager))


def test_a_job_that_went_back_keeps_what_it_goes_on_from_and_what_it_saves(tmp_path: Path) -> None:
    saves(CheckpointManager(tmp_path / "output", settings=NOBODY), 30, 40, 50)
    path = str(tmp_path / "output" / "checkpoint-30")
    manager = CheckpointManager(tmp_path / "output", settings=NOBODY, save_total_limit=2, resume_from_checkpoint=path)
    job = SmallJob(Recipe())
    start = manager.resume(job.model, job.optimizer, job.scheduler, None, job.loader)
    assert start is not None
    job.step = start.step
    job.train(31)
    assert os.path.isdir(job.save(manager))
    assert {"checkpoint-30", "checkpoint-31"} <= set(there(manager))


def killed_while_it_removes(manager: CheckpointManager, monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    def dies(*_: object, **_named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(removal, before, dies)
        with pytest.raises(KeyboardInterrupt):
            saves(manager, 1, 2, 3)


@pytest.mark.parametrize("before", ["purge", "remove_tree"])
def test_what_a_job_that_was_killed_had_begun_to_remove_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    options: dict[str, Any] = {"settings": NOBODY, "save_total_limit": 2}
    manager = CheckpointManager(tmp_path / "output", **options)
    trash = tmp_path / "output" / ".lastgood" / "trash"
    killed_while_it_removes(manager, monkeypatch, before)
    assert [name.split(".")[0] for name in os.listdir(trash)] == ["checkpoint-1"]
    (trash / "checkpoint-9.1-12345678").mkdir()  # a worker's, which can be brought back
    saves(CheckpointManager(tmp_path / "output", **options), 4)
    assert os.listdir(trash) == ["checkpoint-9.1-12345678"]
    assert there(manager) == ["checkpoint-3", "checkpoint-4"]


def test_what_was_written_to_after_its_job_was_killed_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"settings": NOBODY, "save_total_limit": 2}
    manager = CheckpointManager(tmp_path / "output", **options)
    trash = tmp_path / "output" / ".lastgood" / "trash"
    killed_while_it_removes(manager, monkeypatch, "purge")
    (left,) = trash.iterdir()
    (left / "notes.txt").write_text("mine")
    saves(CheckpointManager(tmp_path / "output", **options), 4)
    assert list(trash.iterdir()) == [left]


def test_where_a_worker_is_at_work_it_does_the_removing(tmp_path: Path) -> None:
    with world_in(tmp_path) as world:
        settings = world.settings.model_copy(update={"url": "http://127.0.0.1:1"})
        folder = world.root / "llama"
        manager = CheckpointManager(folder, settings=settings, save_total_limit=2)
        saves(manager, 1)
        world.settle()
        lock = os.path.join(settings.state_dir, "worker.lock")
        held = _lock(lock)
        try:
            assert rotation.is_watched(str(folder), settings)
            assert not rotation.is_watched(str(tmp_path / "elsewhere"), settings)
            saves(manager, 2, 3, 4)
            assert len(there(manager)) == 4
        finally:
            os.close(held)
        assert not rotation.is_watched(str(folder), settings)


def _lock(path: str) -> int:
    """As a worker holds it."""
    import fcntl

    held = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return held
