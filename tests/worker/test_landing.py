"""How saves land, on real folders: what is handed out when, whatever the writer does."""

from __future__ import annotations

import mmap
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from builders import Files, hf_files, make_hf_checkpoint, make_plain_checkpoint, plain_files, write_file, write_files
from lastgood.findings import Severity, Verdict
from lastgood.life import State
from lastgood.records import Evidence
from worker_world import World, rewrite_in_place, world_in

if TYPE_CHECKING:
    from pathlib import Path


NOT_NEEDED = ("generation_config.json", "training_args.bin")


def tokenizer_last(step: int) -> Files:
    """A plain save in the order of a script that saves its tokenizer at the end."""
    files = plain_files(step)
    return [f for f in files if "tokenizer" not in f[0]] + [f for f in files if "tokenizer" in f[0]]


def look_at_landing(world: World) -> None:
    """The empty output folder is looked at once, so that what comes is not taken for what was there before us."""
    world.look()


# --- slow writers ---


@pytest.mark.parametrize(
    ("files", "evidence", "seconds"),
    [
        pytest.param(hf_files(100), Evidence.MARKER, 1.0, id="Trainer: its last file ends it"),
        pytest.param(plain_files(100), Evidence.STRUCTURAL, 61.0, id="plain: three of its pauses must pass"),
        pytest.param(tokenizer_last(100), Evidence.STRUCTURAL, 61.0, id="plain, the tokenizer after the state"),
    ],
)
def test_a_slow_writer_is_never_handed_out_before_its_last_file(
    world: World, files: Files, evidence: Evidence, seconds: float
) -> None:
    look_at_landing(world)
    world.write_slowly(world.path(100), files, pause=20)
    world.settle(seconds)
    assert world.latest() == "checkpoint-100"
    assert world.record().evidence is evidence
    assert world.record().generation == 1


@pytest.mark.parametrize("name", [name for name, _ in hf_files(100)[:-1] if name not in NOT_NEEDED])
def test_a_save_that_lacks_one_file_is_never_handed_out_as_complete(world: World, name: str) -> None:
    look_at_landing(world)
    write_files(world.path(100), [f for f in hf_files(100) if f[0] != name])
    world.settle(120)
    assert world.latest() is None


def test_a_file_at_full_size_that_is_filled_later_is_waited_for(world: World) -> None:
    look_at_landing(world)
    files = dict(plain_files(100, weight_rows=20_000))
    weights = files.pop("model.safetensors")
    folder = world.path(100)
    folder.mkdir()
    header = weights[: 8 + int.from_bytes(weights[:8], "little")]
    (folder / "model.safetensors").write_bytes(header)
    os.truncate(folder / "model.safetensors", len(weights))
    write_files(folder, list(files.items()))
    world.settle(50)
    assert world.record().state is State.LANDING
    (folder / "model.safetensors").write_bytes(weights)
    world.settle(200)
    assert world.latest() == "checkpoint-100"


def test_a_shared_mapping_that_is_still_open_is_waited_for(world: World) -> None:
    look_at_landing(world)
    make_hf_checkpoint(world.path(100), 100)
    with (world.path(100) / "optimizer.pt").open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    world.settle(60)
    assert world.record().waiting_for == "optimizer.pt is open for writing"
    assert world.record().active
    assert world.latest() is None
    mapped.close()
    world.settle()
    assert world.latest() == "checkpoint-100"


def test_a_save_in_which_a_mark_says_unfinished_is_waited_for(world: World) -> None:
    look_at_landing(world)
    make_hf_checkpoint(world.path(100), 100)
    (world.path(100) / "checkpoint-is-incomplete.txt").touch()
    world.settle(60)
    assert world.latest() is None
    (world.path(100) / "checkpoint-is-incomplete.txt").unlink()
    world.settle()
    assert world.latest() == "checkpoint-100"


def test_a_short_file_is_told_and_the_older_one_handed_out(world: World) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.settle()
    files = hf_files(200)  # cut before the last one is written: that one says that the save is finished
    write_files(
        world.path(200), [(name, content[:-10] if name == "model.safetensors" else content) for name, content in files]
    )
    world.settle()
    assert world.record("checkpoint-200").verdict is Verdict.INCOMPLETE
    assert world.latest() == "checkpoint-100"
    assert [event.severity for event in world.events("damaged")] == [Severity.WARNING]


def test_a_pipe_in_a_files_place_holds_nobody_up(world: World) -> None:
    make_hf_checkpoint(world.path(100), 100)
    make_hf_checkpoint(world.path(200), 200)
    (world.path(200) / "scheduler.pt").unlink()
    os.mkfifo(world.path(200) / "scheduler.pt")
    world.settle(70)
    assert world.record("checkpoint-200").verdict is Verdict.CORRUPT
    assert world.latest() == "checkpoint-100"


