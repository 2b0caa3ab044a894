"""The stores that the tests of copies speak to; each is started once, when the first test asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cloud_worker import cloud_world
from cloud_world import cloud_in
from commanding import settle_in
from s3_servers import moto, rclone, seaweedfs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cloud_worker import CloudWorld
    from cloud_world import Cloud
    from s3_servers import S3Server


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The store that does all that we ask of one."""
    with seaweedfs(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture(scope="session")
def seaweed_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The same behind https://, with a certificate that nobody knows who was not told."""
    with seaweedfs(tmp_path_factory.mktemp("seaweed_tls"), tls=True) as server:
        yield server


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A store that takes a damaged body, and asks nobody for keys."""
    with moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A store that knows neither checksums nor conditions."""
    with rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="module")
def bucket(seaweed: S3Server) -> str:
    return seaweed.new_bucket()


@pytest.fixture
def world(tmp_path: Path, seaweed: S3Server, bucket: str) -> Iterator[CloudWorld]:
    """A worker that copies to the store, and removes at once what no rule keeps."""
    with cloud_world(tmp_path, seaweed, bucket, tmp_path.name, observe_for=0) as made:
        yield made


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the test's commands run in."""
    return settle_in(tmp_path, monkeypatch)


@pytest.fixture
def cloud(place: Path, seaweed: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """An empty place for copies, which the settings name."""
    return cloud_in(seaweed, bucket, place.name, monkeypatch)
