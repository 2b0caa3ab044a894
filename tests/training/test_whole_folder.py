"""A save is there whole or not at all, whenever the process is killed."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from injecting import ALL, CHANGES, calls_of, killed_at
from lastgood import durable, naming
from lastgood.discovery import discover
from lastgood.findings import Verdict
from lastgood.training import CheckpointManager
from lastgood.training import whole_folder as whole_folders
from lastgood.training.whole_folder import whole_folder
from lastgood.verify import verify
from small_job import Recipe, SmallJob

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def job(manager: CheckpointManager) -> SmallJob:
    """A job that has saved once, at step 1."""
    made = SmallJob(Recipe())
    made.train(1)
    made.save(manager)
    return made


def no_exchange(_one: str, _other: str) -> bool:
    return False


def in_a_child(act: Callable[[int], Any]) -> tuple[int, int]:
    """Process id of a fork that acts, and the end of a pipe to which it can write."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            act(writer)
        finally:
            os._exit(0)
    os.close(writer)
    return child, reader


def assert_all_that_is_there_is_good(manager: CheckpointManager, *names: str) -> None:
    found = {candidate.name for candidate in discover(manager.folder).candidates}
    assert found >= set(names)
    verdicts = {name: verify(os.path.join(manager.folder, name)).verdict for name in found}
    assert set(verdicts.values()) == {Verdict.COMPLETE}
    # Whoever looks at names alone is not misled either.
    others = set(os.listdir(manager.folder)) - found
    assert all(naming.is_temporary(name) for name in others), others


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    ("steps", "exchange", "calls"),
    [
        pytest.param(2, True, ALL, id="a new checkpoint, at every call"),
        pytest.param(1, True, CHANGES, id="one in place of another"),
        pytest.param(1, False, CHANGES, id="in place of another where names cannot be exchanged"),
    ],
)
def test_a_save_killed_at_any_system_call_leaves_nothing_that_looks_finished(
    manager: CheckpointManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, exchange: bool, calls: str
) -> None:
    if not exchange:
        monkeypatch.setattr(durable, "exchange", no_exchange)
    job = SmallJob(Recipe())
    job.train(1)
    job.model.config = {"width": 6}  # so that the weights get a file of their own

    def save_after(step: int) -> None:
        job.step = step
        job.save(manager)

    save_after(1)
    before = shutil.copytree(manager.folder, tmp_path / "before")

    def begin_again() -> None:
        shutil.rmtree(manager.folder)
        shutil.copytree(before, manager.folder)

    begin_again()
    points = calls_of(lambda: save_after(steps), tmp_path / "calls", calls)
    ended = Counter[str]()
    for name, number in points:
        begin_again()
        ended[name] += killed_at(lambda: save_after(steps), name, number)
        whole_folders.put_back(manager.folder)  # as the next save and the next start do
        assert_all_that_is_there_is_good(manager, "checkpoint-1")
    print(f"killed at {ended.total()} of {len(points)} system calls: {dict(ended)}")
    # The C library's own looks, at /proc and for memory, come as they like: the last few of a name may not be there.
    assert ended.total() >= 0.95 * len(points)
    assert min(ended["mkdir"], ended["fsync"], ended["write"] + ended["writev"], ended["openat"]) > 0
    save_after(steps)
    assert sorted(os.listdir(manager.folder)) == sorted({"checkpoint-1", f"checkpoint-{steps}"})


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_save_killed_at_a_random_moment_leaves_nothing_that_looks_finished(
    manager: CheckpointManager, job: SmallJob, seed: int, *, beside: bool
) -> None:
    manager = CheckpointManager(manager.folder, settings=manager._settings, async_save=beside)

    def save_again_and_again(writer: int) -> None:
        os.write(writer, b".")
        for step in range(2, 10_000):
            job.step = step % 7 + 1
            job.save(manager)

    child, reader = in_a_child(save_again_and_again)
    assert os.read(reader, 1) == b"."
    select.select([reader], [], [], random.Random(seed).uniform(0.02, 0.2))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    assert_all_that_is_there_is_good(manager, "checkpoint-1")


def test_a_failed_save_leaves_the_earlier_one_and_nothing_else(manager: CheckpointManager, job: SmallJob) -> None:
    before = verify(os.path.join(manager.folder, "checkpoint-1")).fingerprint
    with pytest.raises(TypeError, match="neither a tensor nor a plain value"):
        manager.save(1, model=job.model, optimizer=job.optimizer, additional_state={"not plain": random.Random(1)})
    assert os.listdir(manager.folder) == ["checkpoint-1"]
    assert verify(os.path.join(manager.folder, "checkpoint-1")).fingerprint == before


