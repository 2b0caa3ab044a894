"""Copies stay as long as they must, come back, and are sent again when they are lost."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from builders import make_hf_checkpoint
from cloud_worker import cloud_world
from lastgood.cloud import CopyState
from lastgood.remote import verify_copy

if TYPE_CHECKING:
    from pathlib import Path

    from cloud_worker import CloudWorld
    from s3_servers import S3Server


def test_a_worker_that_lost_its_catalog_finds_the_copies_again(world: CloudWorld) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.copy_all()
    first = world.copies()
    world.stop()
    shutil.rmtree(world.folder / "state")
    world.start()
    world.copy_all()
    assert world.copies() == first
    assert "uploaded" not in world.kinds()
    assert world.upload(100).checkpoint_id == world.record().id


def test_what_somebody_else_removed_from_the_cloud_is_told_and_sent_again(world: CloudWorld) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.copy_all()
    world.store().remove([f"{world.upload(100).copy.key}/COMMIT"])
    world.later(3601)
    assert world.kinds().count("copy-missing") == 1
    assert world.copied() == [100]


def test_nothing_is_removed_before_its_copy_is_proven_where_that_is_required(
    tmp_path: Path, seaweed: S3Server, bucket: str
) -> None:
    with cloud_world(tmp_path, seaweed, bucket, tmp_path.name, observe_for=0, keep_last=1, upload="required") as world:
        for step in (100, 200, 300, 400):
            make_hf_checkpoint(world.path(step), step)
        world.settle()
        world.errands_without_a_store()
        world.ask("apply", confirm=None)
        world.look()
        assert world.in_place() == [100, 200, 300, 400]
        assert world.kinds().count("cloud-trouble") == 1
        world.later(30)
        assert world.copied() == [100, 200, 300, 400]
        world.look()
        world.look()
        assert world.in_place() == [300, 400]
        assert "cloud-back" in world.kinds()


def test_copies_are_kept_by_rules_of_their_own_and_the_last_good_ones_whatever_they_say(
    tmp_path: Path, seaweed: S3Server, bucket: str
) -> None:
    with cloud_world(tmp_path, seaweed, bucket, tmp_path.name) as world:
        for step in (100, 200, 300, 400, 500):
            make_hf_checkpoint(world.path(step), step)
        world.copy_all()
        world.settings_changed["remote_keep_last"] = 1
        world.restart()
        world.errands()
        assert world.copied() == [100, 200, 300, 400, 500]
        (told,) = world.events("copies-wait")
        assert world.ask("apply", confirm=told.message.rpartition(" ")[2]).startswith("done")
        world.errands()
        assert world.copied() == [400, 500]
        assert not [key for key in world.objects() if "checkpoint-1" in key or "checkpoint-2" in key]
        assert world.in_place() == [100, 200, 300, 400, 500]


def test_what_comes_back_belongs_to_its_old_line_and_stays(world: CloudWorld) -> None:
    for step in (100, 200, 300):
        make_hf_checkpoint(world.path(step), step)
    world.copy_all()
    shutil.rmtree(world.path(100))
    world.later(10)
    gone = world.upload(100).checkpoint_id
    assert gone is not None
    made = world.catalog.add_request("pull", run=".", name="checkpoint-100", now=world.now, checkpoint_id=gone)
    world.errands()
    assert world.catalog.request(made.id).state == "done"
    world.copy_all()
    assert world.latest() == "checkpoint-300"
    back = world.record("checkpoint-100")
    assert (back.branch, back.verdict, back.evidence) == (1, "complete", "declared")
    assert [hold.holder for hold in world.catalog.holds(world.now)[back.id]] == ["pull"]
    assert world.kinds().count("uploaded") == 3


def test_a_copy_is_fetched_every_week_to_see_that_copies_come_back(world: CloudWorld) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.copy_all()
    assert "drill" not in world.kinds()
    world.later(8 * 86_400)
    assert world.kinds().count("drill") == 1
    place = world.catalog.place(world.remote.identity)
    assert place is not None
    assert place.drilled_at is not None
    assert not list(world.root.glob(".lastgood/pulling/*"))


def test_a_copy_that_does_not_come_back_whole_is_told_and_sent_again(world: CloudWorld) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.copy_all()
    world.damage_copy(100)
    world.later(8 * 86_400)
    assert "drill-failed" in world.kinds()
    world.later(8 * 86_400)
    assert "drill" in world.kinds()
    assert world.upload(100).state is CopyState.PROVEN


def test_what_is_removed_while_it_is_copied_leaves_no_copy_and_nothing_behind(world: CloudWorld) -> None:
    make_hf_checkpoint(world.path(100), 100, weight_rows=2_000_000)
    world.settings_changed["upload_max_rate"] = 10_000_000
    world.settings_changed["upload_abandon_after"] = 0
    world.restart()
    world.settle()
    while not world.objects():
        world.look()
    shutil.rmtree(world.path(100))
    world.errands()
    world.later(7 * 3600)
    assert world.copied() == []
    assert all(key.endswith("uploader") for key in world.objects())
    assert not world.store().pending(f"{world.remote.prefix}/")


def test_a_second_worker_waits_as_long_as_the_first_one_sends_below_the_same_run(
    world: CloudWorld, tmp_path: Path, seaweed: S3Server, bucket: str
) -> None:
    make_hf_checkpoint(world.path(100, "llama"), 100)
    world.copy_all()
    with cloud_world(tmp_path / "other", seaweed, bucket, tmp_path.name) as other:
        make_hf_checkpoint(other.path(200, "llama"), 200)
        make_hf_checkpoint(other.path(50, "bert"), 50)
        other.copy_all()
        assert other.kinds().count("upload-waits") == 1
        assert [(copy.run, copy.step) for copy in other.copies()] == [("bert", 50), ("llama", 100)]


def test_another_copy_under_the_same_commit_is_a_conflict_and_stays_as_it_is(world: CloudWorld) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.copy_all()
    upload = world.upload(100)
    commit = f"{upload.copy.key}/COMMIT"
    found = world.store().get(commit)
    assert found is not None
    other = found[0].replace(upload.copy.digest.encode(), b"0" * 64)
    world.store().put(commit, other)
    world.stop()
    shutil.rmtree(world.folder / "state")
    world.forget_uploader()
    world.start()
    world.copy_all()
    assert "copy-conflict" in world.kinds()
    assert world.upload(100).state is CopyState.CONFLICT
    still = world.store().get(commit)
    assert still is not None
    assert still[0] == other


def test_a_damaged_copy_is_not_believed_again_because_its_next_upload_failed(world: CloudWorld) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.copy_all()
    world.damage_copy(100)
    world.skip(8 * 86_400)
    while "drill-failed" not in world.kinds():
        world.look()
    world.errands_without_a_store()
    world.later(700)
    (copy,) = world.copies()
    assert verify_copy(world.store(), copy, read=True).good
