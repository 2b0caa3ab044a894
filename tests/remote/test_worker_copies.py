"""The worker copies what it judged, and nothing else, to a real store."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from builders import make_hf_checkpoint
from cloud_worker import cloud_world
from injuries import flip_bit_in_storage
from lastgood.cloud import CopyState, Proof
from worker_world import rewrite_in_place

if TYPE_CHECKING:
    from pathlib import Path

    from cloud_worker import CloudWorld
    from s3_servers import S3Server


def test_a_judged_checkpoint_is_copied_and_proven(world: CloudWorld) -> None:
    make_hf_checkpoint(world.path(100, "llama"), 100)
    world.copy_all()
    (copy,) = world.copies()
    assert (copy.run, copy.name, copy.step, copy.proof) == ("llama", "checkpoint-100", 100, Proof.FULL_OBJECT)
    upload = world.upload(100)
    assert (upload.state, upload.checkpoint_id) == (CopyState.PROVEN, world.record().id)
    assert "uploaded" in world.kinds()


def test_what_is_copied_is_not_sent_again_by_the_next_life(world: CloudWorld) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.copy_all()
    world.restart()
    world.copy_all()
    assert world.kinds().count("uploaded") == 1


@pytest.mark.parametrize(("accept", "copied"), [("complete", [100]), ("partial", [100, 200])])
def test_only_what_is_accepted_is_copied(
    accept: str, copied: list[int], tmp_path: Path, seaweed: S3Server, bucket: str
) -> None:
    with cloud_world(tmp_path, seaweed, bucket, tmp_path.name, upload_accept=accept) as world:
        make_hf_checkpoint(world.path(100), 100)
        make_hf_checkpoint(world.path(200), 200)
        (world.path(200) / "optimizer.pt").unlink()
        make_hf_checkpoint(world.path(300), 300)
        flip_bit_in_storage(world.path(300) / "optimizer.pt")
        world.copy_all()
        world.skip(1900)  # what lacks a file is waited for
        world.copy_all()
        assert world.copied() == copied


def test_some_checkpoints_are_chosen_by_rule_and_by_pin(tmp_path: Path, seaweed: S3Server, bucket: str) -> None:
    which = "every 200, pinned"
    with cloud_world(tmp_path, seaweed, bucket, tmp_path.name, upload_which=which) as world:
        for step in (100, 200, 300):
            make_hf_checkpoint(world.path(step), step)
        world.copy_all()
        assert world.copied() == [200]
        world.catalog.pin(world.record("checkpoint-100").id, holder="a person", now=world.now)
        world.later(60)
        assert world.copied() == [100, 200]


def test_bytes_that_changed_behind_our_back_are_never_copied(world: CloudWorld) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.settings_changed["upload"] = "off"
    world.restart()
    world.settle()
    rewrite_in_place(world.path(100) / "model.safetensors", mtime_back=True)
    world.settings_changed["upload"] = "on"
    world.restart()
    world.errands()
    assert world.copied() == []


def test_keys_are_neither_kept_nor_told(world: CloudWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    make_hf_checkpoint(world.path(100), 100)
    world.copy_all()
    world.stop()
    kept = b"".join(path.read_bytes() for path in (world.folder / "state").iterdir() if path.is_file())
    assert world.server.secret_key.encode() not in kept
    assert world.server.secret_key not in caplog.text


@pytest.mark.parametrize("kind", ["moto_server", "rclone_server", "seaweed_tls"])
def test_other_stores_get_the_best_proof_that_they_allow(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server: S3Server = request.getfixturevalue(kind)
    proof = {"moto_server": Proof.PARTS_MD5, "rclone_server": Proof.READ_BACK, "seaweed_tls": Proof.FULL_OBJECT}[kind]
    with cloud_world(tmp_path, server, server.new_bucket(), "backup") as world:
        make_hf_checkpoint(world.path(100), 100, weight_rows=200_000)
        world.copy_all()
        (copy,) = world.copies()
        assert copy.proof is proof
        (probed,) = world.events("store-probed")
        assert str(proof) in probed.message


def test_what_is_written_anew_before_it_was_read_again_has_no_copy(world: CloudWorld) -> None:
    make_hf_checkpoint(world.path(100), 100)
    world.copy_all()
    world.restart(boot="another boot")
    shutil.rmtree(world.path(100))
    make_hf_checkpoint(world.path(100), 100, weight_rows=6)
    world.copy_all()
    assert len(world.copies()) == 2
    uploads = world.catalog.uploads(world.remote.identity)
    (mine,) = [upload for upload in uploads if upload.checkpoint_id == world.record().id]
    assert mine.copy.bytes == world.record().bytes
