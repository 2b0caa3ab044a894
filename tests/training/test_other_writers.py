"""What the tools of the guides write is loaded, and what we save is loaded by them."""

# ruff: noqa: NPY002 - NumPy's old generator is what the tools draw from

from __future__ import annotations

import copy
import json
import os
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from lastgood.errors import Damaged, NotACheckpoint
from lastgood.training import CheckpointManager, save_rng_states, set_seed
from lastgood.verify import verify
from small_job import Recipe, SmallJob

if TYPE_CHECKING:
    from pathlib import Path


def draws() -> tuple[float, float, float]:
    """The next number of each generator."""
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def trained() -> SmallJob:
    job = SmallJob(Recipe())
    job.train(3)
    return job


def their_state(job: SmallJob) -> dict[str, Any]:
    """The state as the guides' tools put it into a file; NumPy's as it comes."""
    return {
        "epoch": 1,
        "global_step": 3,
        "best_loss": np.float64(0.5),
        "epoch_losses": [1.5, 0.5],
        "optimizer_state_dict": job.optimizer.state_dict(),
        "scheduler_state_dict": job.scheduler.state_dict() if job.scheduler else None,
        "rng_states": {
            "python_rng_state": random.getstate(),
            "numpy_rng_state": np.random.get_state(),
            "torch_rng_state": torch.get_rng_state(),
        },
    }


def loaded(folder: Path, job: SmallJob, **options: Any) -> dict[str, Any]:
    return CheckpointManager.load_checkpoint(
        checkpoint_dir=str(folder),
        model=job.model,
        optimizer=job.optimizer,
        scheduler=job.scheduler,
        device="cpu",
        **options,
    )


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_one_file_with_everything_is_loaded(tmp_path: Path, prefix: str) -> None:
    job = trained()
    weights = {prefix + name: value for name, value in job.model.state_dict().items()}
    torch.save({**their_state(job), "model_state_dict": weights}, tmp_path / "training_state.pt")
    expected = job.everything()
    job.train(4)

    other = SmallJob(Recipe(), seed=5)
    info = loaded(tmp_path, other)

    assert (info["global_step"], info["epoch"], info["best_loss"], info["epoch_losses"]) == (3, 1, 0.5, [1.5, 0.5])
    found = other.everything()
    same = ("weights", "optimizer", "scheduler", "random")
    assert {part: found[part] for part in same} == {part: expected[part] for part in same}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_weights_beside_the_state_are_loaded(tmp_path: Path, name: str) -> None:
    job = trained()
    if name.endswith(".bin"):
        torch.save(job.model.state_dict(), tmp_path / name)
    else:
        safetensors.torch.save_file(job.model.state_dict(), tmp_path / name)
    torch.save(their_state(job), tmp_path / "training_state.pt")
    other = SmallJob(Recipe(), seed=5)
    loaded(tmp_path, other)
    assert other.everything()["weights"] == job.everything()["weights"]


