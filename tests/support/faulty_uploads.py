"""Uploads through a network that does everything wrong, by seed, and what must be true of each afterwards."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from bundling import bundle_of
from fault_proxy import PASSING, fault_proxy, seeded_plan
from lastgood.cloud import Remote
from lastgood.cloud.addressing import file_key
from lastgood.errors import NotACopy, RemoteError
from lastgood.remote import Store, Uploader, find_copies, send

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lastgood.cloud import Bundle, Capabilities
    from s3_servers import S3Server

PART: Final = 5 << 20
_QUICK: Final[Any] = {"connect_timeout": 5.0, "read_timeout": 5.0, "patience": 0.02, "part_size": PART, "parallel": 2}


@dataclass(frozen=True)
class Tried:
    """How one upload went: "copied", or the error that whoever asked for it was told."""

    seed: int
    outcome: str
    faults: Counter[str]


class FaultyUploads:
    """Uploads of a few checkpoints, the same ones again and again, each as a run of its own."""

    def __init__(self, server: S3Server, bucket: str, able: Capabilities, folders: Iterable[Path]) -> None:
        self._server, self._able, self._folders = server, able, list(folders)
        self._undisturbed = Store(Remote(bucket, "faults", server.endpoint, **_QUICK))
        self._client = server.client()

    def run(self, seeds: Iterable[int], at_once: int = 10) -> list[Tried]:
        """Each is checked: nothing but whole copies has a COMMIT, and the next one that is undisturbed succeeds."""
        with ThreadPoolExecutor(at_once) as threads:
            return list(threads.map(self._try, seeds))

    def _try(self, seed: int) -> Tried:
        dice = random.Random(seed)
        plan = seeded_plan(seed, dice.choice([0.1, 0.3, 0.6]), at_most=dice.choice([1, 5, 30]), delay=0.1)
        tries = dice.choice([1, 1, 3])  # botocore's own waiting cannot be shortened
        bundle = bundle_of(dice.choice(self._folders), f"seed-{seed}", self._undisturbed.remote)
        with fault_proxy(self._server.endpoint, plan) as proxy:
            disturbed = Store(replace(self._undisturbed.remote, endpoint=proxy.endpoint, tries=tries))
            outcome = self._send(disturbed, bundle)
            disturbed.close()
            faults = Counter({str(fault): count for fault, count in proxy.faults.items()})
        self._check(bundle, committed=outcome == "copied")
        again = self._send(self._undisturbed, bundle)
        assert again == "copied", f"seed {seed}: first {outcome}; then, undisturbed, {again}"
        self._check(bundle, committed=True)
        return Tried(seed, outcome, faults)

    def _send(self, store: Store, bundle: Bundle) -> str:
        try:
            send(store, bundle, self._able, Uploader(store, bundle.copy.run, self._able, "tests"))
        except (RemoteError, NotACopy) as error:
            return f"{type(error).__name__}: {error}"
        return "copied"

    def _check(self, bundle: Bundle, *, committed: bool) -> None:
        """What has a COMMIT holds the judged bytes: by another client than ours, past the proxy."""
        found = find_copies(self._undisturbed, bundle.copy.run)
        assert not found.broken
        assert len(found.copies) <= 1
        assert found.copies or not committed
        for copy in found.copies:
            assert (copy.digest, copy.key) == (bundle.copy.digest, bundle.copy.key)
            for file in bundle.manifest.files:
                key = file_key(copy.key, file.path)
                there = self._client.get_object(Bucket=self._undisturbed.remote.bucket, Key=key)["Body"].read()
                with open(f"{bundle.folder}/{file.path}", "rb") as here:
                    assert there == here.read(), f"{key} has a COMMIT and other bytes"


def counted(tried: Iterable[Tried]) -> tuple[Counter[str], Counter[str]]:
    """The outcomes, and the faults that were injected."""
    outcomes: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for each in tried:
        outcomes["copied" if each.outcome == "copied" else "told"] += 1
        faults += each.faults
    return outcomes, faults


ALL_KINDS: Final = frozenset(str(fault) for fault in PASSING)
