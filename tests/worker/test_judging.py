"""Judges that are killed, and what they read that changed meanwhile."""

from __future__ import annotations

import os
import signal
from multiprocessing import forkserver
from typing import TYPE_CHECKING

import pytest

from builders import hf_files, make_hf_checkpoint, write_file
from lastgood.findings import Code, Verdict
from lastgood.life import State

if TYPE_CHECKING:
    from worker_world import World


def kill_judge(world: World) -> None:
    child = world.judging._child
    assert child is not None
    child.kill()
    assert child.message is None, "it had ended before"


@pytest.mark.parametrize("times", [1, 2])
def test_a_judge_that_is_killed_is_tried_once_more(world: World, times: int) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.judging.crawl(crawling=True)
    world.advance_until_read()
    for left in reversed(range(times)):
        world.judging.crawl(crawling=left > 0)
        before = world.judging._child
        kill_judge(world)
        while world.judging._child is before:
            world.wake.wait(10)
            world.look()
    world.judge()
    if times == 1:
        assert world.latest() == "checkpoint-100"
        return
    _, report = world.catalog.record(world.record().id)
    assert report is not None
    assert world.record().verdict is Verdict.UNREADABLE
    assert [finding["code"] for finding in report["findings"]] == [Code.CHECKER_DIED]
    assert len(world.events("damaged")) == 1


def test_what_could_not_be_read_is_tried_again_later(world: World) -> None:
    test_a_judge_that_is_killed_is_tried_once_more(world, 2)
    world.settle(60)
    assert world.latest() is None
    world.settle(600)
    assert world.latest() == "checkpoint-100"


def test_what_was_read_of_a_folder_that_changed_meanwhile_is_dropped(world: World) -> None:
    world.look()
    make_hf_checkpoint(world.path(100), 100)
    world.judging.just_before = lambda: write_file(world.path(100), *hf_files(100)[-1])
    world.advance_until_read()
    while not (child := world.judging._child) or not child.ended:
        world.wake.wait(10)
    world.look()
    assert world.record().state is State.LANDING
    assert world.record().verdict is None


def test_when_the_process_that_forks_the_judges_is_killed_reading_goes_on(world: World) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.settle()
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    os.kill(pid, signal.SIGKILL)
    make_hf_checkpoint(world.path(200), 200)
    world.settle()
    assert world.latest() == "checkpoint-200"
    assert forkserver._forkserver._forkserver_pid != pid  # type: ignore[attr-defined]


def test_the_process_that_forks_the_judges_has_no_threads(world: World) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.settle()
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    assert len(os.listdir(f"/proc/{pid}/task")) == 1
