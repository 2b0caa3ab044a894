"""A resumed run is, bit for bit, the one that was never interrupted."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.random import mtrand

from lastgood.findings import Severity, Verdict
from lastgood.settings import Settings
from lastgood.training import CheckpointManager, save_rng_states
from lastgood.verify import verify
from small_job import Recipe, SmallJob

if TYPE_CHECKING:
    from pathlib import Path

# Dropout, shuffling and noise from every generator are in all of them.
RECIPES = {
    "AdamW": Recipe("AdamW"),
    "Adam": Recipe("Adam"),
    "SGD with momentum": Recipe("SGD"),
    "gradient accumulation": Recipe(accumulate=3),
    "bf16 autocast": Recipe(autocast=True),
    "a gradient scaler": Recipe(autocast=True, scaled=True),
    "no scheduler": Recipe(scheduled=False),
    "two loader workers": Recipe(workers=2),
}
END = 14
SEED = int(os.environ.get("PROVE_SEED", "1"))


@pytest.mark.parametrize(
    ("recipe", "stop"),
    [
        *(pytest.param(recipe, 8, id=name) for name, recipe in RECIPES.items()),
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


def killed_and_resumed(manager: CheckpointManager, recipe: Recipe, chance: random.Random) -> str:
    """A job that saves after each step is killed at a random moment, and another one ends it. When it was killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            job = SmallJob(recipe)
            for step in range(1, END + 1):
                job.train(step)
                os.write(writer, b".")
                job.save(manager)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb", buffering=0) as steps:
        steps.read(1)
        for _ in range(chance.randrange(END - 1)):
            steps.read(1)
        threading.Event().wait(chance.uniform(0, 0.02))  # the random moment itself
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    drafts = [name for name in os.listdir(manager.folder) if name.startswith(".tmp")]
    resumed = SmallJob(recipe, seed=99)
    start = resumed.restore(manager)
    if start is None:  # it was killed before its first save had ended
        resumed = SmallJob(recipe)
    resumed.train(END)
    expected = SmallJob(recipe)
    expected.train(END)
    assert resumed.everything() == expected.everything()
    return "in mid-save" if drafts else "between saves" if start else "before the first save"


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_that_was_killed_at_a_random_step_ends_as_if_it_had_not_been(
    manager: CheckpointManager, name: str
) -> None:
    killed_and_resumed(manager, RECIPES[name], random.Random(name))


@pytest.mark.prove
@pytest.mark.timeout(0)
def test_fifty_runs_that_were_killed_end_as_if_they_had_not_been(tmp_path: Path) -> None:
    chance, told = random.Random(SEED), Counter[str]()
    for number in range(50):
        manager = CheckpointManager(tmp_path / str(number), settings=Settings(url="http://127.0.0.1:1"))
        told[killed_and_resumed(manager, [*RECIPES.values()][number % len(RECIPES)], chance)] += 1
    print(f"seed {SEED}: {told.total()} kills over {len(RECIPES)} recipes: {dict(told)}")


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


@pytest.mark.parametrize("kind", ["PCG64", "Philox", "SFC64", "MT19937"])
def test_another_generator_that_the_job_has_set_for_numpy_goes_on_as_well(
    manager: CheckpointManager, kind: str
) -> None:
    job, usual = SmallJob(Recipe()), mtrand.get_bit_generator()
    mtrand.set_bit_generator(getattr(np.random, kind)(3))
    try:
        job.train(2)
        report = verify(job.save(manager))
        drawn = [float(np.random.randn()) for _ in range(3)]  # noqa: NPY002 - what old code draws from
        start = job.restore(manager)
        again = [float(np.random.randn()) for _ in range(3)]  # noqa: NPY002
    finally:
        mtrand.set_bit_generator(usual)
    assert (report.verdict, report.findings) == (Verdict.COMPLETE, ())
    assert start is not None
    assert start.exact
    assert again == drawn


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


def test_where_none_can_be_handed_out_the_job_does_not_start_from_scratch_and_says_why(
    manager: CheckpointManager, caplog: pytest.LogCaptureFixture
) -> None:
    from lastgood import errors

    job = SmallJob(Recipe())
    job.train(2)
    os.truncate(os.path.join(job.save(manager), "training_state.pt"), 1000)
    with pytest.raises(errors.NoneAcceptable):
        SmallJob(Recipe()).restore(manager)
    assert "checkpoint-2 is not handed out: it is " in caplog.text


def test_the_manager_is_a_name_of_the_library(tmp_path: Path) -> None:
    import lastgood

    assert lastgood.CheckpointManager is CheckpointManager
