"""Where in training a checkpoint was saved, and what a resume from it will be like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from builders import (
    LEFT_OUT,
    Files,
    adamw_state,
    hf_files,
    make_hf_checkpoint,
    make_plain_checkpoint,
    plain_state,
    pth_files,
    saved,
    write_files,
)
from commanding import run
from injuries import change_json, change_state, leave_out
from lastgood.facts import Place
from lastgood.findings import Code
from lastgood.layouts import places
from lastgood.rendering_inspection import where_it_goes_on, where_it_stands
from lastgood.training import ResumableLoader
from lastgood.verify import verify

if TYPE_CHECKING:
    from pathlib import Path


_MAIN: Final = "from lastgood.cli import main; main()"


def inspected(folder: Path, *options: str) -> dict[str, Any]:
    _code, printed, complaint = run("inspect", folder, "--json", *options)
    assert complaint == ""
    found: dict[str, Any] = json.loads(printed)
    return found


def at(folder: Path, files: Files) -> Path:
    return write_files(folder / "last_checkpoint", files)


def test_the_end_of_an_epoch_is_told_as_such(tmp_path: Path) -> None:
    folder = at(tmp_path, pth_files(2, 0, 1270, optimizer_steps=2532))
    found = inspected(folder)
    assert found["position"] == {
        "epoch": 2,
        "finished": True,
        "batches_done": 1270,
        "batches": 1270,
        "percent": 100.0,
        "resume_epoch": 3,
        "batches_skipped": None,
        "batches_to_train": None,
    }
    assert found["step"] == 2540
    _code, printed, _complaint = run("inspect", folder)
    assert "epoch 2 is finished: all 1270 batches done" in printed
    assert "begins epoch 3; no batch is skipped or trained on twice" in printed


def test_the_middle_of_an_epoch_says_what_is_skipped_and_what_is_trained_on(tmp_path: Path) -> None:
    folder = at(tmp_path, pth_files(3, 500, 1270, optimizer_steps=3040))
    found = inspected(folder)["position"]
    assert (found["finished"], found["percent"], found["resume_epoch"]) == (False, 39.4, 3)
    assert (found["batches_skipped"], found["batches_to_train"]) == ([0, 499], [500, 1269])
    _code, printed, _complaint = run("inspect", folder)
    assert "epoch 3: 500 of 1270 batches done (39.4%)" in printed
    assert "goes on in epoch 3: batches 0 to 499 are skipped, 500 to 1269 are trained on" in printed


@pytest.mark.parametrize(
    ("steps", "agrees", "said"),
    [
        pytest.param(2540, True, "2540 steps, as its state says", id="the very count"),
        pytest.param(2532, True, "2532 steps, 8 fewer than the 2540 of its state: a usual difference", id="a few less"),
        pytest.param(2550, True, "10 more than the 2540 of its state: a usual difference", id="a few more"),
        pytest.param(1270, True, "one step for every 2 batches (gradient accumulation)", id="two batches a step"),
        pytest.param(636, True, "one step for every 4 batches (gradient accumulation)", id="what is left makes a step"),
        pytest.param(1900, False, "640 fewer than the 2540 of its state: look into it", id="those of another save"),
    ],
)
def test_the_steps_of_the_optimizer_are_held_against_what_is_expected(
    tmp_path: Path, steps: int, agrees: bool, said: str
) -> None:
    folder = at(tmp_path, pth_files(2, 0, 1270, optimizer_steps=steps))
    found = inspected(folder)["optimizer"]
    told = {"steps": steps, "expected": 2540, "difference": steps - 2540, "consistent": agrees}
    assert found == {**told, "batches_per_step": {1270: 2, 636: 4}.get(steps)}
    assert said in run("inspect", folder)[1]
    assert ("step-disagrees" in {finding.code for finding in verify(str(folder)).findings}) is not agrees


def of_steps(folder: Path, step: int, optimizer_steps: int) -> Path:
    """A `training_state.pt` whose optimizer and scheduler made fewer steps."""
    make_plain_checkpoint(folder, step)
    (folder / "training_state.pt").write_bytes(saved(plain_state(optimizer_steps) | {"global_step": step}))
    return folder


def test_where_the_state_counts_steps_a_part_of_them_may_be_accumulation_or_another_save(tmp_path: Path) -> None:
    folder = of_steps(tmp_path / "checkpoint-2000", 2000, 500)
    said = "look into it, unless it is one step for every 4 batches (gradient accumulation)"
    assert said in run("inspect", folder)[1]
    assert Code.STEP_DISAGREES in {finding.code for finding in verify(str(folder)).findings}


@pytest.mark.parametrize("name", ["checkpoint-500", "checkpoint-2000"])
def test_a_step_that_is_not_of_this_save_is_no_accumulation(tmp_path: Path, name: str) -> None:
    """The folder's name tells which: here the state's own step is another's, there no whole number of batches fits."""
    folder = of_steps(tmp_path / name, 2000, 500 if name == "checkpoint-500" else 1500)
    assert "accumulation" not in run("inspect", folder)[1]
    assert Code.STEP_DISAGREES in {finding.code for finding in verify(str(folder)).findings}


