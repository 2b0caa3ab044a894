"""The guides' formats, complete and partial: what is said of their seven components, and what loading makes of them."""

from __future__ import annotations

import json
import logging
import os
import time
from typing import TYPE_CHECKING, Any, Final

import pytest
import torch
from torchdata.stateful_dataloader import StatefulDataLoader
from torchdata.stateful_dataloader.sampler import RandomSampler

from builders import make_plain_checkpoint, pth_files, write_files
from commanding import run, settle_in
from injuries import cut_in_half, empty, flip_bit_in_storage, leave_out, remove
from lastgood import naming, quick_verify_checkpoint
from lastgood.errors import Damaged
from lastgood.settings import Settings
from lastgood.training import CheckpointManager, ResumableLoader
from lastgood.verify import verify
from small_job import Recipe, SmallJob

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOBODY: Final = Settings(url="http://127.0.0.1:1")
SEVEN: Final = ("config", "weights", "tokenizer", "training_state", "optimizer", "scheduler", "rng")
STATE: Final = "training_state.pt"

LACKING: Final = [
    pytest.param(None, None, "complete", set(), id="nothing"),
    pytest.param("optimizer_state_dict", STATE, "partial", {"optimizer"}, id="the optimizer"),
    pytest.param("scheduler_state_dict", STATE, "partial", {"scheduler"}, id="the scheduler"),
    pytest.param("rng_states", STATE, "partial", {"rng"}, id="random states"),
    pytest.param(None, "config.json", "incomplete", {"config"}, id="the configuration"),
    pytest.param(None, "model.safetensors", "incomplete", {"weights"}, id="the weights"),
    pytest.param(
        None, STATE, "incomplete", {"training_state", "optimizer", "scheduler", "rng"}, id="the training state"
    ),
]


@pytest.mark.parametrize(("key", "file", "verdict", "lacking"), LACKING)
def test_each_of_the_seven_components_is_told(
    tmp_path: Path, key: str | None, file: str | None, verdict: str, lacking: set[str]
) -> None:
    folder = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    if file is not None:
        (leave_out(key) if key else remove)(folder / file)
    told = CheckpointManager.verify_checkpoint(folder)
    assert tuple(told) == SEVEN
    assert {name for name, there in told.items() if not there} == lacking
    assert verify(str(folder)).verdict == verdict
    code, printed, _complaint = run("verify", folder)
    assert (code, verdict.upper() in printed) == (0 if verdict == "complete" else 1, True)


def test_a_component_that_is_damaged_is_not_there(tmp_path: Path) -> None:
    folder = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    flip_bit_in_storage(folder / STATE)
    told = CheckpointManager.verify_checkpoint(folder)
    assert (told["weights"], told["optimizer"], told["rng"]) == (True, False, False)


@pytest.mark.parametrize(
    ("injure", "error", "said"),
    [
        pytest.param(lambda f: remove(f / "config.json"), FileNotFoundError, r"config\.json", id="no configuration"),
        pytest.param(lambda f: remove(f / "model.safetensors"), FileNotFoundError, "no weights", id="no weights"),
        pytest.param(lambda f: remove(f / STATE), FileNotFoundError, "no training state", id="no training state"),
        pytest.param(lambda f: empty(f / STATE), ValueError, "has no content", id="an empty file"),
        pytest.param(lambda f: cut_in_half(f / STATE), ValueError, r"training_state\.pt", id="half a state"),
        pytest.param(lambda f: cut_in_half(f / "model.safetensors"), ValueError, "bytes", id="half the weights"),
        pytest.param(lambda f: f.rename(f.with_name("gone")), FileNotFoundError, "no such folder", id="no folder"),
    ],
)
def test_the_quick_look_tells_what_is_missing_from_what_is_broken(
    tmp_path: Path, injure: Callable[[Path], object], error: type[Exception], said: str
) -> None:
    folder = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    quick_verify_checkpoint(folder)
    injure(folder)
    with pytest.raises(error, match=said):
        quick_verify_checkpoint(folder)


def test_the_quick_look_lets_pass_what_a_resume_can_start_anew(tmp_path: Path) -> None:
    folder = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    leave_out("scheduler_state_dict")(folder / STATE)
    quick_verify_checkpoint(folder)
    quick_verify_checkpoint(write_files(tmp_path / "last_checkpoint", pth_files(2, 0, 10, optimizer_steps=20)))


