"""A resumed run is, bit for bit, the one that was never interrupted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lastgood.findings import Severity, Verdict
from lastgood.training import CheckpointManager, save_rng_states
from lastgood.verify import verify
from small_job import Recipe, SmallJob

if TYPE_CHECKING:
    from pathlib import Path

RECIPES = [
    pytest.param(Recipe("AdamW"), id="AdamW"),
    pytest.param(Recipe("Adam"), id="Adam"),
    pytest.param(Recipe("SGD"), id="SGD with momentum"),
    pytest.param(Recipe(accumulate=3), id="gradient accumulation"),
    pytest.param(Recipe(autocast=True), id="bf16 autocast"),
    pytest.param(Recipe(autocast=True, scaled=True), id="a gradient scaler"),
    pytest.param(Recipe(scheduled=False), id="no scheduler"),
    pytest.param(Recipe(workers=2), id="two loader workers"),
]
END = 14


@pytest.mark.parametrize(
    ("recipe", "stop"),
    [
        *((pytest.param(*row.values, 8, id=row.id)) for row in RECIPES),
        pytest.param(Recipe(), 1, id="at the first step"),
    ],
)
def test_a_resumed_run_equals_one_that_was_never_interrupted(
    manager: CheckpointManager, recipe: Recipe, stop: int
) -> None:
    uninterrupted = SmallJob(recipe)
    uninterrupted.train(END)
    expected = uninterrupted.everything()

    first = SmallJob(recipe)
    first.train(stop)
    report = verify(first.save(manager))
    assert (report.verdict, report.exact_resume, report.step) == (Verdict.COMPLETE, True, stop)
    assert [finding for finding in report.findings if finding.severity is not Severity.INFO] == []
    resumed = SmallJob(recipe, seed=99)
    start = resumed.restore(manager)
    resumed.train(END)

    assert start is not None
    assert (start.step, start.exact) == (stop, True)
    assert resumed.everything() == expected


def test_a_scheduler_that_was_forgotten_makes_the_save_partial(
    manager: CheckpointManager, caplog: pytest.LogCaptureFixture
) -> None:
    job = SmallJob(Recipe())
    job.train(2)
    path = manager.save(2, model=job.model, optimizer=job.optimizer)
    assert verify(path).verdict is Verdict.PARTIAL
    assert "not given to be saved" in caplog.text


def test_saving_draws_from_no_generator(manager: CheckpointManager) -> None:
    job = SmallJob(Recipe())
    job.train(2)
    before = str(save_rng_states())
    job.save(manager)
    assert str(save_rng_states()) == before


def test_a_run_begins_at_its_start_where_nothing_was_saved_yet(manager: CheckpointManager) -> None:
    assert SmallJob(Recipe()).restore(manager) is None


def test_a_damaged_newest_one_is_passed_over(manager: CheckpointManager) -> None:
    job = SmallJob(Recipe())
    for step in (2, 4):
        job.train(step)
        newest = job.save(manager)
    os.truncate(os.path.join(newest, "training_state.pt"), 1000)
    start = SmallJob(Recipe()).restore(manager)
    assert start is not None
    assert start.step == 2


def test_where_none_can_be_handed_out_the_job_does_not_start_from_scratch(manager: CheckpointManager) -> None:
    from lastgood import errors

    job = SmallJob(Recipe())
    job.train(2)
    os.truncate(os.path.join(job.save(manager), "training_state.pt"), 1000)
    with pytest.raises(errors.NoneAcceptable):
        SmallJob(Recipe()).restore(manager)


def test_the_manager_is_a_name_of_the_library(tmp_path: Path) -> None:
    import lastgood

    assert lastgood.CheckpointManager is CheckpointManager