def test_an_empty_folder_waits_and_the_judge_is_never_asked(world: World) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.settle()
    world.path(200).mkdir()
    world.settle(120)
    record = world.record("checkpoint-200")
    assert (record.state, record.active) == (State.LANDING, False)
    assert world.judging.read == ["checkpoint-100"]
    make_hf_checkpoint(world.path(200), 200)
    world.settle()
    assert world.latest() == "checkpoint-200"


# --- what appears at once ---


@pytest.mark.parametrize(
    "temporary",
    [pytest.param("tmp-checkpoint-100", id="as old Trainers"), pytest.param("checkpoint-100.tmp", id=".tmp")],
)
def test_a_folder_that_was_renamed_into_place_is_believed_soon(world: World, temporary: str) -> None:
    look_at_landing(world)
    world.write_slowly(world.root / temporary, plain_files(100), pause=20)
    world.advance(20)
    (world.root / temporary).rename(world.path(100))
    world.settle(1.5)
    assert world.record().evidence is Evidence.RENAMED
    assert world.latest() == "checkpoint-100"


def test_a_folder_that_got_the_number_of_a_removed_temporary_one_was_not_renamed(world: World) -> None:
    look_at_landing(world)
    temporary = world.root / "checkpoint-1.tmp"
    temporary.mkdir()
    world.advance(2)
    temporary.rename(world.root / "elsewhere")  # the very same inode, some looks later
    world.advance(2)
    (world.root / "elsewhere").rename(world.path(100))
    world.write_slowly(world.path(100), plain_files(100), pause=1)
    world.advance(1)
    assert world.record().state is State.LANDING
    world.settle()
    assert world.record().evidence is Evidence.STRUCTURAL


def test_files_that_appear_by_rename_below_the_folder_are_seen(world: World) -> None:
    look_at_landing(world)
    make_hf_checkpoint(world.path(100), 100)
    nested = world.path(100) / "extra"
    nested.mkdir()
    (nested / ".tmpQ7w8E9").write_bytes(b"half")
    world.settle(10)
    assert world.latest() is None
    (nested / ".tmpQ7w8E9").rename(nested / "notes.txt")
    world.settle(35)
    assert world.latest() == "checkpoint-100"


# --- saves over saves ---


@pytest.mark.parametrize("make", [make_hf_checkpoint, make_plain_checkpoint])
def test_a_save_over_an_older_one_is_not_handed_out_half_new(world: World, make: object) -> None:
    files = hf_files if make is make_hf_checkpoint else plain_files
    write_files(world.path(100), files(100))
    world.settle(10)
    assert world.latest() == "checkpoint-100"
    make_hf_checkpoint(world.path(50, "other"), 50)
    world.write_slowly(world.path(100), files(100), pause=20)
    world.settle(70)
    assert world.latest() == "checkpoint-100"
    assert world.record("checkpoint-100").generation == 2


def test_a_save_over_another_that_was_killed_is_given_up_when_a_later_one_landed(world: World) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.settle()
    write_files(world.path(100), hf_files(100)[:4])
    world.settle(60)
    assert world.record().state is State.LANDING
    make_hf_checkpoint(world.path(200), 200)
    world.settle(10)
    killed = world.record("checkpoint-100")
    assert (killed.verdict, killed.evidence) == (Verdict.INCOMPLETE, Evidence.QUIET)
    assert "still that of the save before" in world.events("save-unfinished")[0].message
    assert world.latest() == "checkpoint-200"


@pytest.mark.parametrize("when", ["before it is read", "before it is read again"])
def test_why_a_save_was_given_up_is_known_after_a_restart(world: World, when: str) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.settle()
    write_files(world.path(100), hf_files(100)[:4])
    world.advance(60)
    make_hf_checkpoint(world.path(200), 200)
    world.advance(10)
    assert world.record("checkpoint-100").state is State.SETTLED
    if when == "before it is read again":
        world.judge()
    world.restart()
    world.ask("verify", "checkpoint-100")
    world.judge()
    assert world.record("checkpoint-100").verdict is Verdict.INCOMPLETE


def test_a_save_that_never_ends_is_given_up_in_time(tmp_path: Path) -> None:
    with world_in(tmp_path, settle_timeout_seconds=120) as world:
        look_at_landing(world)
        write_files(world.path(100), hf_files(100)[:-1])
        world.settle(115)
        assert world.record().state is State.LANDING
        world.settle(10)
        assert world.record().verdict is Verdict.INCOMPLETE
        assert world.latest() is None
        assert "save-unfinished" in world.kinds()