def test_the_quick_look_reads_no_payload(tmp_path: Path) -> None:
    job = SmallJob(Recipe())
    job.model.append(torch.nn.Linear(4000, 4000))
    CheckpointManager.save_checkpoint(tmp_path / "checkpoint-1", job.model, job.optimizer, job.scheduler)
    started = time.process_time()
    quick_verify_checkpoint(tmp_path / "checkpoint-1")
    assert time.process_time() - started < 1


def test_a_damaged_checkpoint_is_not_loaded_and_nothing_is_touched(tmp_path: Path) -> None:
    job = SmallJob(Recipe())
    job.train(3)
    path = job.save(CheckpointManager(tmp_path / "output", settings=NOBODY))
    (tmp_path / "output" / "checkpoint-3" / naming.FILE_LIST).unlink()
    flip_bit_in_storage(tmp_path / "output" / "checkpoint-3" / STATE)
    other = SmallJob(Recipe(), seed=9)
    before = other.everything()
    with pytest.raises(Damaged, match="CRC-32"):
        CheckpointManager.load_checkpoint(path, other.model, other.optimizer, other.scheduler)
    assert other.everything() == before


def resumed(tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[SmallJob], object]) -> str:
    """What a job logs that goes on in other circumstances."""
    caplog.set_level(logging.INFO, "lastgood")
    job = SmallJob(Recipe())
    job.train(3)
    manager = CheckpointManager(tmp_path / "output", settings=NOBODY)
    job.save(manager)
    other = SmallJob(Recipe())
    change(other)
    other.restore(manager)
    return caplog.text


def test_another_batch_size_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = resumed(tmp_path, caplog, lambda job: setattr(job.loader, "batch_size", 16))
    assert "the batch size was 4 when it was saved, and is 16" in said


def test_another_range_of_learning_rates_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = resumed(tmp_path, caplog, lambda job: job.optimizer.param_groups[0].update(initial_lr=0.1))
    assert "the learning rates were set to 0.05 when it was saved, and to 0.1 here" in said


def test_a_rate_that_the_measurements_lowered_is_not_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def job() -> tuple[Any, Any, Any]:
        model = torch.nn.Linear(2, 2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        return model, optimizer, torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)

    model, optimizer, scheduler = job()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    for loss in (1.0, 2.0, 3.0):
        scheduler.step(loss)
    manager = CheckpointManager(tmp_path / "output", settings=NOBODY)
    manager.save(3, model=model, optimizer=optimizer, scheduler=scheduler)
    model, optimizer, scheduler = job()
    assert manager.restore_latest(model, optimizer, scheduler) is not None
    assert optimizer.param_groups[0]["lr"] == 0.025
    assert "the learning rates were set" not in caplog.text


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize("theirs_is_saved", [True, False])
def test_the_position_of_another_kind_of_loader_is_refused_before_it_is_lost(
    tmp_path: Path, theirs_is_saved: bool
) -> None:
    loaders = (StatefulDataLoader(range(8), 2), ResumableLoader(range(8), 2))
    saved, given = loaders if theirs_is_saved else reversed(loaders)
    model = torch.nn.Linear(2, 2)
    manager = CheckpointManager(tmp_path / "output", settings=NOBODY)
    path = manager.save(1, model=model, dataloader=saved)
    with pytest.raises(ValueError, match=r"not the state of a ResumableLoader|by another loader than torchdata's"):
        CheckpointManager.load_checkpoint(path, model, dataloader=given)


def test_another_number_of_processes_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = resumed(tmp_path, caplog, lambda _job: monkeypatch.setattr("lastgood.training.ranks.count", lambda: 4))
    assert "the number of processes was 1 when it was saved, and is 4" in said


