"""Into the trash, back from it, out of it for good: on real folders, by a policy or on a person's word."""

from __future__ import annotations

import json
import os
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from builders import hf_files, make_hf_checkpoint, write_files
from lastgood import durable, removal
from lastgood.errors import Obstructed
from lastgood.findings import Severity
from lastgood.life import State
from mounting import bindfs
from worker_world import World, rewrite_in_place, world_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lastgood.records import Record

DAY = 86_400.0
KEEP_TWO = {"keep_last": 2, "observe_for": 0}


@pytest.fixture
def keeping_two(tmp_path: Path) -> Iterator[World]:
    with world_in(tmp_path, **KEEP_TWO) as made:
        yield made


def save(world: World, *steps: int, run: str = "") -> None:
    for step in steps:
        make_hf_checkpoint(world.path(step, run), step)
        world.settle()


def measured(world: World, step: int, eval_loss: float) -> None:
    """A save after an evaluation."""
    files = dict(hf_files(step))
    state = json.loads(files["trainer_state.json"])
    state["log_history"] = [{"step": step, "eval_loss": eval_loss}]
    write_files(world.path(step), (files | {"trainer_state.json": json.dumps(state).encode()}).items())
    world.settle()


def damage(world: World, step: int) -> None:
    os.truncate(world.path(step) / "model.safetensors", 50)
    world.settle(60)


# --- by a policy ---


def test_nothing_is_removed_without_a_policy(tmp_path: Path) -> None:
    with world_in(tmp_path, observe_for=0) as world:
        save(world, 100, 200, 300)
        damage(world, 100)
        world.skip(DAY)
        assert world.in_place() == [100, 200, 300]


def test_what_no_rule_keeps_goes_to_the_trash_and_can_be_had_back(keeping_two: World) -> None:
    world = keeping_two
    save(world, 100, 200, 300)
    assert world.in_place() == [200, 300]
    assert world.in_trash() == ["checkpoint-100"]
    assert world.record("checkpoint-100").state is State.TRASHED
    (told,) = world.events("removed")
    assert "no rule keeps it" in told.message
    assert "lastgood undo checkpoint-100" in told.message
    assert world.ask("undo", "checkpoint-100").startswith("done: checkpoint-100 is in its place again, and pinned")
    world.skip(DAY)
    assert world.in_place() == [100, 200, 300]
    assert world.in_trash() == []
    assert world.record("checkpoint-100").verdict == "complete"
    assert "checkpoint-100" not in world.judging.read[1:], "its bytes are what was read"


def test_all_rules_together_keep_exactly_what_one_of_them_wants(tmp_path: Path) -> None:
    rules = {"keep_last": 2, "keep_best": "1 by eval_loss min", "keep_every": 20}
    with world_in(tmp_path, observe_for=0, **rules) as world:
        for step, loss in ((5, 3.0), (10, 0.5), (20, 2.0), (25, 1.0), (30, 1.1), (35, 1.2), (40, 1.3), (45, 1.4)):
            measured(world, step, loss)
        assert world.in_place() == [10, 20, 40, 45]


def test_a_damaged_one_goes_only_when_a_newer_complete_one_is_there_and_waits_longer(keeping_two: World) -> None:
    world = keeping_two
    save(world, 100, 200)
    damage(world, 200)
    assert world.in_place() == [100, 200]
    save(world, 300)
    assert world.in_place() == [100, 300]
    assert world.record("checkpoint-200").until == world.now + timedelta(days=7)


def test_a_killed_save_never_costs_the_last_good_ones(keeping_two: World) -> None:
    world = keeping_two
    save(world, 100, 200)
    for step in (300, 400, 500):
        write_files(world.path(step), hf_files(step)[:2])
        world.settle(2000)
    assert world.in_place() == [100, 200, 300, 400, 500]
    assert world.latest() == "checkpoint-200"
    save(world, 600)
    assert world.in_place() == [200, 600]


def test_a_checkpoint_that_changed_since_it_was_read_neither_counts_nor_goes(keeping_two: World) -> None:
    world = keeping_two
    save(world, 100, 200)
    world.judging.crawl(crawling=True)
    rewrite_in_place(world.path(200) / "model.safetensors")
    make_hf_checkpoint(world.path(300), 300)
    world.advance(20)
    assert world.in_place() == [100, 200, 300]


# --- what has to wait ---


