"""What lies beside a checkpoint, or in it without being trained, does not make it a broken one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch

from builders import make_hf_checkpoint, make_plain_checkpoint, plain_state, saved
from lastgood.findings import Code, Verdict
from lastgood.training import CheckpointManager
from lastgood.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

STATE = "training_state.pt"


@pytest.mark.parametrize(
    "name", ["_SUCCESS", "DONE", ".complete", ".gitkeep", "code/__init__.py", "x.lock", "stderr.log", "README.md",
             "runs/events.out.tfevents.17.host"]
)  # fmt: skip
def test_a_mark_or_a_log_may_be_empty(tmp_path: Path, name: str) -> None:
    checkpoint = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    (checkpoint / name).parent.mkdir(exist_ok=True)
    (checkpoint / name).touch()
    assert verify(str(checkpoint)).verdict is Verdict.COMPLETE


@pytest.mark.parametrize("name", ["tokenizer.json", "merges.txt", "config.json", "extra.safetensors", "latest"])
def test_what_belongs_to_it_may_not(tmp_path: Path, name: str) -> None:
    checkpoint = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    (checkpoint / name).write_bytes(b"")
    assert Code.FILE_EMPTY in {finding.code for finding in verify(str(checkpoint)).findings}


@pytest.mark.parametrize(("name", "verdict"), [("q.min_val", Verdict.COMPLETE), ("q.weight", Verdict.UNHEALTHY)])
def test_an_observer_that_has_seen_nothing_is_infinite(tmp_path: Path, name: str, verdict: Verdict) -> None:
    checkpoint = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    weights = safetensors.torch.load_file(checkpoint / "model.safetensors")
    safetensors.torch.save_file({**weights, name: torch.tensor(float("inf"))}, checkpoint / "model.safetensors")
    assert verify(str(checkpoint)).verdict is verdict


def test_what_trainers_save_model_leaves_beside_another_state_changes_nothing(tmp_path: Path) -> None:
    checkpoint = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    (checkpoint / "training_args.bin").write_bytes(saved({"learning_rate": 1.0}))
    report = verify(str(checkpoint))
    assert (report.layout, report.verdict) == ("plain", Verdict.COMPLETE)


@pytest.mark.parametrize(
    "name", ["pytorch_model_fsdp_0/.metadata", "optimizer_0/__0_0.distcp", "global_step10/mp_rank_00_model_states.pt"]
)
def test_formats_of_sharded_training_are_not_called_a_save_that_never_finished(tmp_path: Path, name: str) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    (checkpoint / name).parent.mkdir()
    (checkpoint / name).write_bytes(saved({}))
    assert verify(str(checkpoint)).layout == "hf_trainer"
    (checkpoint / "optimizer.pt").unlink()
    assert verify(str(checkpoint)).layout == "unknown"


@pytest.mark.parametrize(
    ("change", "component"),
    [
        pytest.param(
            {"rng_states": dict.fromkeys(["python_rng_state", "numpy_rng_state", "torch_rng_state"])}, "rng", id="none"
        ),
        pytest.param({"rng_states": {"python_rng_state": 5, "torch_rng_state": torch.zeros(3)}}, "rng", id="no states"),
        pytest.param(
            {"rng_states": {"python_rng_state": plain_state(1)["rng_states"]["python_rng_state"]}},
            "rng",
            id="python's alone",
        ),
    ],
)
def test_states_of_no_use_are_not_there_for_anybody(tmp_path: Path, change: dict[str, Any], component: str) -> None:
    checkpoint = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    (checkpoint / STATE).write_bytes(saved(plain_state(100) | change))
    report = verify(str(checkpoint))
    assert (report.verdict, report.exact_resume) == (Verdict.PARTIAL, False)
    assert CheckpointManager.verify_checkpoint(checkpoint)[component] is False


def test_an_optimizer_of_another_step_ends_exactness(tmp_path: Path) -> None:
    checkpoint = make_plain_checkpoint(tmp_path / "checkpoint-1000", 1000)
    content = plain_state(1000)
    content["optimizer_state_dict"]["state"][0]["step"] = torch.tensor(100.0)
    (checkpoint / STATE).write_bytes(saved(content))
    report = verify(str(checkpoint))
    assert (report.verdict, report.exact_resume) == (Verdict.COMPLETE, False)


def test_more_than_a_hundred_steps_off_is_warned_of_however_long_it_trains(tmp_path: Path) -> None:
    for off, warned in ((90, False), (150, True)):
        checkpoint = make_plain_checkpoint(tmp_path / f"run-{off}" / "checkpoint-5000", 5000)
        content = plain_state(5000)
        content["optimizer_state_dict"]["state"][0]["step"] = torch.tensor(5000.0 - off)
        (checkpoint / STATE).write_bytes(saved(content))
        codes = {finding.code for finding in verify(str(checkpoint)).findings}
        assert (Code.STEP_DISAGREES in codes) is warned
