"""One uploader at a time below a run: who holds it is never mistaken, whatever happened to the object that says so."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cloud_world import Cloud, able_of, cloud_in
from fault_proxy import Fault, fault_proxy, first
from lastgood.errors import RemoteError
from lastgood.remote import Store, Uploader
from lastgood.remote.locking import ANOTHER
from lastgood.remote.pacing import patiently

if TYPE_CHECKING:
    from pathlib import Path

    from s3_servers import S3Server

KEY = "run/.lastgood-uploader"


@pytest.fixture
def cloud(seaweed: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    return cloud_in(seaweed, seaweed.new_bucket(), tmp_path.name, monkeypatch)


def uploader(store: Store, owner: str, **how: float) -> Uploader:
    return Uploader(store, "run", able_of(store), owner, **how)


def test_a_second_one_is_refused_until_the_first_has_been_silent_for_long(cloud: Cloud) -> None:
    uploader(cloud.store, "first").hold()
    uploader(cloud.store, "first").hold()
    with pytest.raises(RemoteError, match="another lastgood") as refusal:
        uploader(cloud.store, "second").hold()
    assert (refusal.value.code, refusal.value.transient) == (ANOTHER, False)
    uploader(cloud.store, "second", lasts=0.0).hold()
    with pytest.raises(RemoteError, match="another lastgood"):
        uploader(cloud.store, "first").hold()


def test_what_makes_no_sense_keeps_nobody_out(cloud: Cloud) -> None:
    cloud.store.put(f"{cloud.store.remote.prefix}/{KEY}", b"\x00 garbled")
    uploader(cloud.store, "first").hold()
    found = cloud.store.get(f"{cloud.store.remote.prefix}/{KEY}")
    assert found is not None
    assert json.loads(found[0])["owner"] == "first"


@pytest.mark.parametrize("fault", [Fault.FLIPPED_REQUEST, Fault.FLIPPED_ANSWER, Fault.LOST_ANSWER])
def test_what_is_garbled_or_lost_on_its_way_does_not_keep_us_out(fault: Fault, cloud: Cloud, seaweed: S3Server) -> None:
    able = able_of(cloud.store)
    uploader(cloud.store, "ours").hold()
    with fault_proxy(seaweed.endpoint, first(1, fault, containing="uploader")) as proxy:
        store = Store(replace(cloud.store.remote, endpoint=proxy.endpoint))
        patiently(Uploader(store, "run", able, "ours").hold, 0.01)
        patiently(Uploader(store, "run", able, "ours").hold, 0.01)
    store.close()
