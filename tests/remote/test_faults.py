"""Whatever the network does: never a COMMIT over wrong bytes, never two copies under one key, never a hang."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from builders import make_hf_checkpoint
from cloud_world import make_stores_quickly
from faulty_uploads import ALL_KINDS, FaultyUploads, counted
from lastgood.cloud import Remote
from lastgood.remote import Store, probe
from s3_servers import use

if TYPE_CHECKING:
    from pathlib import Path

    from s3_servers import S3Server


@pytest.fixture
def uploads(seaweed: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaultyUploads:
    use(monkeypatch, seaweed)
    make_stores_quickly(monkeypatch)
    bucket = seaweed.new_bucket()
    able = probe(Store(Remote(bucket, "probe", seaweed.endpoint)))
    small = make_hf_checkpoint(tmp_path / "small" / "checkpoint-100", 100)
    large = make_hf_checkpoint(tmp_path / "large" / "checkpoint-200", 200, weight_rows=100_000)
    return FaultyUploads(seaweed, bucket, able, [small, small, large])


def test_sixty_disturbed_uploads_end_as_whole_copies_or_say_why_not(uploads: FaultyUploads) -> None:
    outcomes, faults = counted(uploads.run(range(60)))
    print(dict(outcomes), dict(faults))
    assert set(faults) == ALL_KINDS
    assert outcomes["copied"] > 40


@pytest.mark.prove
@pytest.mark.timeout(0)
def test_disturbed_uploads_for_as_long_as_there_is_time(uploads: FaultyUploads) -> None:
    seed = int(os.environ.get("PROVE_SEED", "1")) * 1_000_000
    until = time.monotonic() + 60 * float(os.environ.get("PROVE_MINUTES", "30"))
    outcomes: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    while time.monotonic() < until:
        more, injected = counted(uploads.run(range(seed, seed + 60)))
        outcomes, faults, seed = outcomes + more, faults + injected, seed + 60
    print(f"uploads: {dict(outcomes)}; faults: {dict(faults)}")
    assert faults