@pytest.mark.parametrize(
    ("folder", "inside"),
    [
        pytest.param("output", "checkpoint-1/config.json", id="the folder of the run"),
        pytest.param("final", "notes.txt", id="somebody's own file"),
        pytest.param("checkpoint-5", "checkpoint-7/config.json", id="checkpoints inside one"),
    ],
)
def test_a_folder_that_holds_other_things_is_not_replaced(tmp_path: Path, folder: str, inside: str) -> None:
    file = tmp_path / folder / inside
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(FileExistsError, match="a save would replace it"), whole_folder(str(tmp_path / folder)):
        pass
    assert file.read_text() == "mine"


def test_a_file_of_that_name_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint-5"
    file.write_text("mine")
    with pytest.raises(FileExistsError, match="it is no folder"), whole_folder(str(file)):
        pass
    assert file.read_text() == "mine"


def test_a_link_that_leads_nowhere_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-1").symlink_to(tmp_path / "gone")
    with whole_folder(str(tmp_path / "checkpoint-1")) as folder:
        shutil.copy(__file__, os.path.join(folder, "config.json"))
    assert not (tmp_path / "checkpoint-1").is_symlink()
    assert (tmp_path / "checkpoint-1" / "config.json").exists()


def test_a_link_is_replaced_and_what_it_leads_to_is_not(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "config.json").write_text("old")
    (tmp_path / "best_model").symlink_to("checkpoint-1")
    with whole_folder(str(tmp_path / "best_model")) as folder, open(f"{folder}/config.json", "w") as file:
        file.write("new")
    assert (tmp_path / "checkpoint-1" / "config.json").read_text() == "old"
    assert (tmp_path / "best_model" / "config.json").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["best_model", "checkpoint-1"]


def test_two_processes_do_not_save_the_same_checkpoint_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "checkpoint-1")
    with whole_folder(path) as folder:
        with open(f"{folder}/config.json", "w") as file:
            file.write("{}")
        with pytest.raises(BlockingIOError, match="another process"), whole_folder(path):
            pass
    assert os.listdir(path) == ["config.json"]


def test_a_checkpoint_is_not_put_back_while_a_living_save_replaces_it(
    manager: CheckpointManager, job: SmallJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another process that starts just then, where names cannot be exchanged."""
    rename, seen = os.rename, list[str]()

    def interrupted(source: str, target: str) -> None:
        rename(source, target)
        if ".tmp-earlier." in target:
            whole_folders.put_back(manager.folder)
            seen.extend(os.listdir(manager.folder))

    monkeypatch.setattr(durable, "exchange", no_exchange)
    monkeypatch.setattr(os, "rename", interrupted)
    job.losses.append(0.5)
    job.save(manager)
    assert sorted(seen) == [".tmp-checkpoint-1", ".tmp-earlier.checkpoint-1"]
    assert os.listdir(manager.folder) == ["checkpoint-1"]
    assert_all_that_is_there_is_good(manager, "checkpoint-1")


def test_why_one_could_not_be_replaced_is_told_and_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, rename = tmp_path / "checkpoint-1", os.rename

    def put_back_by_somebody_else(source: str, target: str) -> None:
        rename(source, target)
        if ".tmp-earlier." in target:
            rename(target, source)

    with whole_folder(str(path)) as folder, open(f"{folder}/config.json", "w") as file:
        file.write("old")
    monkeypatch.setattr(durable, "exchange", no_exchange)
    monkeypatch.setattr(os, "rename", put_back_by_somebody_else)
    with pytest.raises(OSError, match="not empty"), whole_folder(str(path)) as folder:
        os.mkdir(f"{folder}/inside")
    assert (path / "config.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["checkpoint-1"]


def test_what_a_save_killed_at_its_end_had_replaced_is_cleared_away_by_the_next_one(
    manager: CheckpointManager, job: SmallJob
) -> None:
    shutil.copytree(f"{manager.folder}/checkpoint-1", f"{manager.folder}/.tmp-earlier.checkpoint-1")
    job.train(2)
    job.save(manager)
    assert sorted(os.listdir(manager.folder)) == ["checkpoint-1", "checkpoint-2"]


def test_what_has_not_been_replaced_yet_is_no_leftover(tmp_path: Path) -> None:
    (tmp_path / ".tmp-earlier.checkpoint-1").mkdir()
    whole_folders.clear_drafts(str(tmp_path))
    assert os.listdir(tmp_path) == [".tmp-earlier.checkpoint-1"]