def test_weights_in_several_files_are_loaded(tmp_path: Path) -> None:
    job = trained()
    weights = job.model.state_dict()
    shards = {f"model-{n + 1:05}-of-{len(weights):05}.safetensors": name for n, name in enumerate(weights)}
    for shard, name in shards.items():
        safetensors.torch.save_file({name: weights[name]}, tmp_path / shard)
    index = {"metadata": {}, "weight_map": {name: shard for shard, name in shards.items()}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    torch.save(their_state(job), tmp_path / "training_state.pt")
    other = SmallJob(Recipe(), seed=5)
    loaded(tmp_path, other)
    assert other.everything()["weights"] == job.everything()["weights"]


def shard(folder: Path, name: str, weights: dict[str, Any]) -> str:
    safetensors.torch.save_file(weights, folder / name)
    return name


def test_of_two_saves_in_one_folder_the_index_says_which_is_meant(tmp_path: Path) -> None:
    job, stray = trained(), SmallJob(Recipe(), seed=9)
    names = list(job.model.state_dict())
    for count, weights in ((2, job.model.state_dict()), (3, stray.model.state_dict())):
        parts = [names[place::count] for place in range(count)]
        files = [
            shard(tmp_path, f"model-{n + 1:05}-of-{count:05}.safetensors", {name: weights[name] for name in part})
            for n, part in enumerate(parts)
        ]
        if count == 2:
            mapping = {name: file for part, file in zip(parts, files, strict=True) for name in part}
            (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": mapping}))
    (tmp_path / "config.json").write_text("{}")
    torch.save(their_state(job), tmp_path / "training_state.pt")
    other = SmallJob(Recipe(), seed=5)
    loaded(tmp_path, other)
    assert other.everything()["weights"] == job.everything()["weights"]
    assert not verify(str(tmp_path)).exact_resume

    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(Damaged, match="is in another file as well"):
        loaded(tmp_path, SmallJob(Recipe()), level=None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("model.safetensors.index.json", b'{"weight_map": {"a', id="an index that breaks off"),
        pytest.param("model.safetensors.index.json", b"[]", id="a list for an index"),
        pytest.param("model.safetensors.index.json", b"{}", id="an index without its map"),
        pytest.param("model.safetensors.index.json", b'{"weight_map": [1]}', id="a list for its map"),
        pytest.param("model.safetensors.index.json", b'{"weight_map": {"a": 1, "b": "c"}}', id="a number for a shard"),
        pytest.param("model.safetensors.index.json", b"\xff\xfe", id="no text for an index"),
        pytest.param("model-1.safetensors", b"\x20", id="a shard that breaks off"),
        pytest.param("training_state.pt", b"PK\x03\x04", id="a state that breaks off"),
        pytest.param("training_state.pt", b"", id="an empty state"),
    ],
)
def test_what_is_trusted_and_cannot_be_read_is_named_with_what_is_broken(
    tmp_path: Path, name: str, content: bytes
) -> None:
    job = trained()
    places = dict.fromkeys(job.model.state_dict(), shard(tmp_path, "model-1.safetensors", job.model.state_dict()))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (tmp_path / "config.json").write_text("{}")
    torch.save(their_state(job), tmp_path / "training_state.pt")
    loaded(tmp_path, SmallJob(Recipe()), level=None)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Damaged, match="is not loaded"):
        loaded(tmp_path, SmallJob(Recipe()), level=None)


def without(state: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key not in keys}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"rng_states": None}, "no random state of Python, NumPy, torch", id="no random states"),
        pytest.param({"rng_states": {"torch_rng_state": None}}, "no random state of", id="random states of None"),
        pytest.param({"optimizer_state_dict": {}}, "no state of the optimizer", id="an empty optimizer state"),
        pytest.param({"scheduler_state_dict": {}}, "no state of the scheduler", id="an empty scheduler state"),
    ],
)
def test_what_is_not_there_is_said_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, Any], said: str
) -> None:
    job = trained()
    state = {**their_state(job), "model_state_dict": job.model.state_dict(), **change}
    torch.save(state, tmp_path / "training_state.pt")
    assert loaded(tmp_path, SmallJob(Recipe()))["global_step"] == 3
    assert said in caplog.text


@pytest.mark.parametrize(
    ("file", "state", "step"),
    [
        pytest.param("training_state.pt", {"global_step": 7}, 7, id="a step"),
        pytest.param("training_state.pth", {"epoch": 2, "step": 0, "total_batches": 5}, 10, id="a finished epoch"),
        pytest.param("training_state.pth", {"epoch": 3, "step": 4, "total_batches": 5}, 14, id="batches of an epoch"),
        pytest.param("training_state.pt", {}, 12, id="the folder's name alone"),
    ],
)
def test_the_step_is_told_as_its_writer_counts(tmp_path: Path, file: str, state: dict[str, Any], step: int) -> None:
    folder = tmp_path / "checkpoint-12"
    folder.mkdir()
    job = trained()
    names = {"optimizer": job.optimizer.state_dict(), "lr_scheduler": {"last_epoch": 3}}
    torch.save({**names, "model_state_dict": job.model.state_dict(), **state}, folder / file)
    other = SmallJob(Recipe(), seed=5)
    assert loaded(folder, other)["global_step"] == step
    assert other.everything()["optimizer"] == job.everything()["optimizer"]