def test_what_was_given_up_too_early_is_judged_anew_when_it_ends(world: World) -> None:
    look_at_landing(world)
    write_files(world.path(100), hf_files(100)[:-1])
    world.settle()
    make_hf_checkpoint(world.path(200), 200)
    world.settle()
    assert world.record("checkpoint-100").verdict is Verdict.INCOMPLETE
    shutil.rmtree(world.path(200))
    write_file(world.path(100), *hf_files(100)[-1])
    world.settle()
    assert world.latest() == "checkpoint-100"


# --- the job's word ---


def test_the_jobs_word_is_evidence_but_no_substitute_for_files(world: World) -> None:
    look_at_landing(world)
    files = plain_files(100)
    world.write_slowly(world.path(100), files[:-1], pause=20)
    request = world.catalog.add_request("landed", run=".", name="checkpoint-100", now=world.now)
    world.settle(10)
    assert world.catalog.request(request.id).state == "done"
    assert world.record().state is State.LANDING
    write_file(world.path(100), *files[-1])
    world.settle(1.5)
    assert world.record().evidence is Evidence.DECLARED
    assert world.latest() == "checkpoint-100"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param("landed", "checkpoint-7", id="no such checkpoint"),
        pytest.param("polish", "checkpoint-1", id="unknown"),
    ],
)
def test_what_cannot_be_done_is_refused(world: World, kind: str, name: str) -> None:
    request = world.catalog.add_request(kind, run=".", name=name, now=world.now)
    world.settle(11)
    closed = world.catalog.request(request.id)
    assert closed.state == "refused"
    assert closed.result


def test_the_jobs_word_waits_until_its_checkpoint_is_seen(world: World) -> None:
    request = world.catalog.add_request("landed", run=".", name="checkpoint-100", now=world.now)
    world.look()
    assert world.catalog.request(request.id).state == "open"
    make_plain_checkpoint(world.path(100), 100)
    world.settle(1.5)
    assert world.catalog.request(request.id).state == "done"
    assert world.record().evidence is Evidence.DECLARED


# --- after it was judged ---


def test_a_rewrite_in_place_is_refused_at_once_and_noticed_by_a_sweep(world: World) -> None:
    for step in (100, 200):
        make_hf_checkpoint(world.path(step), step)
    world.settle()
    rewrite_in_place(world.path(100) / "optimizer.pt")
    rewrite_in_place(world.path(200) / "optimizer.pt")
    assert world.latest() is None
    world.settle(130)
    assert world.latest() is None
    assert {record.state for record in world.records()} == {State.LANDING}
    assert [event.name for event in world.events("changed")] == ["checkpoint-200", "checkpoint-100"]


@pytest.mark.parametrize("how", ["chmod", "hard link"])
def test_what_only_changes_its_metadata_is_read_again_and_served_meanwhile(world: World, how: str) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.settle()
    weights = world.path(100) / "model.safetensors"
    if how == "chmod":
        weights.chmod(0o640)
    else:
        os.link(weights, world.folder / "linked")
    world.advance(2)
    assert world.latest() == "checkpoint-100"
    world.judge()
    assert world.latest() == "checkpoint-100"
    assert world.judging.read == ["checkpoint-100", "checkpoint-100"]
    assert world.record().generation == 1


def test_bytes_that_changed_behind_an_old_time_are_found_when_it_is_read_again(world: World) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.settle()
    rewrite_in_place(world.path(100) / "model.safetensors", mtime_back=True)
    world.settle()
    assert world.record().verdict is Verdict.CORRUPT
    assert world.latest() is None
    (world.path(100) / "model.safetensors").chmod(0o640)
    world.settle(3000)
    assert world.latest() is None


def test_a_trainers_own_rotation_file_by_file_is_no_alarm(world: World) -> None:
    for step in (100, 200):
        make_hf_checkpoint(world.path(step), step)
    world.settle()
    for name in sorted(os.listdir(world.path(100))):
        (world.path(100) / name).unlink()
        world.advance(2)
        world.judge()
        assert world.latest() == "checkpoint-200"
    world.path(100).rmdir()
    world.settle()
    assert [record.name for record in world.records()] == ["checkpoint-200"]
    assert world.kinds()[-1] == "removed-externally"
    assert {event.severity for event in world.events()} == {Severity.INFO}


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param("landing", id="while it lands"),
        pytest.param("settled", id="while it is read"),
        pytest.param("verified", id="after it was judged"),
    ],
)
def test_what_is_removed_is_gone_whatever_stage_it_was_in(world: World, stage: str) -> None:
    look_at_landing(world)
    write_files(world.path(100), hf_files(100)[: -1 if stage == "landing" else None])
    world.judging.crawl(crawling=stage == "settled")
    world.advance(2)
    if stage == "verified":
        world.judge()
    assert world.record().state is State(stage)
    shutil.rmtree(world.path(100))
    world.settle()
    assert world.records() == []
    assert world.judging.job is None
    assert world.kinds()[-1] in ("removed-externally", "latest")
