"""The loop on real folders: order, runs and roots, frozen roots, restarts, judges that die, the published answer."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from builders import hf_files, make_hf_checkpoint, write_files
from lastgood.catalog import Root
from lastgood.findings import Verdict
from lastgood.life import State
from lastgood_worker import marking
from worker_world import World, rewrite_in_place, world_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def set_times(folder: Path, seconds: float) -> None:
    """As if every file had been saved then."""
    for name in os.listdir(folder):
        os.utime(folder / name, (seconds, seconds))


# --- what lay there before us ---


@pytest.mark.parametrize(
    ("times", "latest", "disputed"),
    [
        pytest.param({100: 1e9, 200: 2e9, 300: 3e9}, 300, {}, id="time and step agree"),
        pytest.param({100: 1e9, 200: 1e9, 300: 1e9}, 300, {}, id="one time for all says nothing"),
        pytest.param(
            {100: 3e9, 200: 1e9, 300: 2e9},
            100,
            {"mtime": "checkpoint-100", "step": "checkpoint-300"},
            id="from scratch",
        ),
        pytest.param(
            {100: 1e9, 200: 4e9, 300: 2e9}, 200, {"mtime": "checkpoint-200", "step": "checkpoint-300"}, id="a rollback"
        ),
    ],
)
def test_what_lay_there_is_ordered_by_time_then_step(
    world: World, times: dict[int, float], latest: int, disputed: dict[str, str]
) -> None:
    for step, seconds in times.items():
        make_hf_checkpoint(world.path(step), step)
        set_times(world.path(step), seconds)
    world.settle(10)
    assert world.latest() == f"checkpoint-{latest}"
    assert world.answer().disputed == disputed
    assert world.events("landing") == []


def test_the_times_of_one_run_say_nothing_about_another(world: World) -> None:
    make_hf_checkpoint(world.path(50, "old"), 50)
    set_times(world.path(50, "old"), 1e9)
    for step, seconds in ((900, 2e9), (1000, 2e9 - 0.5)):  # copied within the same second
        make_hf_checkpoint(world.path(step, "copied"), step)
        set_times(world.path(step, "copied"), seconds)
    world.settle(10)
    assert world.latest("copied") == "checkpoint-1000"


# --- branches ---


def save(world: World, step: int, run: str = "") -> None:
    make_hf_checkpoint(world.path(step, run), step)
    world.settle()


@pytest.mark.parametrize("name", ["checkpoint-300.backup", "checkpoint-900-copy", "best_model", "last"])
def test_a_copy_is_judged_and_listed_and_changes_nothing_else(tmp_path: Path, name: str) -> None:
    with world_in(tmp_path, keep_last=2, observe_for=0) as world:
        save(world, 100)
        save(world, 300)
        shutil.copytree(world.path(300), world.root / name)
        world.settle()
        found = world.record(name)
        assert (found.copy, found.branch, found.verdict) == (True, None, Verdict.COMPLETE)
        assert world.latest() == "checkpoint-300"
        save(world, 400)
        assert world.latest() == "checkpoint-400"
        assert {record.branch for record in world.records() if not record.copy} == {1}
        assert world.in_place() == [300, 400]
        assert (world.root / name).is_dir()
        assert world.ask("remove", name) == f"refused: {name} is kept: a copy or link is never removed"


def test_a_restart_from_scratch_in_a_used_folder_starts_a_new_branch(world: World) -> None:
    save(world, 300)
    save(world, 100)
    assert world.latest() == "checkpoint-100"
    shutil.rmtree(world.path(100))
    world.settle()
    assert world.latest() is None, "the old branch is another training"


def test_a_rollback_shares_the_past(world: World) -> None:
    for step in (100, 300):
        save(world, step)
    save(world, 200)
    assert world.latest() == "checkpoint-200"
    shutil.rmtree(world.path(200))
    world.settle()
    assert world.latest() == "checkpoint-100"


def test_a_killed_first_save_of_a_new_branch_does_not_hide_the_old_one(world: World) -> None:
    save(world, 300)
    write_files(world.path(100), hf_files(100)[:3])
    world.settle(30)
    assert world.latest() == "checkpoint-300"
    assert [record.name for record in world.answer().pending] == ["checkpoint-100"]
    world.settle(60)
    assert world.latest() == "checkpoint-300"


# --- runs and roots ---


def test_several_runs_have_their_own_answers(world: World) -> None:
    save(world, 100, "a")
    save(world, 900, "b/checkpoints")
    assert (world.latest("a"), world.latest("b/checkpoints")) == ("checkpoint-100", "checkpoint-900")


def test_runs_are_named_by_their_root_where_there_are_several(tmp_path: Path) -> None:
    with world_in(tmp_path, "one", "two") as world:
        make_hf_checkpoint(world.path(100, "llama", "one"), 100)
        make_hf_checkpoint(world.path(200, "", "two"), 200)
        world.settle(10)
        assert (world.latest("one/llama"), world.latest("two")) == ("checkpoint-100", "checkpoint-200")


def test_roots_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    with world_in(tmp_path, "a/output", "b/output") as world:
        make_hf_checkpoint(world.path(100, "", "a/output"), 100)
        make_hf_checkpoint(world.path(200, "", "b/output"), 200)
        world.settle(10)
        assert {record.run for record in world.records()} == {"a/output", "b/output"}
        for root, step in (("a/output", 100), ("b/output", 200)):
            assert world.answer(root).record.path == str(world.path(step, "", root))


def test_another_days_root_never_answers_for_todays(tmp_path: Path) -> None:
    with world_in(tmp_path, "yesterday") as world:
        save(world, 900)
        (tmp_path / "today").mkdir()
        world.restart(roots=("today",))
        make_hf_checkpoint(world.path(100, "", "today"), 100)
        world.settle(10)
        assert world.answer(".").record.path == str(world.path(100, "", "today"))
        assert published(tmp_path / "today")["name"] == "checkpoint-100"
        world.restart(roots=("yesterday",))
        world.settle(10)
        assert world.answer(".").record.path == str(world.path(900, "", "yesterday"))


def test_runs_keep_their_past_when_they_get_other_names(tmp_path: Path) -> None:
    with world_in(tmp_path, "one") as world:
        save(world, 100, "llama")
        (tmp_path / "two").mkdir()
        world.restart(roots=("one", "two"))
        make_hf_checkpoint(world.path(200, "llama"), 200)
        world.settle(10)
        assert world.latest("one/llama") == "checkpoint-200"
        shutil.rmtree(world.path(200, "llama"))
        world.settle()
        assert published(tmp_path / "one/llama")["name"] == "checkpoint-100"
        assert world.judging.read == ["checkpoint-200"]


# --- a root that is away ---


@pytest.mark.parametrize(
    "lost", [pytest.param("marker", id="its marker"), pytest.param("folder", id="the whole folder")]
)
def test_a_root_that_vanished_freezes_everything_in_it(world: World, lost: str) -> None:
    save(world, 100)
    away = world.folder / "away"
    if lost == "folder":
        world.root.rename(away)
    else:
        away.mkdir()
        for name in os.listdir(world.root):
            (world.root / name).rename(away / name)
    world.settle(30)
    assert [record.state for record in world.records()] == [State.VERIFIED]
    assert world.catalog.roots()[0].frozen
    assert world.kinds()[-1] == "root-frozen"
    if world.root.exists():
        world.root.rmdir()
    away.rename(world.root)
    world.settle(10)
    assert world.latest() == "checkpoint-100"
    assert world.kinds()[-1] == "root-back"
    assert world.judging.read == ["checkpoint-100"]


def test_a_folder_emptied_on_purpose_is_taken_up_again_when_its_marker_is_touched(world: World) -> None:
    save(world, 100)
    shutil.rmtree(world.root)
    world.root.mkdir()
    world.settle(10)
    assert world.catalog.roots()[0].frozen
    (world.root / ".lastgood-root").touch()
    world.settle(10)
    assert world.records() == []
    save(world, 50)
    assert world.latest() == "checkpoint-50"


def test_a_marker_of_another_root_is_another_folder(world: World) -> None:
    save(world, 100)
    (world.root / ".lastgood-root").write_text("0123456789abcdef\n")
    world.look()
    assert "another folder" in str(world.catalog.roots()[0].frozen)


def test_an_empty_folder_on_another_device_without_a_marker_is_a_mount_point_without_its_disk(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    known = Root(str(tmp_path), "", device + 1, None)
    assert "is its disk mounted?" in str(marking.why_frozen(known, str(tmp_path)))
    (tmp_path / "checkpoint-100").mkdir()
    assert marking.why_frozen(known, str(tmp_path)) is None


def test_a_frozen_root_stays_frozen_over_a_restart_and_stops_no_other(tmp_path: Path) -> None:
    with world_in(tmp_path, "one", "two") as world:
        make_hf_checkpoint(world.path(100, "", "one"), 100)
        world.settle(10)
        (tmp_path / "one").rename(tmp_path / "away")
        world.settle(10)
        world.restart()
        make_hf_checkpoint(world.path(200, "", "two"), 200)
        world.settle(10)
        assert world.latest("two") == "checkpoint-200"
        assert [record.state for record in world.records("one")] == [State.VERIFIED]


# --- restarts ---


def test_a_restart_reads_nothing_again_that_did_not_change(world: World) -> None:
    for step in (100, 200):
        save(world, step)
    world.restart()
    world.settle(70)
    assert world.judging.read == []
    assert world.latest() == "checkpoint-200"
    assert [record.generation for record in world.records()] == [1, 1]


def test_a_restart_in_the_middle_of_landing_loses_nothing(world: World) -> None:
    world.look()
    files = hf_files(100)
    world.write_slowly(world.path(100), files[:4], pause=2)
    world.advance(2)
    world.restart()
    world.write_slowly(world.path(100), files[4:], pause=20)
    world.settle(2)
    assert world.latest() == "checkpoint-100"
    assert world.record().generation == 1


def test_a_restart_before_it_was_judged_judges_it_then(world: World) -> None:
    world.look()
    make_hf_checkpoint(world.path(100), 100)
    world.advance(1)
    assert world.record().state is State.SETTLED
    world.restart()
    world.judge()
    assert world.latest() == "checkpoint-100"


def test_what_changed_while_no_worker_ran_is_noticed_at_the_first_look(world: World) -> None:
    for step in (100, 200, 300):
        save(world, step)
    world.stop()
    shutil.rmtree(world.path(100))
    rewrite_in_place(world.path(300) / "optimizer.pt")
    world.start()
    world.look()
    assert world.latest() == "checkpoint-200"
    assert {record.name: record.state for record in world.records()} == {
        "checkpoint-200": State.VERIFIED,
        "checkpoint-300": State.LANDING,
    }


def test_what_was_verified_shortly_before_the_machine_went_down_is_read_again(world: World) -> None:
    save(world, 100)
    world.advance(1200)
    save(world, 200)
    world.restart("the next boot")
    world.settle()
    assert world.judging.read == ["checkpoint-200"]
    assert world.latest() == "checkpoint-200"


def test_bytes_that_a_power_cut_took_are_missed(world: World) -> None:
    for step in (100, 200):
        save(world, step)
    weights = world.path(200) / "model.safetensors"
    world.stop()
    rewrite_in_place(weights, mtime_back=True)
    world.start("the next boot")
    world.settle(10)
    assert world.record("checkpoint-200").verdict is Verdict.CORRUPT
    assert world.latest() == "checkpoint-100"


def test_a_worker_that_starts_takes_back_what_the_last_one_vouched_for(world: World) -> None:
    world.look()
    world.restart()
    status = world.catalog.worker()
    assert status is not None
    assert not status.first_scan_done
    world.look()
    status = world.catalog.worker()
    assert status is not None
    assert status.first_scan_done


def test_what_is_read_is_no_longer_called_in_work(world: World) -> None:
    make_hf_checkpoint(world.path(100), 100)
    while world.judging.job is None:
        world.at += 1
        world.look()
    assert progress_told(world)["name"] == "checkpoint-100"
    world.judge()
    assert progress_told(world) == {}


def progress_told(world: World) -> Mapping[str, Any]:
    status = world.catalog.worker()
    assert status is not None
    return status.progress


def test_a_lost_catalog_is_found_again_on_disk(world: World) -> None:
    for step in (100, 200):
        save(world, step)
    world.stop()
    shutil.rmtree(world.folder / "state")
    world.start()
    world.settle(10)
    assert world.latest() == "checkpoint-200"
    assert sorted(world.judging.read) == ["checkpoint-100", "checkpoint-200"]


def test_the_newest_is_read_first(world: World) -> None:
    for step in (100, 300, 200):
        make_hf_checkpoint(world.path(step), step)
        set_times(world.path(step), 1e9 + step)
    world.settle(10)
    assert world.judging.read == ["checkpoint-300", "checkpoint-200", "checkpoint-100"]


# --- what is published ---


def published(run_folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run_folder / ".lastgood/latest.json").read_text())
    return found


def test_the_file_always_says_what_the_answer_is_refusals_too(world: World) -> None:
    write_files(world.path(100), hf_files(100)[:3])
    world.settle()
    assert published(world.root)["refusal"]
    for step in (200, 300):
        save(world, step)
        assert published(world.root)["name"] == world.latest() == f"checkpoint-{step}"
    (world.path(300) / "optimizer.pt").unlink()
    world.look()
    assert published(world.root)["name"] == world.latest() == "checkpoint-200"
    rewrite_in_place(world.path(200) / "optimizer.pt")
    world.look()
    assert world.latest() is None
    refusal = published(world.root)["refusal"]
    assert isinstance(refusal, dict)
    assert refusal["code"] == "none-acceptable"
    shutil.rmtree(world.path(200))
    shutil.rmtree(world.path(300))
    shutil.rmtree(world.path(100))
    world.look()
    assert published(world.root) == {
        "refusal": {"code": "no-checkpoints-yet", "message": "nothing has been saved here yet"}
    }


def test_a_run_folder_that_cannot_be_written_is_told_once_and_stops_nothing(world: World) -> None:
    (world.root / ".lastgood").write_text("a file where our folder belongs")
    for step in (100, 200):
        save(world, step)
    assert world.latest() == "checkpoint-200"
    assert len(world.events("latest-not-written")) == 1


def test_names_that_are_no_text_stop_nobody(world: World) -> None:
    save(world, 100)
    strange = os.fsencode(world.path(200)) + b"/notes-\xff.txt"
    make_hf_checkpoint(world.path(200), 200)
    with open(strange, "wb") as file:
        file.write(b"caf\xe9")
    os.makedirs(os.fsencode(world.root) + b"/mod\xe8le/checkpoint-5")
    with open(strange, "r+b"):
        world.advance(5)
        assert "notes-" in str(world.record("checkpoint-200").waiting_for)
    world.settle(20)
    assert world.latest() == "checkpoint-200"
