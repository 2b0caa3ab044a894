"""Healthy checkpoints by the frameworks themselves: nothing above a remark is found in any of them."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

import frameworks
from frameworks import AN_EPOCH, ONLY_MODEL, PLAIN, RUNS, SCHEDULES, STEPS, TWO_RANKS, Run
from lastgood.facts import Component, Level, Presence
from lastgood.findings import Code, Severity, Verdict
from lastgood.inspection import inspect
from lastgood.mending import neighbours_of, plan_repairs
from lastgood.verify import examine, verify
from running import wait_for

FIXTURES: Final = Path(__file__).parent.parent / "fixtures"
PATIENCE: Final = 400  # seconds; 25 where the machine has time to spare

pytestmark = pytest.mark.timeout(PATIENCE + 20)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with every run. Made once, also where several processes share the tests."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "frameworks"
    made, failed = shared / "made", shared / "failed"
    try:
        shared.mkdir()
    except FileExistsError:
        wait_for("the other process that trains", lambda: made.exists() or failed.exists(), PATIENCE)
    else:
        (failed if _train_everything(shared) else made).touch()
    assert not failed.exists(), (shared / "job.log").read_text()[-6000:]
    return shared / "runs"


def _train_everything(shared: Path) -> int:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with (shared / "job.log").open("wb") as log:
        command = [sys.executable, frameworks.__file__, str(shared / "runs")]
        job = subprocess.run(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=PATIENCE - 10, check=False
        )
    return job.returncode


def told(checkpoint: Path) -> dict[str, Any]:
    """What of the report says whether it was understood."""
    report = verify(str(checkpoint))
    return {
        "above a remark": [
            f"{finding.code} {finding.file}: {finding.message}"
            for finding in report.findings
            if finding.severity is not Severity.INFO
        ],
        "verdict": report.verdict.value,
        "exact": report.exact_resume,
        "layout": report.layout,
        "step": report.step,
        "epoch": report.epoch,
    }


HEALTHY: Final = {"above a remark": [], "verdict": "complete", "exact": True}


@pytest.mark.parametrize("run", RUNS, ids=[run.name for run in RUNS])
def test_what_trainer_saves_is_healthy(trained: Path, run: Run) -> None:
    checkpoint = trained / run.name / f"checkpoint-{run.last}"
    assert told(checkpoint) == {**HEALTHY, "layout": "hf_trainer", "step": run.last, "epoch": run.epoch}


def test_every_checkpoint_of_every_run_is_healthy(trained: Path) -> None:
    found = {
        f"{checkpoint.parent.name}/{checkpoint.name}": told(checkpoint)["above a remark"]
        for checkpoint in sorted(trained.glob("*/checkpoint-*"))
        if checkpoint.parent.name != ONLY_MODEL.name
    }
    assert len(found) >= 40
    assert {name: findings for name, findings in found.items() if findings} == {}


def test_no_checkpoint_of_any_run_alarms_beside_the_one_before_it_or_its_own_manifest(trained: Path) -> None:
    found: dict[str, list[str]] = {}
    for run in sorted(path for path in trained.iterdir() if path.name != ONLY_MODEL.name):
        previous = None
        for checkpoint in sorted(run.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2])):
            again = verify(str(checkpoint), previous=previous, manifest=verify(str(checkpoint)).manifest)
            found[f"{run.name}/{checkpoint.name}"] = [
                f"{finding.code}: {finding.message}"
                for finding in again.findings
                if finding.severity is not Severity.INFO
            ]
            previous = again.manifest
    assert len(found) >= 40
    assert {name: findings for name, findings in found.items() if findings} == {}


def test_there_is_nothing_to_mend_in_any_healthy_checkpoint(trained: Path) -> None:
    planned = {}
    for checkpoint in sorted(trained.glob("*/checkpoint-*")):
        if checkpoint.parent.name != ONLY_MODEL.name:
            facts, report = examine(str(checkpoint))
            planned[checkpoint] = plan_repairs(facts, report, neighbours_of(facts, report))
    assert len(planned) >= 40
    assert {path: (plan.repairs, plan.refused) for path, plan in planned.items() if plan.repairs or plan.refused} == {}


@pytest.mark.parametrize("run", RUNS, ids=[run.name for run in RUNS])
def test_of_each_of_trainers_saves_it_is_told_where_in_the_epoch_it_stands(trained: Path, run: Run) -> None:
    for checkpoint in (trained / run.name).glob("checkpoint-*"):
        facts, report = examine(str(checkpoint), Level.QUICK)
        found = inspect(facts, report)
        assert report.epoch is not None
        assert found.place is not None
        assert found.place.epoch == math.ceil(report.epoch - 1e-9)
        if found.place.done is not None and found.place.batches:
            share = report.epoch - found.place.epoch + 1
            assert found.place.done / found.place.batches == pytest.approx(share, abs=0.02)


def test_the_model_alone_is_partial_and_lacks_just_what_was_left_out(trained: Path) -> None:
    report = verify(str(trained / ONLY_MODEL.name / f"checkpoint-{STEPS}"))
    assert (report.verdict, report.step) == (Verdict.PARTIAL, STEPS)
    assert [finding.code for finding in report.findings if finding.severity is not Severity.INFO] == [
        Code.OPTIMIZER_MISSING,
        Code.SCHEDULER_MISSING,
        Code.RNG_MISSING,
    ]


def test_two_processes_save_a_healthy_checkpoint(trained: Path) -> None:
    checkpoint = trained / TWO_RANKS.name / f"checkpoint-{TWO_RANKS.last}"
    assert told(checkpoint) == {**HEALTHY, "layout": "hf_trainer", "step": TWO_RANKS.last, "epoch": 3.0}
    assert verify(str(checkpoint)).world_size == 2


def test_the_last_rank_is_missed_although_no_other_file_names_it(trained: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / f"checkpoint-{TWO_RANKS.last}"
    shutil.copytree(trained / TWO_RANKS.name / checkpoint.name, checkpoint)
    training_of_three_processes(checkpoint)
    report = verify(str(checkpoint))
    assert [(finding.code, finding.file) for finding in report.findings if finding.severity is Severity.ERROR] == [
        (Code.RANKS_MISSING, "rng_state_2.pth")
    ]


def training_of_three_processes(checkpoint: Path) -> None:
    import torch

    arguments = torch.load(checkpoint / "training_args.bin", weights_only=False)
    arguments.distributed_state.num_processes = 3
    torch.save(arguments, checkpoint / "training_args.bin")


def test_a_loss_scaler_is_a_component_of_the_run_that_has_one(trained: Path) -> None:
    scaled, other = (trained / name / f"checkpoint-{STEPS}" for name in ("scaled", "cosine"))
    assert told(scaled)["verdict"] == "complete"
    assert verify(str(scaled)).components[Component.SCALER] is Presence.PRESENT
    assert verify(str(other)).components[Component.SCALER] is Presence.NOT_APPLICABLE


@pytest.mark.parametrize("what", [*PLAIN, *SCHEDULES[1:], "weights inside"])
def test_what_a_loop_of_one_s_own_saves_is_healthy(trained: Path, what: str) -> None:
    checkpoint = trained / f"plain, {what}" / f"checkpoint-{STEPS}"
    assert told(checkpoint) == {**HEALTHY, "layout": "plain", "step": STEPS, "epoch": 3}


@pytest.mark.parametrize(
    ("name", "layout", "epoch", "exact"),
    [
        pytest.param("forgather, old", "plain", None, False, id="Forgather's one file, which has no RNG"),
        pytest.param("forgather, new", "forgather", 3.0, True, id="Forgather's many files"),
        pytest.param("forgather, two ranks", "forgather", 3.0, True, id="Forgather's many files of two ranks"),
        pytest.param("forgather, no manifest", "forgather", 3.0, True, id="Forgather's many files, no manifest"),
        pytest.param("pth, a finished epoch", "plain", 3, False, id="a .pth after an epoch"),
        pytest.param("pth, within an epoch", "plain", 3, False, id="a .pth within an epoch"),
    ],
)
def test_what_other_writers_save_is_healthy(
    trained: Path, name: str, layout: str, epoch: float | None, exact: bool
) -> None:
    expected = {**HEALTHY, "layout": layout, "step": STEPS, "epoch": epoch, "exact": exact}
    assert told(trained / name / f"checkpoint-{STEPS}") == expected


@pytest.mark.parametrize(
    ("name", "steps", "schedule_step"),
    [
        pytest.param("cosine", (STEPS,), STEPS, id="AdamW"),
        pytest.param("fused", (STEPS,), STEPS, id="fused AdamW"),
        pytest.param("accumulated", (STEPS // 2,), STEPS // 2, id="accumulated gradients"),
        pytest.param("adafactor", (STEPS,), STEPS, id="Adafactor, which counts in whole numbers"),
        pytest.param("sgd", (), STEPS, id="SGD, which does not count"),
        pytest.param("plateau", (STEPS,), None, id="a schedule that counts measurements"),
        pytest.param("plain, by epoch", (STEPS,), 3, id="a schedule that counts epochs"),
        pytest.param("plain, chained", (STEPS,), STEPS, id="chained schedules"),
        pytest.param("plain, sequential", (STEPS,), STEPS, id="schedules one after the other"),
        pytest.param("plain, capturable", (STEPS,), STEPS, id="a learning rate that is a tensor"),
        pytest.param("plain, two optimizers", (STEPS,), STEPS, id="two optimizers, one of which does not count"),
        pytest.param("forgather, new", (STEPS,), STEPS, id="Forgather"),
    ],
)
def test_the_counts_are_read(trained: Path, name: str, steps: tuple[int, ...], schedule_step: int | None) -> None:
    last = max((trained / name).iterdir(), key=lambda path: int(path.name.partition("-")[2]))
    manifest = verify(str(last)).manifest
    assert manifest is not None
    assert (manifest.optimizer_steps, manifest.schedule_step) == (steps, schedule_step)
    assert manifest.rates
    assert manifest.weights


def test_batches_within_an_epoch_are_counted_from_its_begin(trained: Path) -> None:
    """The third epoch has begun when two are done, and ends with its last batch."""
    within, finished = (
        verify(str(trained / name / f"checkpoint-{STEPS}"))
        for name in ("pth, within an epoch", "pth, a finished epoch")
    )
    assert within.step == finished.step == 2 * AN_EPOCH + AN_EPOCH


OLD: Final = sorted((FIXTURES / "transformers-4.57").glob("*/checkpoint-4"))


@pytest.mark.parametrize("checkpoint", OLD, ids=[path.parent.name for path in OLD])
def test_what_transformers_4_saved_is_healthy(checkpoint: Path) -> None:
    assert told(checkpoint) == {**HEALTHY, "layout": "hf_trainer", "step": 4, "epoch": 1.0}


def test_the_recorded_checkpoints_name_no_place_on_the_machine_that_made_them() -> None:
    assert {path.parent.name for path in OLD} == {"adapter", "bin", "bin-in-shards", "safetensors"}
    for state in FIXTURES.glob("*/*/*/trainer_state.json"):
        best = json.loads(state.read_text())["best_model_checkpoint"]
        assert best is None or not os.path.isabs(best)
