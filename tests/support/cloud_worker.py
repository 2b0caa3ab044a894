"""A worker on a simulated clock that copies to a real store."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from lastgood.cloud import Remote
from lastgood.remote import Store, find_copies
from lastgood_worker import children, courier
from worker_world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lastgood.cloud import CloudCopy, Upload
    from s3_servers import S3Server

_DEADLINE: Final = 60.0


class CloudWorld(World):
    """Its clock is moved by hand, the store's is not: what is old there, is so for real."""

    server: S3Server
    bucket: str

    def errands(self) -> None:
        """Until the courier has nothing left to do at this moment."""
        end = time.monotonic() + _DEADLINE
        while True:
            self.wake.clear()
            self.look()
            if (child := self.worker._cloud._child) is None:  # type: ignore[union-attr]
                self.look()
                if self.worker._cloud._child is None:  # type: ignore[union-attr]
                    return
                continue
            if not child.ended:
                self.wake.wait(max(end - time.monotonic(), 0))
            assert time.monotonic() < end, "the courier does not come back"

    def errands_without_a_store(self) -> None:
        """While nobody answers where the store was."""
        known = self.worker._cloud._copies  # type: ignore[union-attr]
        known.remote = replace(self.remote, endpoint="http://127.0.0.1:9", tries=1, patience=0.01)
        self.errands()
        known.remote = self.remote

    def damage_copy(self, step: int) -> None:
        """Its weights are zeros from now on."""
        key = f"{self.upload(step).copy.key}/model.safetensors"
        size = (self.path(step) / "model.safetensors").stat().st_size
        self.server.client().put_object(Bucket=self.bucket, Key=key, Body=bytes(size))

    def copy_all(self) -> None:
        """What is finished settles, is judged, and copied."""
        self.settle()
        self.errands()

    def later(self, seconds: float) -> None:
        """Time passes while nothing happens; then what is due is done."""
        self.skip(seconds)
        self.judge()
        self.errands()

    @property
    def remote(self) -> Remote:
        found = Remote.of(self.settings)
        assert found is not None
        return found

    def store(self) -> Store:
        return Store(self.remote)

    def copies(self) -> tuple[CloudCopy, ...]:
        """Those that are there, as anybody finds them."""
        store = self.store()
        try:
            return find_copies(store).copies
        finally:
            store.close()

    def copied(self) -> list[int]:
        """The steps of the copies that are there."""
        return sorted(copy.step for copy in self.copies())

    def upload(self, step: int) -> Upload:
        """What the catalog says of a copy."""
        found = [upload for upload in self.catalog.uploads(self.remote.identity) if upload.copy.step == step]
        assert len(found) == 1, found
        return found[0]

    def forget_uploader(self) -> None:
        """As after so long a silence that anybody may send."""
        self.store().remove([f"{self.remote.prefix}/{key}" for key in self.objects() if key.endswith("uploader")])

    def objects(self) -> set[str]:
        """Every object in the bucket, below its prefix."""
        pages = self.server.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        prefix = f"{self.remote.prefix}/"
        keys = (found["Key"] for page in pages for found in page.get("Contents", ()))
        return {key.removeprefix(prefix) for key in keys if key.startswith(prefix)}


@contextmanager
def cloud_world(folder: Path, server: S3Server, bucket: str, prefix: str, **settings: Any) -> Iterator[CloudWorld]:
    """A world of its own below `folder`, and below `prefix` in the bucket."""
    children.get_ready(courier.LOADED_BEFORE)
    keys_of(server)
    given = {
        "remote": f"s3://{bucket}/{prefix}",
        "remote_endpoint": server.endpoint,
        "remote_ca": server.ca_file or "",
        "upload_part_size": 5 << 20,
        **settings,
    }
    world = CloudWorld(folder, ("output",), given)
    world.server, world.bucket = server, bucket
    try:
        yield world
    finally:
        world.stop()


def keys_of(server: S3Server) -> None:
    """Where boto3 looks for keys, those of this server are. By a file: the courier's environment is older than this."""
    with open(os.environ["AWS_SHARED_CREDENTIALS_FILE"], "w", encoding="utf-8") as file:
        file.write(f"[default]\naws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n")
