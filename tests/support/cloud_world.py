"""Checkpoints in a real store, without a worker: sent by the library itself."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from botocore.loaders import create_loader

from builders import make_hf_checkpoint
from bundling import bundle_of
from lastgood.cloud import Remote
from lastgood.remote import Store, Uploader, probe, send
from s3_servers import use

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from lastgood.cloud import Capabilities, CloudCopy
    from s3_servers import S3Server

_ABLE: dict[str, Capabilities] = {}


def uploaded(store: Store, folder: Path, run: str) -> CloudCopy:
    """The copy of the checkpoint in the folder, proven."""
    able = able_of(store)
    return send(store, bundle_of(folder, run, store.remote), able, Uploader(store, run, able, "tests"))


def able_of(store: Store) -> Capabilities:
    """What the store is able to do; tried once for each server."""
    if store.remote.endpoint not in _ABLE:
        _ABLE[store.remote.endpoint] = probe(store)
    return _ABLE[store.remote.endpoint]


@dataclass
class Cloud:
    """A place in a store, as the settings name it; nobody else uses it."""

    server: S3Server
    store: Store

    @property
    def settings(self) -> dict[str, str]:
        remote = self.store.remote
        return {"remote": remote.url(), "remote_endpoint": remote.endpoint}

    def upload(self, folder: Path, run: str) -> CloudCopy:
        return uploaded(self.store, folder, run)

    def save(self, place: Path, run: str, *steps: int, **how: Any) -> list[CloudCopy]:
        """Copies of checkpoints that lay below `place`, each saved a minute after the one before."""
        copies = []
        for step in steps:
            folder = make_hf_checkpoint(place / run / f"checkpoint-{step}", step, **how)
            saved_at(folder, 1e9 + 60 * step)
            copies.append(self.upload(folder, run))
        return copies

    def overwrite(self, key: str, content: bytes) -> None:
        """As somebody else might, or a disk of theirs."""
        self.server.client().put_object(Bucket=self.store.remote.bucket, Key=key, Body=content)


def cloud_in(server: S3Server, bucket: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """A place of that name, set as the environment does it; its keys are found by boto3."""
    use(monkeypatch, server)
    make_stores_quickly(monkeypatch)
    cloud = Cloud(server, Store(Remote(bucket, prefix, server.endpoint, part_size=5 << 20, patience=0.05)))
    for name, value in cloud.settings.items():
        monkeypatch.setenv(f"LASTGOOD_{name.upper()}", value)
    return cloud


def make_stores_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 reads its own descriptions of S3 for every client: a tenth of a second, in each command of each test."""
    monkeypatch.setattr("botocore.session.create_loader", _create_loader)


_create_loader = cache(create_loader)


def saved_at(folder: Path, moment: float) -> None:
    for file in folder.iterdir():
        os.utime(file, (moment, moment))