def test_the_same_circumstances_give_no_warning_and_the_rate_is_told_before_and_after(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = resumed(tmp_path, caplog, lambda _job: None)
    assert "at step 3 the learning rate is 0.035; before it was restored, it was 0.05" in said
    for what in ("optimizer", "scheduler"):
        assert f"restored the state of the {what}" in said
    assert "may jump" not in said


def test_the_list_of_files_tells_what_was_saved_by_what(tmp_path: Path) -> None:
    job = SmallJob(Recipe())
    job.train(3)
    manager = CheckpointManager(tmp_path / "output", settings=NOBODY)
    metrics = {"eval_loss": torch.tensor(0.5), "bleu": float("nan"), "name": "mine"}
    path = manager.save(3, model=job.model, dataloader=job.loader, epoch=1, epoch_losses=[0.5, 0.25], metrics=metrics)
    with open(os.path.join(path, naming.FILE_LIST), encoding="utf-8") as file:
        told = json.loads(file.read(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert (told["step"], told["epoch"], told["epoch_losses"]) == (3, 1, [0.5, 0.25])
    assert told["metrics"] == {"eval_loss": 0.5, "bleu": None, "name": "mine"}
    assert (told["batch_size"], told["total_batches"], told["world_size"]) == (4, 11, 1)
    assert told["versions"].keys() >= {"python", "lastgood", "torch", "numpy"}
    commit = told["git_commit"]
    assert commit is None or len(commit) == 40


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize("epoch_of_the_save", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_torchdatas_loader_goes_on_with_the_batch_after_the_last(
    tmp_path: Path, workers: int, epoch_of_the_save: int
) -> None:
    def loader() -> Any:
        samples = list(range(20))
        order = RandomSampler(samples, generator=torch.Generator().manual_seed(5))
        chance = torch.Generator().manual_seed(6)
        return StatefulDataLoader(samples, 3, sampler=order, generator=chance, num_workers=workers)

    model = torch.nn.Linear(2, 2)
    manager = CheckpointManager(tmp_path / "output", settings=NOBODY)
    seen, data, path, done = [], loader(), "", 0
    for epoch in (1, 2, 3):
        for number, batch in enumerate(data, 1):
            seen.append(batch.tolist())
            if (epoch, number) == (epoch_of_the_save, 4):
                path, done = manager.save(4, model=model, dataloader=data), len(seen)
    other = loader()
    CheckpointManager.load_checkpoint(path, model, dataloader=other)
    assert [batch.tolist() for _epoch in range(epoch_of_the_save, 4) for batch in other] == seen[done:]


def test_training_goes_on_from_what_was_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle_in(tmp_path, monkeypatch)
    manager = CheckpointManager(tmp_path / "output", settings=NOBODY)
    job = SmallJob(Recipe())
    for step in (3, 6, 9):
        job.train(step)
        job.save(manager)
    newest = tmp_path / "output" / "checkpoint-9"
    state = torch.load(newest / STATE, weights_only=False)
    del state["rng_states"], state["scheduler_state_dict"], state["best_loss"]
    weights = {f"_orig_mod.{name}": value for name, value in state["model_state_dict"].items()}
    torch.save({**state, "model_state_dict": weights}, newest / STATE)
    (newest / naming.FILE_LIST).unlink()

    code, printed, _complaint = run("fix", newest)
    assert (code, printed.splitlines()[-1]) == (0, f"{newest} is partial")
    resumed = SmallJob(Recipe(), seed=4)
    start = CheckpointManager(tmp_path / "output", settings=NOBODY.model_copy(update={"accept": "partial"}))
    assert resumed.restore(start) is not None
    assert resumed.step == 9
    assert resumed.everything()["weights"] == job.everything()["weights"]
    assert resumed.everything()["optimizer"]["state"] == job.everything()["optimizer"]["state"]
    resumed.train(12)
    path = resumed.save(manager)
    assert verify(path).verdict == "complete"


def test_mending_one_of_our_own_keeps_its_list_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle_in(tmp_path, monkeypatch)
    folder = tmp_path / "output" / "checkpoint-3"
    CheckpointManager.save_checkpoint(folder, torch.nn.ModuleDict({"module": torch.nn.Linear(2, 2)}), global_step=3)
    before = json.loads((folder / naming.FILE_LIST).read_text())
    assert run("fix", folder)[0] == 0
    after = json.loads((folder / naming.FILE_LIST).read_text())
    assert {**after, "files": None} == {**before, "files": None}
    assert not {finding.code for finding in verify(str(folder)).findings} & {"manifest-mismatch", "wrapper-prefix"}
    assert (folder / f"{naming.FILE_LIST}.backup").exists()