def test_in_mid_epoch_the_epochs_that_are_done_and_the_batches_to_skip_are_told(tmp_path: Path) -> None:
    job = trained()
    state = {**their_state(job), "model_state_dict": job.model.state_dict(), "epoch": 3, "step": 4, "total_batches": 5}
    torch.save(without(state, "global_step"), tmp_path / "training_state.pth")
    info = loaded(tmp_path, SmallJob(Recipe()))
    assert (info["epoch"], info["batches_done"], info["global_step"]) == (2, 4, 14)
    manager = CheckpointManager(tmp_path / "run", resume_from_checkpoint=str(tmp_path))
    restored = manager.resume(job.model, job.optimizer, job.scheduler)
    assert restored is not None
    assert (restored.epoch, restored.batches_done, restored.step) == (2, 4, 14)
    torch.save({**without(state, "global_step"), "step": 0}, tmp_path / "training_state.pth")
    info = loaded(tmp_path, SmallJob(Recipe()))
    assert (info["epoch"], info["batches_done"], info["global_step"]) == (3, 0, 15)


@pytest.mark.parametrize("state", [{}, {"global_step": -5}, {"global_step": "many"}, {"epoch": 1}])
def test_that_no_step_is_told_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, state: dict[str, Any]) -> None:
    job = trained()
    without_step = without(their_state(job), "global_step", "epoch")
    torch.save({**without_step, "model_state_dict": job.model.state_dict(), **state}, tmp_path / "training_state.pt")
    assert loaded(tmp_path, SmallJob(Recipe()))["global_step"] == 0
    assert "does not tell its step: training begins with step 0" in caplog.text