def test_the_step_is_unknown_where_nobody_said_how_many_batches_an_epoch_has(tmp_path: Path) -> None:
    folder = at(tmp_path, pth_files(2, 0, 10, optimizer_steps=20, total_batches=LEFT_OUT))
    found = inspected(folder)
    assert found["step"] is None
    assert (found["position"]["epoch"], found["position"]["finished"], found["position"]["resume_epoch"]) == (
        2,
        True,
        3,
    )
    assert "the step is unknown: total_batches was not saved" in found["outlook"]
    printed = run("inspect", folder)[1]
    assert "begins with step 0" not in printed
    assert "epoch 2 is finished" in printed
    folder = at(tmp_path, pth_files(2, 5, 10, optimizer_steps=15, total_batches=LEFT_OUT))
    assert "goes on in epoch 2: batches 0 to 4 are skipped" in run("inspect", folder)[1]


def test_of_weights_that_most_loaders_skip_it_is_not_said_that_all_goes_on_as_before(tmp_path: Path) -> None:
    folder = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    weights = load_file(folder / "model.safetensors")
    save_file({f"_orig_mod.{name}": tensor for name, tensor in weights.items()}, folder / "model.safetensors")
    found = inspected(folder)
    assert found["outlook"] == [
        "most loaders skip weights whose names bear a prefix of wrappers: `lastgood fix` takes it away"
    ]
    (warning,) = found["warnings"]
    assert warning["code"] == "wrapper-prefix"
    assert f"  ! {warning['file'] or 'the checkpoint'}: {warning['message']}\n" in run("inspect", folder)[1]


@pytest.mark.parametrize("kind", ["python", "numpy", "torch"])
def test_one_kind_of_random_states_is_not_everything(tmp_path: Path, kind: str) -> None:
    folder = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    states = {key: value for key, value in plain_state(100)["rng_states"].items() if key.startswith(kind)}
    change_state(rng_states=states)(folder / "training_state.pt")
    assert inspected(folder)["outlook"] == [
        "random states are not all there: dropout and shuffling differ from here on"
    ]


def test_a_scaler_that_its_writer_always_saves_is_missed(tmp_path: Path) -> None:
    folder = at(tmp_path, pth_files(2, 0, 10, optimizer_steps=20, scaler_state_dict=LEFT_OUT))
    assert "the loss scale starts anew: a few steps may be skipped" in inspected(folder)["outlook"]


def test_everything_else_that_a_person_asks_is_there(tmp_path: Path) -> None:
    folder = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    found = inspected(folder)
    assert (found["step"], found["epoch"], found["position"]) == (100, 1, None)
    assert found["learning_rates"] == [5e-5]
    assert (found["best_loss"], found["losses"]) == (1.25, [1.5, 1.25])
    assert found["rng"] == ["numpy", "python", "torch"]
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert {file["path"]: file["bytes"] for file in found["files"]} == sizes
    assert found["bytes"] == sum(sizes.values())
    assert found["outlook"] == ["everything is there: training goes on as if nobody had interrupted it, bit for bit"]


