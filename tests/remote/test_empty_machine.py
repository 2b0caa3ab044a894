"""A machine is lost with its disk. On an empty one, the bucket and one command go on as if nothing had happened."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import train
from comparing import losses_of, losses_that_differ
from example_job import assert_same_end, ended, process_as_it_was, save_small_model, started
from example_job import uninterrupted as never_interrupted
from lastgood.settings import Settings
from lastgood.training import CheckpointManager
from small_job import Recipe, SmallJob
from training_ranks import in_two_processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloud_world import Cloud


END = 14


@pytest.fixture(autouse=True)
def _left_as_it_was() -> Iterator[None]:
    with process_as_it_was():
        yield


def manager_in(folder: Path, cloud: Cloud) -> CheckpointManager:
    """A manager of a folder that nobody watches."""
    return CheckpointManager(folder, settings=Settings(url="http://127.0.0.1:1", **cloud.settings))


def lost_machine(place: Path, cloud: Cloud, stop: int) -> None:
    """A job trained so many steps there; its last checkpoint was copied, and everything else is gone."""
    job = SmallJob(Recipe())
    job.train(stop)
    cloud.upload(Path(job.save(manager_in(place / "lost/run", cloud))), "run")
    shutil.rmtree(place / "lost")


def test_a_job_on_an_empty_machine_ends_as_if_it_had_never_been_interrupted(cloud: Cloud, place: Path) -> None:
    uninterrupted = SmallJob(Recipe())
    uninterrupted.train(END)
    lost_machine(place, cloud, 8)

    resumed = SmallJob(Recipe(), seed=99)
    start = resumed.restore(manager_in(place / "new/run", cloud), fetch=True)
    assert start is not None
    assert (start.step, start.exact, start.path) == (8, True, f"{place}/new/run/checkpoint-8")
    resumed.train(END)
    assert resumed.everything() == uninterrupted.everything()


def test_a_job_that_does_not_ask_for_it_starts_from_what_lies_there(cloud: Cloud, place: Path) -> None:
    lost_machine(place, cloud, 2)
    assert SmallJob(Recipe()).restore(manager_in(place / "new/run", cloud)) is None


def test_of_several_processes_the_first_one_fetches_and_all_go_on(
    cloud: Cloud, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    lost_machine(place, cloud, 3)

    def restore(rank: int) -> str:
        manager = manager_in(place / "new/run", cloud)
        if rank:
            manager._asking._last_good = None  # type: ignore[assignment, method-assign]  # who else asked would fail
        start = SmallJob(Recipe(), seed=rank).restore(manager, fetch=True)
        assert start is not None
        return str(start.step)

    assert in_two_processes(place / "store", restore) == ["3", "3"]


def test_an_empty_machine_the_bucket_and_one_command(cloud: Cloud, place: Path) -> None:
    small = save_small_model(place / "small")
    expected = never_interrupted(place / "expected", small)
    lost = place / "lost/run"
    assert ended(started(lost, "--pretrained-model", str(small), "--epochs", "1")) == 0
    (last,) = (lost / name for name in os.listdir(lost) if name == "checkpoint-25")
    cloud.upload(last, "run")
    shutil.rmtree(place / "lost")

    new = place / "new/run"
    assert ended(started(new, "--resume-from-checkpoint", "latest", "--fetch")) == 0
    assert "goes on at step 25" in (new / "job.log").read_text()
    assert [step for step, _loss in losses_of(new)] == list(range(26, 51))
    assert losses_that_differ(losses_of(new), dict(losses_of(expected))) == []
    assert_same_end(new, expected)


def test_fetching_belongs_to_going_on_from_the_latest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.options_from(["--model-output", "run", "--fetch"])
    assert "--fetch belongs to --resume-from-checkpoint latest" in capsys.readouterr().err