@pytest.mark.parametrize("level", ["full", None])
@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param({"optimizer_state_dict": "x"}, Damaged, id="a text for the optimizer"),
        pytest.param({"scheduler_state_dict": 7}, Damaged, id="a number for the scheduler"),
        pytest.param({"optimizer_state_dict": [{}]}, ValueError, id="the states of several optimizers"),
        pytest.param(None, Damaged, id="no state at all"),
        pytest.param([1, 2], Damaged, id="a list for a state"),
        pytest.param(
            {"optimizer_state_dict": torch.optim.SGD([torch.ones(1)], lr=0.1).state_dict()}, ValueError,
            id="the optimizer of another model",
        ),
        pytest.param(
            {"optimizer_state_dict": {"state": {0: {"exp_avg": torch.ones(1)}}}}, ValueError,
            id="an optimizer without groups",
        ),
        pytest.param(
            {"optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 1}]}}, ValueError, id="groups of nothing"
        ),
        pytest.param({"rng_states": {"torch_rng_state": [1, 2]}}, ValueError, id="a list for torch's random state"),
        pytest.param({"rng_states": {"python_rng_state": "x"}}, ValueError, id="a text for Python's random state"),
        pytest.param({"rng_states": {"numpy_rng_state": 5}}, ValueError, id="a number for NumPy's random state"),
        pytest.param("weights", Damaged, id="a list for weights"),
    ],
)  # fmt: skip
def test_what_is_no_state_of_this_job_is_refused_before_anything_is_changed(
    tmp_path: Path, change: Any, error: type[Exception], level: str | None
) -> None:
    job = trained()
    torch.save(job.model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    torch.save({**their_state(job), **change} if isinstance(change, dict) else change, tmp_path / "training_state.pt")
    if change == "weights":
        torch.save(their_state(job), tmp_path / "training_state.pt")
        torch.save([1, 2], tmp_path / "pytorch_model.bin")
    other = SmallJob(Recipe(), seed=5)
    before = other.everything()
    with pytest.raises((error, Damaged)):
        loaded(tmp_path, other, level=level)
    assert other.everything() == before


def test_the_state_of_another_optimizer_leaves_everything_as_it_was(tmp_path: Path) -> None:
    job = SmallJob(Recipe("SGD"))
    job.train(3)
    torch.save({**their_state(job), "model_state_dict": job.model.state_dict()}, tmp_path / "training_state.pt")
    other = SmallJob(Recipe("AdamW"), seed=5)
    other.train(2)
    before = other.everything()
    with pytest.raises(ValueError, match="optimizer does not fit a AdamW: KeyError"):
        loaded(tmp_path, other)
    assert other.everything() == before
    other.train(4)
    with pytest.raises(TypeError, match="a DataLoader does not tell where in the data it stands"):
        loaded(tmp_path, other, dataloader=torch.utils.data.DataLoader([1]))
    with pytest.raises(TypeError, match="the optimizer is one object with a load_state_dict"):
        CheckpointManager.load_checkpoint(tmp_path, other.model, [other.optimizer])


def test_the_state_of_another_scheduler_leaves_everything_as_it_was(tmp_path: Path) -> None:
    job = trained()
    torch.save({**their_state(job), "model_state_dict": job.model.state_dict()}, tmp_path / "training_state.pt")
    other = SmallJob(Recipe(), seed=5)
    other.train(2)
    other.scheduler = torch.optim.lr_scheduler.LambdaLR(other.optimizer, lambda step: 1 / (step + 1))
    before = other.everything()
    with pytest.raises(ValueError, match="scheduler does not fit a LambdaLR: KeyError: 'lr_lambdas'"):
        loaded(tmp_path, other)
    assert other.everything() == before
    other.train(4)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param({"epoch_losses": np.array([0.5, 0.25])}, {"epoch_losses": [0.5, 0.25]}, id="losses of NumPy"),
        pytest.param({"epoch_losses": 0.5}, {"epoch_losses": [0.5]}, id="a single loss"),
        pytest.param({"metrics": [0.5]}, {"metrics": {"": [0.5]}}, id="metrics without names"),
        pytest.param({"additional_state": 5}, {"additional_state": {"": 5}}, id="additional state without names"),
        pytest.param({"global_step": torch.tensor([60])}, {"global_step": 60}, id="a step in a tensor"),
        pytest.param(
            {"rng_states": {"numpy_rng_state": np.random.get_state(legacy=False)}}, {}, id="NumPy's other form"
        ),
        pytest.param({"rng_states": [1, 2]}, {"epoch": 1}, id="random states of no known form"),
        pytest.param({"model_state_dict": 3}, {"epoch": 1}, id="no weights beside the weights"),
        pytest.param({"scaler_state_dict": "x"}, {"epoch": 1}, id="a state that nobody asks for"),
    ],
)
def test_what_other_writers_keep_in_other_forms_is_taken(tmp_path: Path, change: Any, found: dict[str, Any]) -> None:
    job = trained()
    torch.save(job.model.state_dict(), tmp_path / "pytorch_model.bin")
    torch.save({**their_state(job), **change}, tmp_path / "training_state.pt")
    info = loaded(tmp_path, SmallJob(Recipe()), level=None)
    assert {key: info[key] for key in found} == found