def test_that_a_schedule_has_come_to_its_end_is_said_beside_what_is_there(tmp_path: Path) -> None:
    folder = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    optimizer = adamw_state(100)
    optimizer["param_groups"][0]["lr"] = 0.0
    change_state(optimizer_state_dict=optimizer)(folder / "training_state.pt")
    whole, rate = inspected(folder)["outlook"]
    assert whole.startswith("everything is there")
    assert rate == "the learning rate is at the end of its schedule: look at the number of epochs, and at the warm-up"


@pytest.mark.parametrize(
    ("key", "outlook"),
    [
        pytest.param("optimizer_state_dict", "the optimizer starts anew: its moments are lost", id="no optimizer"),
        pytest.param("scheduler_state_dict", "the learning rate starts anew, with its warm-up", id="no scheduler"),
        pytest.param("rng_states", "random states are missing", id="no random states"),
    ],
)
def test_what_is_lacking_is_said_as_what_it_will_do(tmp_path: Path, key: str, outlook: str) -> None:
    folder = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    leave_out(key)(folder / "training_state.pt")
    assert any(sentence.startswith(outlook) for sentence in inspected(folder)["outlook"])
    assert run("inspect", folder)[0] == 1
    assert run("inspect", folder, "--accept", "partial")[0] == 0


def test_the_loaders_of_other_writers_tell_where_an_epoch_stands(tmp_path: Path) -> None:
    state = {**plain_state(4), "epoch": 1, "total_batches": 10, "dataloader": {"_num_yielded": 4}}
    folder = make_plain_checkpoint(tmp_path / "checkpoint-4", 4)
    (folder / "training_state.pt").write_bytes(saved(state))
    found = inspected(folder)["position"]
    assert (found["epoch"], found["batches_done"], found["batches"], found["percent"]) == (2, 4, 10, 40.0)


@pytest.mark.parametrize(("drop_last", "batches"), [(False, 4), (True, 3)])
def test_a_last_batch_that_is_dropped_does_not_count(tmp_path: Path, drop_last: bool, batches: int) -> None:
    loader = ResumableLoader(range(10), 3, drop_last=drop_last)
    given_out = iter(loader)
    next(given_out)
    folder = make_plain_checkpoint(tmp_path / "checkpoint-4", 4)
    (folder / "training_state.pt").write_bytes(saved({**plain_state(4), "dataloader": loader.state_dict()}))
    found = inspected(folder)["position"]
    assert (found["batches_done"], found["batches"]) == (1, batches)
    list(given_out)
    (folder / "training_state.pt").write_bytes(saved({**plain_state(4), "dataloader": loader.state_dict()}))
    assert inspected(folder)["position"]["finished"]


@pytest.mark.parametrize(
    ("epoch", "step", "batches"),
    [
        pytest.param(1, 1300, 1270, id="more batches than there are"),
        pytest.param(0, 500, 1270, id="batches of no epoch"),
        pytest.param(2, -5, 1270, id="fewer than none"),
        pytest.param("2", 500, 1270, id="a text for the epoch"),
        pytest.param(2, 500, True, id="yes for a number"),
    ],
)
def test_what_cannot_be_counts_for_nothing_and_is_remarked_on(
    tmp_path: Path, epoch: Any, step: Any, batches: Any
) -> None:
    folder = at(tmp_path, pth_files(1, 0, 10, optimizer_steps=10))
    state = torch.load(folder / "training_state.pth", weights_only=False)
    torch.save(state | {"epoch": epoch, "step": step, "total_batches": batches}, folder / "training_state.pth")
    found = inspected(folder)
    assert (found["step"], found["position"], found["exact_resume"]) == (None, None, False)
    assert "neither its state nor its name tells a step: a job begins with step 0" in found["outlook"]
    assert Code.PROGRESS_UNTOLD in {finding.code for finding in verify(str(folder)).findings}
    assert run("inspect", folder)[0] == 0


