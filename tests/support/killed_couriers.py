"""Couriers that are killed in the middle of it, as often as it takes, and what each life cost."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from lastgood.cloud.committing import copy_as_json
from lastgood.cloud.words import capabilities_as_json
from lastgood.latest import inodes_are_stable

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from fault_proxy import Proxy
    from lastgood.cloud import Bundle, Capabilities, CloudCopy, Remote

_SCRIPT: Final = (
    "import json, sys\n"
    "from lastgood_worker import courier\n"
    "print(json.dumps(courier.carry_out(json.load(sys.stdin), lambda count: None)))\n"
)
_DEADLINE: Final = 120.0
_EVENT: Final = threading.Event()


@dataclass(frozen=True)
class Lives:
    """How an errand went that was killed `kills` times before it could finish."""

    kills: int
    result: dict[str, Any]


def run_and_kill(job: dict[str, Any], proxy: Proxy, dice: random.Random, after_each: Callable[[], None]) -> Lives:
    """Lives of one errand: each is killed after some more requests, the last one ends by itself."""
    kills = 0
    while True:
        courier = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert courier.stdin is not None
        courier.stdin.write(json.dumps(job))
        courier.stdin.close()
        last = len(proxy.requests) + dice.randrange(4, 32)
        while len(proxy.requests) < last and courier.poll() is None:
            _EVENT.wait(0.001)
        doomed = courier.poll() is None
        courier.kill()
        out = courier.stdout.read() if courier.stdout else ""
        if courier.wait(_DEADLINE) == 0:
            return Lives(kills, json.loads(out))
        assert doomed, "it ended by itself, and not well"
        kills += 1
        after_each()


def job_of_sending(bundle: Bundle, remote: Remote, able: Capabilities) -> dict[str, Any]:
    return {
        "kind": "send",
        "remote": asdict(remote),
        "folder": bundle.folder,
        "inodes": inodes_are_stable(bundle.folder),
        "fingerprint": bundle.manifest.fingerprint,
        "files": [(file.path, file.bytes, file.digest) for file in bundle.manifest.files],
        "manifest": "/nowhere",
        "copy": _copy_as_json(bundle.copy),
        "suspect": False,
        "able": capabilities_as_json(able),
        "owner": "tests",
    }


def job_of_fetching(copy: CloudCopy, remote: Remote, run_folder: Path) -> dict[str, Any]:
    place = {"copy": _copy_as_json(copy), "run_folder": str(run_folder), "threads": 1}
    return {"kind": "fetch", "remote": asdict(remote), **place}


def _copy_as_json(copy: CloudCopy) -> dict[str, Any]:
    return {**copy_as_json(copy), "key": copy.key}


def parts_sent(proxy: Proxy) -> list[tuple[str, str]]:
    """Every part that somebody began to send, as often as it was: its object and number."""
    return [
        (urlsplit(path).path, number)
        for method, path in proxy.requests
        for number in parse_qs(urlsplit(path).query).get("partNumber", ())
        if method == "PUT"
    ]


def reads(proxy: Proxy) -> list[str]:
    """Every object or stretch of one that somebody began to read, as often as it was."""
    return [urlsplit(path).path for method, path in proxy.requests if method == "GET"]
