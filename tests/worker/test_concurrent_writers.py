"""Two jobs that save into one folder: it is said once, and the history does not fall apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builders import make_hf_checkpoint
from lastgood.findings import Severity

if TYPE_CHECKING:
    from worker_world import World


def test_two_jobs_that_save_in_turns_are_told_once(world: World) -> None:
    world.look()
    for turn in range(1, 6):
        for step in (1000 + 100 * turn, 10 * turn):
            make_hf_checkpoint(world.path(step), step)
            world.settle()
    (event,) = world.events("concurrent-writers")
    assert event.severity is Severity.WARNING
    assert "two jobs" in event.message
    assert [warning.code for warning in world.answer().warnings] == ["concurrent-writers"]
    world.restart()
    make_hf_checkpoint(world.path(1600), 1600)
    world.settle()
    assert len(world.events("concurrent-writers")) == 1
    assert world.answer().record.branch == max(record.branch or 0 for record in world.records()) == 3


def test_one_job_that_is_rolled_back_is_no_second_one(world: World) -> None:
    world.look()
    for step in (100, 200, 300, 150, 250, 350, 300, 400):
        make_hf_checkpoint(world.path(step), step)
        world.settle()
    assert world.events("concurrent-writers") == []