@pytest.mark.parametrize("groups", [[], "as they are"])
def test_an_optimizer_without_moments_is_said_to_begin_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, groups: Any
) -> None:
    job = trained()
    empty = {"state": {}, "param_groups": job.optimizer.state_dict()["param_groups"] if groups else []}
    state = {**their_state(job), "model_state_dict": job.model.state_dict(), "optimizer_state_dict": empty}
    torch.save(state, tmp_path / "training_state.pt")
    manager = CheckpointManager(tmp_path / "run", resume_from_checkpoint=str(tmp_path))
    restored = manager.resume(job.model, job.optimizer, job.scheduler)
    assert restored is not None
    assert not restored.exact
    assert "the state of the optimizer is empty: its moments start anew" in caplog.text


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("python", "numpy", "cpu"), id="Trainer's"),
        pytest.param(("random_state", "numpy_random_seed", "torch_manual_seed"), id="accelerate's"),
    ],
)
def test_random_states_under_the_names_of_other_writers_are_restored(tmp_path: Path, names: tuple[str, ...]) -> None:
    job = trained()
    random_states = dict(zip(names, their_state(job)["rng_states"].values(), strict=True))
    state = {**their_state(job), "model_state_dict": job.model.state_dict(), "rng_states": random_states}
    torch.save(state, tmp_path / "training_state.pt")
    expected = draws()
    loaded(tmp_path, SmallJob(Recipe(), seed=5))
    assert draws() == expected


def save_as_trainer_does(folder: Path, job: SmallJob) -> None:
    folder.mkdir()
    safetensors.torch.save_file(job.model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    torch.save(job.optimizer.state_dict(), folder / "optimizer.pt")
    torch.save(job.scheduler.state_dict() if job.scheduler else None, folder / "scheduler.pt")
    random_states = zip(("python", "numpy", "cpu"), their_state(job)["rng_states"].values(), strict=True)
    torch.save(dict(random_states), folder / "rng_state.pth")
    logged = [{"step": 2, "loss": 9.0}, {"step": 3, "loss": 0.5}]
    state = {"global_step": 3, "epoch": 0.25, "log_history": logged}
    (folder / "trainer_state.json").write_text(json.dumps(state))


def test_what_trainer_spreads_over_several_files_is_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job = trained()
    save_as_trainer_does(tmp_path / "checkpoint-3", job)
    expected, drawn = job.everything(), draws()
    other = SmallJob(Recipe(), seed=5)
    restored = CheckpointManager(tmp_path).restore_latest(other.model, other.optimizer, other.scheduler)
    assert draws() == drawn
    assert restored is not None
    assert (restored.step, restored.epoch, restored.metrics) == (3, 0.25, {"loss": 0.5})
    assert not restored.exact
    assert "Trainer saved it" in caplog.text
    assert "no training state" not in caplog.text
    found = other.everything()
    assert {part: found[part] for part in ("weights", "optimizer")} == {
        part: expected[part] for part in ("weights", "optimizer")
    }
    assert job.scheduler is not None
    assert other.scheduler is not None
    assert other.scheduler.state_dict() == job.scheduler.state_dict()


def test_of_trainer_with_several_processes_the_random_states_are_those_of_the_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "checkpoint-3"
    save_as_trainer_does(folder, trained())
    (folder / "rng_state.pth").rename(folder / "rng_state_0.pth")
    (folder / "rng_state_1.pth").write_bytes((folder / "rng_state_0.pth").read_bytes())
    drawn = draws()
    loaded(folder, SmallJob(Recipe(), seed=5))
    assert draws() == drawn
    assert "the number of processes was 2 when it was saved, and is 1" in caplog.text


@pytest.mark.parametrize("content", ["{", "[1]", "[" * 100_000])
def test_a_state_of_trainer_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "checkpoint-3"
    save_as_trainer_does(folder, trained())
    (folder / "trainer_state.json").write_text(content)
    for level in ("full", None):
        with pytest.raises(Damaged):
            loaded(folder, SmallJob(Recipe()), level=level)


def test_trainer_with_weights_alone_gives_the_step(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "checkpoint-3"
    save_as_trainer_does(folder, trained())
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (folder / name).unlink()
    assert loaded(folder, SmallJob(Recipe(), seed=5))["global_step"] == 3
    assert "no state of the optimizer was saved" in caplog.text


def test_a_pickle_that_would_run_is_refused_and_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"model_state_dict": {}, "additional_state": Bomb()}, tmp_path / "training_state.pt")
    for level in ("full", None):
        with pytest.raises(Damaged, match="would run"):
            loaded(tmp_path, SmallJob(Recipe()), level=level)
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_weights_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"global_step": 1}, tmp_path / "training_state.pt")
    with pytest.raises(NotACheckpoint, match="no weights"):
        loaded(tmp_path, SmallJob(Recipe()))


