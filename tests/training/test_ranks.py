"""Several processes of one job: the first one asks and saves, and all of them go on from the same checkpoint."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

from lastgood.errors import Damaged, LastgoodError, NoneAcceptable
from lastgood.training import CheckpointManager, ranks
from lastgood.training import manager as training_manager
from small_job import Recipe, SmallJob
from training_ranks import in_two_processes

if TYPE_CHECKING:
    from pathlib import Path


def test_the_first_process_asks_and_all_load_the_same(manager: CheckpointManager, tmp_path: Path) -> None:
    job = SmallJob(Recipe())
    job.train(3)
    job.save(manager)

    def restore(rank: int) -> str:
        if rank:
            manager._asking._last_good = None  # type: ignore[assignment, method-assign]  # who else asked would fail
        resumed = SmallJob(Recipe(), seed=rank)
        start = resumed.restore(manager)
        assert start is not None
        same = resumed.everything()["weights"] == job.everything()["weights"]
        return f"{start.step} {same}"

    assert in_two_processes(tmp_path / "store", restore) == ["3 True", "3 True"]


def test_a_checkpoint_that_is_named_is_read_to_the_last_byte_by_the_first_process_alone(
    manager: CheckpointManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = SmallJob(Recipe())
    job.train(1)
    path = job.save(manager)

    def resume(rank: int) -> str:
        if rank:
            monkeypatch.setattr(training_manager, "verify", None)  # who else called it would fail
        resumed = SmallJob(Recipe(), seed=rank)
        named = CheckpointManager(manager.folder, resume_from_checkpoint=path)
        start = named.resume(resumed.model, resumed.optimizer, resumed.scheduler)
        assert start is not None
        return f"{start.step} {resumed.everything()['weights'] == job.everything()['weights']}"

    assert in_two_processes(tmp_path / "store", resume) == ["1 True", "1 True"]
    os.truncate(os.path.join(path, "training_state.pt"), 100)
    told = in_two_processes(tmp_path / "again", resume)
    assert [text.partition(":")[0] for text in told] == [Damaged.__name__, LastgoodError.__name__]


def test_a_refusal_stops_all_of_them(manager: CheckpointManager, tmp_path: Path) -> None:
    job = SmallJob(Recipe())
    job.train(1)
    os.truncate(os.path.join(job.save(manager), "training_state.pt"), 100)
    told = in_two_processes(tmp_path / "store", lambda _rank: SmallJob(Recipe()).restore(manager))
    assert [text.partition(":")[0] for text in told] == [NoneAcceptable.__name__, LastgoodError.__name__]
    assert all("no judged checkpoint can be handed out" in text for text in told)


def test_the_others_save_nothing(manager: CheckpointManager, tmp_path: Path) -> None:
    def save(rank: int) -> str:
        job = SmallJob(Recipe())
        job.step = rank + 1
        job.save(manager)
        return str(rank)

    assert in_two_processes(tmp_path / "store", save) == ["0", "1"]
    assert os.listdir(manager.folder) == ["checkpoint-1"]


def in_shards(model: Any, how: str) -> Any:
    if how == "FSDP":
        return FullyShardedDataParallel(model, device_id=torch.device("cpu"))
    return fully_shard(model, mesh=init_device_mesh("cpu", (2,)))


@pytest.mark.parametrize("how", ["FSDP", "fully_shard"])
def test_a_model_in_parts_is_refused_in_every_process(manager: CheckpointManager, tmp_path: Path, how: str) -> None:
    def save(_rank: int) -> str:
        model = in_shards(torch.nn.Linear(4, 4), how)
        with pytest.raises(TypeError, match="sharded over several processes"):
            manager.save_checkpoint(tmp_path / "best_model", model)
        with pytest.raises(TypeError) as refused:
            manager.save(1, model=model)
        return str(refused.value).partition(" (")[0]

    assert in_two_processes(tmp_path / "store", save) == ["the model is sharded over several processes"] * 2
    assert os.listdir(manager.folder) == []


def test_whatever_goes_wrong_in_the_first_process_nobody_waits_for_ever(tmp_path: Path) -> None:
    def ask() -> str:
        raise RuntimeError("the disk burns")

    def told(_rank: int) -> str:
        try:
            return ranks.told_by_first(ask)
        except RuntimeError as error:
            return f"itself: {error}"

    first, second = in_two_processes(tmp_path / "store", told)
    assert first == "itself: the disk burns"
    assert second == "LastgoodError: the first process could not tell: the disk burns"


def test_a_job_of_one_process_asks_for_itself() -> None:
    assert ranks.told_by_first(lambda: 7) == 7
    assert ranks.trouble_of_any(None) is None
    assert ranks.trouble_of_any("the disk burns") == "the disk burns"
    assert ranks.is_first()


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