def test_counts_that_are_tensors_count(tmp_path: Path) -> None:
    folder = make_plain_checkpoint(tmp_path / "model", 4)
    state = {**plain_state(4), "global_step": torch.tensor(4), "epoch": torch.tensor(2)}
    (folder / "training_state.pt").write_bytes(saved(state))
    assert (inspected(folder)["step"], inspected(folder)["epoch"]) == (4, 2)


def test_a_name_that_no_encoding_knows_is_printed_all_the_same(tmp_path: Path) -> None:
    folder = make_plain_checkpoint(tmp_path / "checkpoint-4", 4)
    (folder / "tokenizer.json").rename(os.fsdecode(os.fsencode(folder) + b"/vocab-\xff.txt"))
    for command in ("inspect", "verify"):
        done = subprocess.run(
            [sys.executable, "-c", _MAIN, command, str(folder), *(["-v"] if command == "verify" else [])],
            env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
            capture_output=True,
            check=True,
        )
        assert b"vocab-\\udcff.txt" in done.stdout


def test_of_trainers_saves_the_fraction_of_the_epoch_tells(tmp_path: Path) -> None:
    folder = make_hf_checkpoint(tmp_path / "checkpoint-240", 240)
    change_json(epoch=2.4)(folder / "trainer_state.json")
    found = inspected(folder)
    assert (found["position"]["epoch"], found["position"]["batches_done"], found["position"]["batches"]) == (3, 40, 100)
    assert found["losses"] == [3.0]


def test_a_damaged_one_is_told_apart_and_a_missing_one_complained_of(tmp_path: Path) -> None:
    folder = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    (folder / "training_state.pt").write_bytes(b"")
    code, printed, _complaint = run("inspect", folder)
    assert (code, "no job should start from it" in printed) == (1, True)
    code, printed, complaint = run("inspect", tmp_path / "nothing")
    assert (code, printed) == (2, "")
    assert "no such folder" in complaint


def test_a_scaler_that_a_writer_always_saves_and_a_rate_that_vanished_are_remarked_on(tmp_path: Path) -> None:
    optimizer = adamw_state(2540)
    optimizer["param_groups"][0]["lr"] = 1e-11
    folder = at(
        tmp_path,
        pth_files(2, 0, 1270, optimizer_steps=2540, scaler_state_dict=LEFT_OUT, optimizer_state_dict=optimizer),
    )
    severities = {finding.code: finding.severity for finding in verify(str(folder)).findings}
    assert severities == {"scaler-missing": "warning", "rate-zero": "info"}
    assert run("verify", folder)[0] == 0
    assert run("verify", folder, "--strict")[0] == 1


@given(
    epochs=st.integers(0, 50),
    batches=st.integers(1, 5000),
    accumulated=st.integers(1, 8),
    data=st.data(),
)
def test_a_fraction_gives_back_the_batches_that_it_was_made_of(
    epochs: int, batches: int, accumulated: int, data: st.DataObject
) -> None:
    """Trainer counts a step after so many batches, and one for what is left at the end of each epoch."""
    an_epoch = -(-batches // accumulated)
    steps = data.draw(st.integers(1, an_epoch))
    done = min(steps * accumulated, batches)
    found = places.by_fraction(epochs * an_epoch + steps, epochs + done / batches, accumulated)
    assert found is not None
    if done == batches:
        assert (found.epoch, found.finished or found.done is None) == (epochs + 1, True)
    elif accumulated == 1:
        assert found == Place(epochs + 1, done, batches)
    else:
        assert found.epoch == epochs + 1


@given(st.builds(Place, st.integers(1, 99), st.none() | st.integers(0, 9999), st.none() | st.integers(0, 9999)))
def test_every_place_can_be_told(place: Place) -> None:
    assert where_it_stands(place).startswith(f"epoch {place.epoch}")
    assert "epoch" in where_it_goes_on(place)


def test_hf_files_are_listed_with_what_lies_in_them(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "checkpoint-100", hf_files(100))
    homes = {file["path"]: file["components"] for file in inspected(folder)["files"]}
    assert homes["model.safetensors"] == ["weights"]
    assert homes["rng_state.pth"] == ["rng"]