def test_our_file_has_the_keys_of_the_guides_and_needs_no_trust(manager: CheckpointManager) -> None:
    job = trained()
    path = job.save(manager)
    state = torch.load(os.path.join(path, "training_state.pt"), weights_only=True)  # and no allow-list
    expected = draws()
    assert state.keys() >= {"global_step", "epoch", "best_loss", "epoch_losses", "model_state_dict", "rng_states"}
    assert state.keys() >= {"optimizer_state_dict", "scheduler_state_dict", "dataloader"}
    random.setstate(state["rng_states"]["python_rng_state"])
    np.random.set_state(state["rng_states"]["numpy_rng_state"])
    torch.set_rng_state(state["rng_states"]["torch_rng_state"])
    assert draws() == expected
    SmallJob(Recipe()).optimizer.load_state_dict(state["optimizer_state_dict"])


def test_the_guides_function_saves_and_loads_all_that_it_names(tmp_path: Path) -> None:
    job = trained()
    CheckpointManager.save_checkpoint(
        checkpoint_dir=str(tmp_path / "checkpoint-3"),
        model=job.model,
        optimizer=job.optimizer,
        scheduler=job.scheduler,
        epoch=1,
        global_step=3,
        best_loss=0.25,
        epoch_losses=[0.5, 0.25],
        tokenizer=None,
        additional_state={"note": "mine"},
    )
    info = loaded(tmp_path / "checkpoint-3", SmallJob(Recipe()), strict=True)
    assert info == {
        "epoch": 1,
        "global_step": 3,
        "best_loss": 0.25,
        "epoch_losses": [0.5, 0.25],
        "metrics": {},
        "additional_state": {"note": "mine"},
    }


def test_a_seed_sets_every_generator() -> None:
    set_seed(3)
    first = draws()
    set_seed(3)
    assert draws() == first
    assert draws() != first


def test_a_seed_is_a_whole_number() -> None:
    with pytest.raises(TypeError, match="integer"):
        set_seed("3")  # type: ignore[arg-type]


def test_states_are_restored_exactly_also_in_the_middle_of_a_pair_of_normal_numbers() -> None:
    np.random.normal()  # NumPy keeps the second of the pair
    random.gauss(0, 1)
    states = save_rng_states()
    expected = (np.random.normal(), random.gauss(0, 1), draws())
    CheckpointManager.restore_rng_states(states)
    assert (np.random.normal(), random.gauss(0, 1), draws()) == expected


def test_a_model_of_other_weights_is_refused_if_strict_and_otherwise_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    CheckpointManager.save_checkpoint(checkpoint_dir=str(tmp_path / "checkpoint-1"), model=nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match="Missing key"):
        CheckpointManager.load_checkpoint(str(tmp_path / "checkpoint-1"), nn.Sequential(nn.Linear(2, 2)))
    CheckpointManager.load_checkpoint(str(tmp_path / "checkpoint-1"), nn.Sequential(nn.Linear(2, 2)), strict=False)
    assert "not saved, and as it was in the model: 0.bias, 0.weight" in caplog.text
    assert "saved, and not in the model: bias, weight" in caplog.text


@pytest.mark.parametrize(
    ("other", "strict"),
    [
        pytest.param(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)), True, id="one more layer"),
        pytest.param(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3)), False, id="of another shape"),
        pytest.param(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), True, id="with buffers"),
    ],
)
def test_a_model_that_the_weights_do_not_fit_is_left_as_it_was(tmp_path: Path, other: nn.Module, strict: bool) -> None:
    saved = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    CheckpointManager.save_checkpoint(checkpoint_dir=str(tmp_path / "checkpoint-1"), model=saved)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(RuntimeError):
        CheckpointManager.load_checkpoint(str(tmp_path / "checkpoint-1"), other, strict=strict)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())