def test_a_new_root_is_only_observed_for_a_day(tmp_path: Path) -> None:
    with world_in(tmp_path, keep_last=2) as world:
        save(world, 100, 200, 300, 400)
        assert world.in_place() == [100, 200, 300, 400]
        (told,) = world.events("retention-waits")
        assert told.severity is Severity.INFO
        world.restart()
        world.skip(DAY / 2)
        assert world.in_place() == [100, 200, 300, 400]
        world.skip(DAY / 2)
        assert world.in_place() == [300, 400]


def test_a_new_policy_that_would_remove_most_waits_until_a_person_confirms_that_plan(tmp_path: Path) -> None:
    with world_in(tmp_path, observe_for=0) as world:
        save(world, 100, 200, 300, 400, 500)
        world.settings_changed = KEEP_TWO
        world.restart()
        world.settle()
        assert world.in_place() == [100, 200, 300, 400, 500]
        (told,) = world.events("retention-waits")
        plan = told.message.rpartition(" ")[2]
        assert world.ask("apply", confirm="000000000000") == f"refused: the plan is another one by now: {plan}"
        assert world.ask("apply") == f"refused: it would remove more than half of .: confirm plan {plan}"
        assert world.in_place() == [100, 200, 300, 400, 500]
        assert world.ask("apply", confirm=plan) == "done: to the trash: 3 checkpoints of ."
        world.advance(1)
        assert world.in_place() == [400, 500]
        save(world, 600)
        assert world.in_place() == [500, 600]


def test_a_person_need_not_wait_until_the_observation_is_over(tmp_path: Path) -> None:
    with world_in(tmp_path, keep_last=2) as world:
        save(world, 100, 200, 300, 400)
        assert world.ask("apply").startswith("done")
        world.advance(1)
        assert world.in_place() == [300, 400]
        save(world, 500)
        assert world.in_place() == [300, 400, 500], "the next plan is nobody's word"


def test_nothing_is_removed_or_deleted_while_the_clock_is_behind(keeping_two: World) -> None:
    world = keeping_two
    save(world, 100, 200, 300)
    world.worker._ledger._latest += timedelta(hours=1)
    save(world, 400)
    assert world.in_place() == [200, 300, 400]
    assert world.ask("remove", "checkpoint-200").startswith("refused: the clock stepped back")
    world.skip(3600)
    assert world.in_place() == [300, 400]


def test_nothing_is_removed_below_a_frozen_root(keeping_two: World) -> None:
    world = keeping_two
    save(world, 100, 200)
    marker = world.root / ".lastgood-root"
    text = marker.read_text()
    marker.unlink()
    make_hf_checkpoint(world.path(300), 300)
    world.advance(10)
    assert world.in_place() == [100, 200, 300]
    assert world.ask("remove", "checkpoint-100").startswith("refused:")
    marker.write_text(text)
    world.settle()
    assert world.in_place() == [200, 300]


# --- holds ---


def test_what_is_pinned_or_leased_stays_until_that_ends(keeping_two: World) -> None:
    world = keeping_two
    save(world, 100, 200)
    first, second = (world.record(f"checkpoint-{step}").id for step in (100, 200))
    world.catalog.pin(first, holder="a person", now=world.now)
    world.catalog.take_lease(second, holder="job", until=world.now + timedelta(hours=1), now=world.now)
    save(world, 300, 400)
    assert world.in_place() == [100, 200, 300, 400]
    assert "pinned by a person" in world.ask("remove", "checkpoint-100")
    assert "leased by job until" in world.ask("remove", "checkpoint-200")
    world.skip(3700)
    assert world.in_place() == [100, 300, 400]
    world.catalog.unpin(first)
    world.skip(40)
    assert world.in_place() == [300, 400]


