"""examples/train.py: every way to begin and to go on, and what it says where it cannot."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest

import train
from comparing import losses_of
from demo import flip_a_bit
from example_job import (
    BATCH,
    EPOCHS,
    EVERY,
    FLAGS,
    LAST,
    STEPS,
    assert_same,
    assert_same_end,
    ended,
    process_as_it_was,
    save_small_model,
    started,
    uninterrupted,
)
from language_model import Transformer
from lastgood.training import set_seed
from lastgood.verify import verify
from running import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# From Python 3.12 on, because NumPy has threads of its own; none of them is at work.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody watches."""
    monkeypatch.setenv("LASTGOOD_URL", "http://127.0.0.1:1")
    with process_as_it_was():
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def right(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a job wrote that nobody interrupted."""
    return uninterrupted(tmp_path_factory.mktemp("right") / "output", small)


def trainer(output: Path, small: Path, seed: int = 99) -> train.Trainer:
    """As another process would make it; what is drawn before it goes on does not matter."""
    set_seed(seed)
    model = Transformer.from_pretrained(str(small))
    return train.Trainer(model, str(output), batch_size=BATCH, checkpoint_every_n_steps=EVERY)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("resume_from",), id="resume_from"),
        pytest.param(("resume_checkpoint",), id="resume_checkpoint"),
        pytest.param(("resume_from", "resume_checkpoint"), id="both, and the same"),
    ],
)
def test_the_class_goes_on_from_a_path_under_either_name(
    tmp_path: Path, small: Path, right: Path, names: tuple[str, ...]
) -> None:
    start: dict[str, Any] = dict.fromkeys(names, str(right / "checkpoint-28"))
    trainer(tmp_path, small).train(num_epochs=EPOCHS, **start)
    assert losses_of(tmp_path) == losses_of(right)[28:]
    assert_same_end(tmp_path, right)


def test_under_both_names_it_does_not_choose_between_two(tmp_path: Path, small: Path) -> None:
    with pytest.raises(ValueError, match="resume_from is a, resume_checkpoint is b: which one"):
        trainer(tmp_path, small).train(resume_from="a", resume_checkpoint="b")


def test_an_epoch_more_can_be_asked_for_later(tmp_path: Path, small: Path, right: Path) -> None:
    trainer(tmp_path, small, seed=42).train(num_epochs=EPOCHS - 1, resume_from="latest")  # nothing is there yet
    trainer(tmp_path, small).train(num_epochs=EPOCHS, resume_from="latest")
    assert_same(tmp_path, right)


def test_a_path_is_enough_to_go_on(tmp_path: Path, right: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(right / "checkpoint-42")
    assert train.main(["--model-output", str(tmp_path), "--resume-from-checkpoint", path, *FLAGS]) == 0
    assert f"goes on at step 42 from {path}" in capsys.readouterr().out
    assert_same_end(tmp_path, right)


def test_another_batch_size_is_warned_of(tmp_path: Path, right: Path, caplog: pytest.LogCaptureFixture) -> None:
    flags = ["--epochs", "1", "--batch-size", "32", "--resume-from-checkpoint", str(right / LAST)]
    assert train.main(["--model-output", str(tmp_path), *flags]) == 0
    assert "the batch size was 64 when it was saved, and is 32" in caplog.text


def test_a_job_begins_anew_over_what_was_saved_only_where_it_is_told_to(
    tmp_path: Path, small: Path, right: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = shutil.copytree(right, tmp_path / "output")
    again = ["--model-output", str(output), "--pretrained-model", str(small), *FLAGS]
    assert train.main(again) == 2
    told = capsys.readouterr().err
    assert "checkpoints: resume_from_checkpoint=True goes on from the last good one, overwrite_output_dir=True" in told
    assert len(losses_of(output)) == STEPS
    assert train.main([*again, "--overwrite-output-dir"]) == 0
    assert_same(output, right)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_job_that_is_told_to_go_saves_and_is_gone_on_with_bit_for_bit(
    tmp_path: Path, small: Path, right: Path, number: int
) -> None:
    output = tmp_path / "output"
    job = started(output, "--pretrained-model", str(small))
    wait_for("some steps", lambda: len(losses_of(output)) > 2)
    os.kill(job, number)
    assert ended(job) == 143
    step, _loss = losses_of(output)[-1]
    assert step < STEPS
    assert verify(str(output / f"checkpoint-{step}")).exact_resume
    assert ended(started(output, "--resume-from-checkpoint", "latest")) == 0
    assert_same(output, right)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        pytest.param(["--resume-from-checkpoint", "{gone}"], "{gone}: no such folder", id="a path that is not there"),
        pytest.param(["--resume-from-checkpoint", "{empty}"], "{empty} holds no model", id="a folder without a model"),
        pytest.param(["--resume-from-checkpoint", "{bare}"], "{bare} is incomplete", id="no checkpoint"),
        pytest.param(["--resume-from-checkpoint", "{damaged}"], "{damaged} is corrupt", id="a flipped bit"),
        pytest.param(
            ["--resume-from-checkpoint", "{good}", "--pretrained-model", "{other}"],
            "{good} does not fit this job",
            id="another model",
        ),
        pytest.param(["--pretrained-model", "org/model"], "org/model: no such folder", id="a name of a model hub"),
        pytest.param(["--pretrained-model", "{empty}"], "{empty} holds no model", id="no pretrained model"),
    ],
)
def test_what_cannot_be_begun_with_is_told_in_one_line(
    tmp_path: Path, right: Path, capsys: pytest.CaptureFixture[str], flags: list[str], complaint: str
) -> None:
    places = {name: tmp_path / name for name in ("gone", "empty", "bare", "damaged", "other")}
    places["empty"].mkdir()
    places["bare"].mkdir()
    shutil.copy(right / LAST / "config.json", places["bare"])
    shutil.copytree(right / LAST, places["damaged"])
    flip_a_bit(places["damaged"] / "model.safetensors")
    save_small_model(places["other"], hidden_size=64)
    places["good"] = right / LAST
    code = train.main(["--model-output", str(tmp_path / "output"), *(flag.format(**places) for flag in flags)])
    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith(f"train.py: {complaint.format(**places)}")
    assert said.count("\n") == 1


def test_where_none_can_be_handed_out_nothing_begins_anew(
    tmp_path: Path, right: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(right / LAST, tmp_path / LAST)
    flip_a_bit(tmp_path / LAST / "model.safetensors")
    assert train.main(["--model-output", str(tmp_path), "--resume-from-checkpoint", "latest"]) == 2
    assert "no judged checkpoint can be handed out" in capsys.readouterr().err
    assert losses_of(tmp_path) == []


@pytest.mark.parametrize("flag", ["--epochs", "--batch-size", "--checkpoint-every-n-steps"])
def test_a_number_has_to_be_one(tmp_path: Path, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        train.main(["--model-output", str(tmp_path), flag, "0"])
    assert f"argument {flag}: '0' is not a whole number above 0" in capsys.readouterr().err
