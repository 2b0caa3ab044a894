"""What the worker keeps of each checkpoint that it read, and what the next reading is held against."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from builders import hf_files, make_hf_checkpoint, write_files
from lastgood.findings import Code, Severity, Verdict
from lastgood.life import State
from lastgood.manifest import manifest_as_json, read_manifest
from lastgood_worker.judge import own_manifest
from lastgood_worker.judging import Job
from lastgood_worker.verdicts import most_urgent, previous
from recording import record
from worker_world import World, rewrite_in_place, world_in

if TYPE_CHECKING:
    from pathlib import Path

    from lastgood.records import Record


def manifests(world: World) -> list[str]:
    folder = world.root / ".lastgood" / "manifests"
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def codes(world: World, name: str) -> set[Code]:
    _, report = world.catalog.record(world.record(name).id)
    assert report is not None
    return {Code(finding["code"]) for finding in report["findings"]}


# --- which there are ---


def test_every_accepted_checkpoint_has_its_manifest(world: World) -> None:
    make_hf_checkpoint(world.path(100), 100)
    write_files(world.path(200), [file for file in hf_files(200) if file[0] != "scheduler.pt"])
    write_files(world.path(300), [file for file in hf_files(300) if "safetensors" not in file[0]])
    world.settle(70)
    assert world.record("checkpoint-200").verdict is Verdict.PARTIAL
    assert manifests(world) == ["checkpoint-100.json", "checkpoint-200.json"]
    kept = read_manifest(str(world.root / ".lastgood/manifests/checkpoint-100.json"))
    record = world.record("checkpoint-100")
    assert (kept.name, kept.fingerprint, kept.step) == (record.name, record.fingerprint, 100)
    assert {file.path: file.digest for file in kept.files} == world.catalog.digests(record.id)


def test_the_manifest_goes_with_its_checkpoint(world: World) -> None:
    for step in (100, 200):
        make_hf_checkpoint(world.path(step), step)
    world.settle()
    shutil.rmtree(world.path(100))
    rewrite_in_place(world.path(200) / "optimizer.pt")
    world.advance(130)
    assert world.record().state is State.LANDING
    assert manifests(world) == []


def test_a_folder_that_takes_no_manifest_is_told_once_and_is_no_outage(world: World) -> None:
    (world.root / ".lastgood").mkdir()
    (world.root / ".lastgood" / "manifests").write_text("a file in the folder's place")
    for step in (100, 200):
        make_hf_checkpoint(world.path(step), step)
    world.settle()
    assert world.latest() == "checkpoint-200"
    (event,) = world.events("manifest-not-written")
    assert event.severity is Severity.WARNING
    assert "manifests of run . cannot be written" in event.message


def test_the_digest_is_the_one_that_was_chosen(tmp_path: Path) -> None:
    with world_in(tmp_path, digest="sha256") as world:
        make_hf_checkpoint(world.path(100), 100)
        world.settle()
        digests = world.catalog.digests(world.record().id).values()
        assert {digest.partition(":")[0] for digest in digests} == {"sha256"}


# --- bytes that rot ---


def test_what_rotted_is_corrupt_and_its_manifest_stays_as_it_was(world: World) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.settle()
    kept = (world.root / ".lastgood/manifests/checkpoint-100.json").read_text()
    rewrite_in_place(world.path(100) / "model.safetensors", mtime_back=True)
    world.settle()
    assert world.record().verdict is Verdict.CORRUPT
    assert Code.MANIFEST_MISMATCH in codes(world, "checkpoint-100")
    assert (world.root / ".lastgood/manifests/checkpoint-100.json").read_text() == kept


def test_what_rotted_stays_corrupt_however_often_it_is_read(world: World) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.settle()
    rewrite_in_place(world.path(100) / "model.safetensors", mtime_back=True)
    world.settle()
    shutil.rmtree(world.root / ".lastgood")
    (world.path(100) / "model.safetensors").chmod(0o640)
    world.settle(130)
    assert world.judging.read == ["checkpoint-100"] * 3
    assert world.record().verdict is Verdict.CORRUPT


def test_the_manifest_vouches_for_the_bytes_where_the_catalog_was_lost(world: World) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.settle()
    path = world.root / ".lastgood/manifests/checkpoint-100.json"
    kept = read_manifest(str(path))
    files = tuple(replace(file, digest="crc64nvme:" + "0" * 16) for file in kept.files)
    path.write_text(json.dumps(manifest_as_json(replace(kept, files=files))))
    world.stop()
    shutil.rmtree(world.folder / "state")
    world.start()
    world.settle(70)
    assert world.record().verdict is Verdict.CORRUPT


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"lastgood_manifest": 9}'])
def test_a_broken_manifest_is_none(text: str, world: World) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.settle()
    (world.root / ".lastgood/manifests/checkpoint-100.json").write_text(text)
    world.stop()
    shutil.rmtree(world.folder / "state")
    world.start()
    make_hf_checkpoint(world.path(200), 200)
    world.settle(70)
    assert {record.verdict for record in world.records()} == {Verdict.COMPLETE}


def _job(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    path = tmp_path / "checkpoint-100.json"
    path.write_text(
        json.dumps({"lastgood_manifest": 1, "name": "checkpoint-100", "fingerprint": "as written", "files": []})
    )
    facts = {"manifest": str(path), "kept": (), **changes}
    return Job(1, "llama", "checkpoint-100", "/out/checkpoint-100", "as written", 1, inodes=True, **facts).as_json()


def test_a_manifest_of_other_content_is_not_held_against_it(tmp_path: Path) -> None:
    assert own_manifest(_job(tmp_path)) is not None
    assert own_manifest({**_job(tmp_path), "fingerprint": "another"}) is None


# --- the one before it ---


def test_weights_that_did_not_move_are_noticed_by_the_manifest_of_the_one_before(world: World) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.settle()
    files = dict(hf_files(200))
    files["optimizer.pt"] = dict(hf_files(100))["optimizer.pt"]
    write_files(world.path(200), list(files.items()))
    world.settle()
    assert Code.FILE_OF_ANOTHER in codes(world, "checkpoint-200")


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        pytest.param([record(100), record(200, 1)], "checkpoint-200", id="the newest"),
        pytest.param([record(100), record(400, 1)], "checkpoint-100", id="none that comes after it"),
        pytest.param([record(100), record(200, 1, verdict=Verdict.CORRUPT)], "checkpoint-100", id="an accepted one"),
        pytest.param([record(100, verdict=Verdict.PARTIAL)], "checkpoint-100", id="a partial one is accepted"),
        pytest.param([record(100), record(200, 1, state=State.SETTLED)], "checkpoint-100", id="one that was read"),
        pytest.param([record(100), record(200, 1, state=State.GONE)], "checkpoint-100", id="one that is there"),
        pytest.param(
            [record(100), record(200, 1), record(250, 2, branch=2)], "checkpoint-200", id="none of a later branch"
        ),
        pytest.param([], None, id="there is none"),
    ],
)
def test_which_one_came_before(others: list[Record], expected: str | None) -> None:
    this = record(300, 9, state=State.SETTLED, verdict=None)
    found = previous(this, [*others, this])
    assert (found.name if found else None) == expected


def test_a_branch_goes_on_where_it_forked() -> None:
    run = [record(100), record(200, 1), record(300, 2), record(150, 3, branch=2)]
    this = record(250, 4, branch=2, state=State.SETTLED, verdict=None)
    first = record(150, 3, branch=2)
    assert previous(this, [*run, this]) == first
    assert previous(first, run) == record(100)


def test_a_copy_follows_nothing() -> None:
    assert previous(record(300, 9, branch=None), [record(100)]) is None


# --- what is read first ---


@pytest.mark.parametrize(
    ("waiting", "present", "first"),
    [
        pytest.param(
            [record(100, 0, state=State.SETTLED), record(200, 1, state=State.SETTLED)], [], 1, id="the newest first"
        ),
        pytest.param(
            [record(900, 0, state=State.SETTLED), record(200, 1, state=State.SETTLED, run="gpt")],
            [record(1000, 2)],
            1,
            id="what a newer accepted one supersedes waits, also for other runs",
        ),
        pytest.param(
            [record(900, 0, state=State.SETTLED), record(200, 1, state=State.SETTLED, run="gpt")],
            [record(1000, 2, verdict=Verdict.CORRUPT)],
            0,
            id="what is not accepted supersedes nothing",
        ),
        pytest.param(
            [record(900, 0), record(200, 1, state=State.SETTLED)],
            [record(1000, 2)],
            1,
            id="what was never judged comes before what is read again",
        ),
    ],
)
def test_which_is_read_next(waiting: list[Record], present: list[Record], first: int) -> None:
    assert most_urgent(waiting, [*waiting, *present]) == waiting[first]