def test_whoever_takes_a_lease_between_plan_and_removal_wins(
    keeping_two: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = keeping_two
    save(world, 100, 200)
    choose = type(world.catalog).choose

    def quicker(catalog: Any, checkpoint_id: int, **columns: Any) -> bool:
        catalog.take_lease(checkpoint_id, holder="job", until=world.now + timedelta(hours=1), now=world.now)
        return choose(catalog, checkpoint_id, **columns)

    monkeypatch.setattr(type(world.catalog), "choose", quicker)
    save(world, 300)
    assert world.in_place() == [100, 200, 300]
    assert world.record("checkpoint-100").state is State.VERIFIED


# --- a person's word ---


@pytest.mark.parametrize(
    ("name", "why"),
    [
        pytest.param("checkpoint-400", "a job would start from it now", id="the resume point"),
        pytest.param("checkpoint-300", "one of the last 2 good ones", id="the one before it"),
        pytest.param("checkpoint-900", "there is no checkpoint", id="one that is not there"),
    ],
)
def test_a_guard_stands_before_a_persons_wish_as_well(world: World, name: str, why: str) -> None:
    save(world, 100, 200, 300, 400)
    assert why in world.ask("remove", name)
    assert world.in_place() == [100, 200, 300, 400]


def test_a_person_may_remove_what_rules_keep_and_release_an_old_branch(tmp_path: Path) -> None:
    with world_in(tmp_path, keep_last=10, observe_for=0) as world:
        save(world, 300, 100, 200)
        assert world.ask("remove", "checkpoint-300").startswith("done: checkpoint-300 is in the trash until")
        assert world.in_place() == [100, 200]


def test_the_trash_gives_nothing_back_onto_a_name_that_is_taken(keeping_two: World) -> None:
    world = keeping_two
    save(world, 100, 200, 300)
    world.path(100).mkdir()
    assert "there is something at" in world.ask("undo", "checkpoint-100")
    assert world.in_trash() == ["checkpoint-100"]
    assert list(world.path(100).iterdir()) == []


def test_there_is_nothing_to_undo_where_nothing_was_done(world: World) -> None:
    save(world, 100)
    assert world.ask("undo", "checkpoint-100") == "refused: checkpoint-100 is verified: there is nothing to undo"


# --- outcomes ---


def test_after_two_failures_in_a_row_the_next_older_one_is_handed_out_until_a_person_says_otherwise(
    world: World,
) -> None:
    save(world, 100, 200)
    assert world.ask("outcome", "checkpoint-200", outcome="failed", error="size mismatch").startswith("done")
    assert world.ask("outcome", "checkpoint-200", outcome="ok").startswith("done")
    for _ in range(2):
        assert world.latest() == "checkpoint-200"
        world.ask("outcome", "checkpoint-200", outcome="failed", error="size mismatch")
    assert world.latest() == "checkpoint-100"
    assert "size mismatch" in world.events("marked-failed")[0].message
    world.restart()
    assert world.latest() == "checkpoint-100"
    assert world.ask("undo", "checkpoint-200") == "done: checkpoint-200 may be handed out again"
    assert world.latest() == "checkpoint-200"


# --- the trash ---


def test_what_was_in_the_trash_long_enough_is_deleted(keeping_two: World) -> None:
    world = keeping_two
    save(world, 100, 200, 300)
    world.skip(DAY - 20)
    assert world.in_trash() == ["checkpoint-100"]
    world.skip(40)
    assert world.in_trash() == []
    assert [record.name for record in world.records()] == ["checkpoint-200", "checkpoint-300"]
    assert "deleted from the trash: its time was over" in world.events("purged")[0].message
    assert "checkpoint-100" not in str(list((world.root / ".lastgood/manifests").iterdir()))


def test_the_trash_holds_one_save_however_little_room_there_is_and_no_more(keeping_two: World) -> None:
    world = keeping_two
    save(world, 100, 200)
    size = world.record("checkpoint-100").bytes
    world.worker._space.free = lambda _path: 3 * size
    save(world, 300)
    assert world.in_trash() == ["checkpoint-100"]
    save(world, 400)
    assert world.in_trash() == ["checkpoint-200"]
    assert "too much room" in world.events("purged")[0].message


def test_the_trash_is_emptied_and_it_is_told_before_the_disk_is_full(keeping_two: World) -> None:
    world = keeping_two
    save(world, 100, 200, 300)
    size = world.record("checkpoint-300").bytes
    world.worker._space.free = lambda _path: 2 * size - 1
    world.advance(30)
    assert world.in_trash() == []
    (told,) = world.events("disk-nearly-full")
    assert told.severity is Severity.WARNING
    assert "has room for 1 more saves" in told.message


def test_what_somebody_else_took_out_of_the_trash_is_gone(keeping_two: World) -> None:
    world = keeping_two
    save(world, 100, 200, 300)
    shutil.rmtree(world.root / ".lastgood/trash")
    world.restart()
    world.advance(1)
    assert [record.name for record in world.records()] == ["checkpoint-200", "checkpoint-300"]


def test_a_save_under_the_name_of_a_removed_one_is_another_checkpoint(keeping_two: World) -> None:
    world = keeping_two
    save(world, 100, 200, 300, 100)
    found = {(record.name, record.generation): record.state for record in world.records()}
    assert found["checkpoint-100", 1] is State.TRASHED
    assert found["checkpoint-100", 2] is State.VERIFIED
    assert world.latest() == "checkpoint-100"


def test_what_cannot_be_moved_stays_and_it_is_told_once(keeping_two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = keeping_two

    def obstructed(_record: object) -> None:
        raise Obstructed("its run's trash lies on another filesystem")

    monkeypatch.setattr(removal, "discard", obstructed)
    save(world, 100, 200, 300)
    world.skip(300)
    assert world.in_place() == [100, 200, 300]
    world.skip(700)
    assert [event.message for event in world.events("not-removed")] == ["its run's trash lies on another filesystem"]


def just_before_it_goes(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    discard = removal.discard

    def later(record: Record) -> None:
        happens()
        discard(record)

    monkeypatch.setattr(removal, "discard", later)


@pytest.mark.parametrize("who", ["a person", "a rule"])
def test_what_the_trainer_removes_just_before_we_would_is_gone_without_an_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    policy = KEEP_TWO if who == "a rule" else {}
    with world_in(tmp_path, **policy) as world:
        just_before_it_goes(monkeypatch, lambda: shutil.rmtree(world.path(100)))
        save(world, 100, 200, 300)
        if who == "a person":
            answer = world.ask("remove", "checkpoint-100")
            assert answer == "refused: checkpoint-100 was removed just now, not by lastgood"
        world.settle()
        assert [record.name for record in world.records()] == ["checkpoint-200", "checkpoint-300"]
        (told,) = world.events("removed-externally")
        assert told.message == "checkpoint-100 was removed, not by lastgood"
        assert world.events("not-removed") == []


def test_a_disk_that_is_unmounted_just_before_a_removal_loses_no_checkpoint(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = world.folder / "away"

    def unmount() -> None:
        world.root.rename(away)
        world.root.mkdir()

    save(world, 100, 200, 300)
    known = world.record("checkpoint-100")
    just_before_it_goes(monkeypatch, unmount)
    assert world.ask("remove", "checkpoint-100").startswith("refused")
    world.root.rmdir()
    away.rename(world.root)
    world.settle()
    assert world.record("checkpoint-100") == known


@pytest.mark.parametrize("order", ["remove", "undo"])
def test_where_it_lies_is_known_although_the_disk_would_not_bring_that_onto_it(
    world: World, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    save(world, 100, 200, 300)
    if order == "undo":
        assert world.ask("remove", "checkpoint-100").startswith("done")

    sync = durable.sync

    def fail(path: str) -> None:
        if path == str(world.root):
            raise OSError(5, "Input/output error")
        sync(path)

    monkeypatch.setattr(durable, "sync", fail)
    world.ask(order, "checkpoint-100")
    in_trash = order == "remove"
    assert world.in_trash() == ["checkpoint-100"] * in_trash
    assert world.record("checkpoint-100").state is (State.TRASHED if in_trash else State.VERIFIED)
    world.settle()
    assert len(world.records()) == 3


# --- scrubbing ---


def test_everything_is_read_again_in_time(tmp_path: Path) -> None:
    with world_in(tmp_path, scrub_every="7d") as world:
        save(world, 100, 200)
        world.skip(6 * DAY)
        world.judge()
        assert world.judging.read == ["checkpoint-100", "checkpoint-200"]
        world.skip(2 * DAY)
        world.judge()
        world.judge()
        assert world.judging.read == ["checkpoint-100", "checkpoint-200"] * 2
        assert world.latest() == "checkpoint-200"


@pytest.mark.needs("bindfs")
def test_a_bit_that_rots_is_found_and_its_checkpoint_is_no_longer_handed_out(tmp_path: Path) -> None:
    back = tmp_path / "disk"
    with bindfs(back, tmp_path / "output", "--ctime-from-mtime"), world_in(tmp_path, scrub_every="7d") as world:
        save(world, 100, 200)
        rewrite_in_place(back / "checkpoint-200/optimizer.pt", mtime_back=True)  # by no time in front of the mount
        world.settle(200)
        assert world.latest() == "checkpoint-200", "nothing shows it but reading"
        world.skip(8 * DAY)
        world.judge()
        world.judge()
        assert world.record("checkpoint-200").verdict == "corrupt"
        assert world.latest() == "checkpoint-100"
        (told,) = world.events("bit-rot")
        assert "nobody wrote to it, and its bytes changed" in told.message


def test_a_file_that_was_written_to_behind_its_old_time_is_no_rot(world: World) -> None:
    save(world, 100, 200)
    rewrite_in_place(world.path(200) / "optimizer.pt", mtime_back=True)
    world.settle(200)
    assert world.latest() == "checkpoint-100"
    assert world.events("bit-rot") == []
    assert len(world.events("damaged")) == 1
