"""How the store is spoken to: where requests go, what objects are written with, what a probe makes of a store."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from builders import make_hf_checkpoint
from bundling import bundle_of
from lastgood.cloud import Proof, Remote
from lastgood.errors import NoLongerAsJudged, RemoteError
from lastgood.remote import Store, Uploader, fetch, find_copies, probe, read_bundle, send, verify_copy
from s3_servers import use

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3_servers import S3Server

_watched: list[set[Any]] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        for seen in _watched:
            seen.add(arguments[1])


sys.addaudithook(_note)


@contextmanager
def connections() -> Iterator[set[Any]]:
    """Every address that this process connects to meanwhile."""
    seen: set[Any] = set()
    _watched.append(seen)
    try:
        yield seen
    finally:
        _watched.remove(seen)


def test_no_request_leaves_for_another_address_than_the_configured_one(
    seaweed: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, seaweed)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")  # what boto3 would find by itself
    with connections() as seen:
        store = Store(Remote(seaweed.new_bucket(), "a", seaweed.endpoint, region="eu-central-1"))
        able = probe(store)
        bundle = bundle_of(make_hf_checkpoint(tmp_path / "checkpoint-100", 100), "run", store.remote)
        copy = send(store, bundle, able, Uploader(store, "run", able, "tests"))
        assert verify_copy(store, copy, read=True).good
        fetch(store, read_bundle(store, copy), str(tmp_path / "run"), by="person")
    assert seen == {("127.0.0.1", urlsplit(seaweed.endpoint).port)}


def test_objects_are_written_with_the_class_and_the_tags_that_are_set(
    seaweed: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, seaweed)
    bucket = seaweed.new_bucket()
    store = Store(Remote(bucket, "a", seaweed.endpoint, storage_class="STANDARD_IA", tags="team=nlp&cost=7"))
    able = probe(store)
    bundle = bundle_of(make_hf_checkpoint(tmp_path / "checkpoint-100", 100), "run", store.remote)
    copy = send(store, bundle, able, Uploader(store, "run", able, "tests"))
    client, key = seaweed.client(), f"{copy.key}/config.json"
    assert client.head_object(Bucket=bucket, Key=key)["StorageClass"] == "STANDARD_IA"
    tags = client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "nlp", "cost": "7"}


def test_sha256_digests_are_proven_all_the_same(
    seaweed: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, seaweed)
    store = Store(Remote(seaweed.new_bucket(), "a", seaweed.endpoint))
    able = probe(store)
    folder = make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    bundle = bundle_of(folder, "run", store.remote, digest="sha256")
    copy = send(store, bundle, able, Uploader(store, "run", able, "tests"))
    assert copy.proof is Proof.FULL_OBJECT
    assert verify_copy(store, copy, read=True).problems == ()
    assert fetch(store, read_bundle(store, copy), str(tmp_path / "run"), by="person").endswith("checkpoint-100")


@pytest.mark.parametrize("rows", [4, 300_000], ids=["in one piece", "in parts"])
def test_a_file_that_changed_since_it_was_judged_is_never_part_of_a_copy(
    rows: int, seaweed: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, seaweed)
    store = Store(Remote(seaweed.new_bucket(), "a", seaweed.endpoint, part_size=5 << 20))
    able = probe(store)
    folder = make_hf_checkpoint(tmp_path / "checkpoint-100", 100, weight_rows=rows)
    bundle = bundle_of(folder, "run", store.remote)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(NoLongerAsJudged, match=r"model\.safetensors"):
        send(store, bundle, able, Uploader(store, "run", able, "tests"))
    assert find_copies(store).copies == ()
    assert store.pending("a/") == []


def test_where_nobody_answers_that_is_said_and_may_pass(seaweed: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, seaweed)  # for its keys
    store = Store(Remote("bucket", "a", "http://127.0.0.1:9", connect_timeout=0.2, tries=1, patience=0.01))
    with pytest.raises(RemoteError, match=r"127\.0\.0\.1:9") as refusal:
        probe(store)
    assert refusal.value.transient


def test_a_bucket_that_is_not_there_will_not_come_by_itself(seaweed: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, seaweed)
    with pytest.raises(RemoteError, match="NoSuchBucket") as refusal:
        probe(Store(Remote("no-such-bucket", "a", seaweed.endpoint)))
    assert not refusal.value.transient


def test_a_certificate_is_trusted_only_where_its_authority_is_named(
    seaweed_tls: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, seaweed_tls)
    bucket = seaweed_tls.new_bucket()
    assert probe(Store(Remote(bucket, "a", seaweed_tls.endpoint, ca=seaweed_tls.ca_file or ""))).conditional
    with pytest.raises(RemoteError, match="certificate"):
        probe(Store(Remote(bucket, "a", seaweed_tls.endpoint, tries=1, patience=0.01)))


@pytest.mark.parametrize(
    ("kind", "whole", "parts", "conditional"),
    [
        ("seaweed", Proof.FULL_OBJECT, Proof.FULL_OBJECT, True),
        ("moto_server", Proof.PARTS_MD5, Proof.PARTS_MD5, True),
        ("rclone_server", Proof.PARTS_MD5, Proof.READ_BACK, False),
    ],
)
def test_a_probe_tells_what_a_store_does_from_what_it_says(
    kind: str,
    whole: Proof,
    parts: Proof,
    conditional: bool,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server: S3Server = request.getfixturevalue(kind)
    use(monkeypatch, server)
    bucket = server.new_bucket()
    able = probe(Store(Remote(bucket, "a", server.endpoint)))
    assert (able.proof(parts=False), able.proof(parts=True), able.conditional) == (whole, parts, conditional)
    assert not server.client().list_objects_v2(Bucket=bucket).get("Contents")
