"""A courier that is killed goes on where it was, and what it leaves is never taken for a copy or a checkpoint."""

from __future__ import annotations

import os
import random
import shutil
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from builders import make_hf_checkpoint
from bundling import bundle_of
from fault_proxy import fault_proxy
from killed_couriers import job_of_fetching, job_of_sending, parts_sent, reads, run_and_kill
from lastgood.cloud import Remote
from lastgood.cloud.addressing import file_key
from lastgood.discovery import discover
from lastgood.remote import Store, find_copies, probe, sweep_abandoned
from lastgood.verify import verify
from s3_servers import use

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fault_proxy import Proxy
    from lastgood.cloud import Bundle, Capabilities
    from s3_servers import S3Server

PART = 5 << 20
PARALLEL = 2


@dataclass
class Killing:
    """One checkpoint with files of many parts, and a store behind a proxy that counts."""

    store: Store
    able: Capabilities
    proxy: Proxy
    folder: Path
    seed: int = 0

    def send(self) -> tuple[int, Bundle]:
        """Sent to a place of its own, killed on the way. How often."""
        self.seed += 1
        bundle = bundle_of(self.folder / "checkpoint-100", f"run-{self.seed}", self.store.remote)
        before = len(parts_sent(self.proxy))
        job = job_of_sending(bundle, self.disturbed, self.able)
        lives = run_and_kill(job, self.proxy, random.Random(self.seed), lambda: self.is_no_copy_or_whole(bundle))
        sent = parts_sent(self.proxy)[before:]
        assert len(sent) - len(set(sent)) <= lives.kills * PARALLEL, "more was sent again than was under way"
        return lives.kills, bundle

    def is_no_copy_or_whole(self, bundle: Bundle) -> None:
        sizes = {found.key: found.size for found in self.store.listed(f"{bundle.copy.key}/")}
        if f"{bundle.copy.key}/COMMIT" in sizes:
            assert all(sizes[file_key(bundle.copy.key, file.path)] == file.bytes for file in bundle.manifest.files)

    def fetch(self, bundle: Bundle, run_folder: Path) -> int:
        """Fetched into an empty folder, killed on the way. How often."""
        self.seed += 1
        before = len(reads(self.proxy))
        job = job_of_fetching(bundle.copy, self.disturbed, run_folder)
        once = sum(-(-file.bytes // PART) for file in bundle.manifest.files) + 1  # and the manifest
        lives = run_and_kill(job, self.proxy, random.Random(self.seed), lambda: looks_like_nothing(run_folder))
        again = len(reads(self.proxy)) - before - once
        assert again <= lives.kills * (PARALLEL + 1), "more was read again than was under way"
        return lives.kills

    @property
    def disturbed(self) -> Remote:
        return replace(self.store.remote, endpoint=self.proxy.endpoint)


def looks_like_nothing(run_folder: Path) -> None:
    assert not discover(str(run_folder)).candidates


@pytest.fixture
def killing(seaweed: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Killing]:
    use(monkeypatch, seaweed)
    make_hf_checkpoint(tmp_path / "checkpoint-100", 100, weight_rows=1_000_000)
    remote = Remote(seaweed.new_bucket(), "kills", seaweed.endpoint, part_size=PART, parallel=PARALLEL)
    store = Store(remote)
    with fault_proxy(seaweed.endpoint) as proxy:
        yield Killing(store, probe(store), proxy, tmp_path)
    store.close()


def send_and_fetch(killing: Killing, target: Path) -> tuple[int, int]:
    """Kills on the way there, and on the way back."""
    sent, bundle = killing.send()
    (copy,) = find_copies(killing.store, bundle.copy.run).copies
    assert copy.digest == bundle.copy.digest
    assert sweep_abandoned(killing.store, bundle.copy.run, 0.0) == 0
    assert killing.store.pending(f"{killing.store.remote.prefix}/") == []
    fetched = killing.fetch(replace(bundle, copy=copy), target)
    report = verify(str(target / "checkpoint-100"))
    assert {file.path: file.digest for file in report.files} == {f.path: f.digest for f in bundle.manifest.files}
    assert not list((target / ".lastgood" / "pulling").iterdir())
    shutil.rmtree(target)
    return sent, fetched


def test_ten_killed_uploads_and_pulls_lose_no_more_than_was_under_way(killing: Killing, tmp_path: Path) -> None:
    sent = fetched = 0
    while sent + fetched < 10:
        more = send_and_fetch(killing, tmp_path / "empty")
        sent, fetched = sent + more[0], fetched + more[1]
    assert sent
    assert fetched


def test_what_nobody_goes_on_with_is_cleared_away(killing: Killing) -> None:
    bundle = bundle_of(killing.folder / "checkpoint-100", "left", killing.store.remote)

    class EnoughError(Exception):
        pass

    def enough() -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        run_and_kill(job_of_sending(bundle, killing.disturbed, killing.able), killing.proxy, random.Random(3), enough)
    assert list(killing.store.listed(f"{bundle.copy.key}/"))
    assert sweep_abandoned(killing.store, "left", 3600.0) == 0
    assert sweep_abandoned(killing.store, "left", 0.0, spared=[bundle.copy.key]) == 0
    assert sweep_abandoned(killing.store, "left", 0.0) >= 1
    assert not list(killing.store.listed(f"{bundle.copy.key}/"))
    assert not killing.store.pending(f"{killing.store.remote.prefix}/")


@pytest.mark.prove
@pytest.mark.timeout(0)
def test_a_hundred_killed_uploads_and_pulls_lose_no_more_than_was_under_way(killing: Killing, tmp_path: Path) -> None:
    killing.seed = int(os.environ.get("PROVE_SEED", "1")) * 1_000_000
    sent = fetched = 0
    started = time.monotonic()
    while sent + fetched < 100:
        more = send_and_fetch(killing, tmp_path / "empty")
        sent, fetched = sent + more[0], fetched + more[1]
    print(f"{sent} uploads and {fetched} pulls killed in {time.monotonic() - started:.0f} s: none lost more")
