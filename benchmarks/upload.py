"""How long it takes to copy 1 GB to a local S3 server, proof included, beside boto3.upload_file and `aws s3 cp`.

    PYTHONPATH=tests/support python benchmarks/upload.py [--rounds 5 --megabytes 1000 --aws /path/to/aws]

Each of them as a process of its own, from its start to its end, in interleaved rounds; what it sends is in the page
cache. Ours probes nothing (once a week is enough), proves each file, writes the manifest and the COMMIT. boto3 and aws
send with their defaults, which compute a CRC32 or CRC64NVME of their own, of whatever they read. The largest memory of
each process is what getrusage(2) tells.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors.numpy import save_file

from builders import make_hf_checkpoint
from bundling import bundle_of
from killed_couriers import job_of_sending
from lastgood.cloud import Remote
from lastgood.remote import Store, probe
from s3_servers import seaweedfs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from s3_servers import S3Server

OURS: Final = (
    "import json, sys\nfrom lastgood_worker import courier\ncourier.carry_out(json.load(sys.stdin), lambda count: None)"
)
BOTO3: Final = (
    "import sys, boto3\nclient = boto3.client('s3', endpoint_url=sys.argv[1])\n"
    "client.upload_file(sys.argv[2], sys.argv[3], sys.argv[4])"
)
LAUNCH: Final = (
    "import json, resource, subprocess, sys, time\nstarted = time.perf_counter()\n"
    "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)\n"
    "print(json.dumps([time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))"
)
MB: Final = 1_000_000
say = Console(width=110).print


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument(
        "--aws", default=shutil.which("aws"), help="the command of awscli, which wants its own botocore"
    )
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, seaweedfs(Path(place) / "store") as server:
        os.environ.update(server.environment)
        folder = checkpoint(Path(place), wanted.megabytes * MB)
        say(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, load {load()}")
        ways = ways_of(server, folder, wanted.aws)
        show(measure(ways, wanted.rounds), folder)


def checkpoint(place: Path, size: int) -> Path:
    """One large file of weights, and the small ones of a save."""
    folder = make_hf_checkpoint(place / "checkpoint-100", 100)
    (folder / "optimizer.pt").unlink()  # it would be that of other weights
    dice = np.random.default_rng(1)
    rows = size // 4 // 1000
    save_file({"weight": dice.standard_normal((rows, 1000), dtype=np.float32)}, folder / "model.safetensors")
    return folder


def ways_of(server: S3Server, folder: Path, aws: str | None) -> dict[str, Callable[[int], tuple[float, int]]]:
    """By name: one upload to a place of its own, numbered; its seconds, and its largest memory in bytes."""
    bucket = server.new_bucket()
    able = probe(Store(Remote(bucket, "probe", server.endpoint)))
    bundle = bundle_of(folder, "run", Remote(bucket, "", server.endpoint))
    weights = str(folder / "model.safetensors")

    def ours(number: int) -> tuple[float, int]:
        remote = Remote(bucket, f"ours-{number}", server.endpoint)
        return timed([sys.executable, "-c", OURS], job_of_sending(bundle_of(folder, "run", remote), remote, able))

    def boto3(number: int) -> tuple[float, int]:
        return timed([sys.executable, "-c", BOTO3, server.endpoint, weights, bucket, f"boto3-{number}"])

    def cli(number: int) -> tuple[float, int]:
        target = f"s3://{bucket}/aws-{number}"
        return timed([str(aws), "s3", "cp", "--only-show-errors", "--endpoint-url", server.endpoint, weights, target])

    assert bundle.copy.bytes
    return {"lastgood, with proof": ours, "boto3.upload_file": boto3, **({"aws s3 cp": cli} if aws else {})}


def timed(command: Sequence[str], job: object = None) -> tuple[float, int]:
    """By way of a small process: a new one is counted as large as the one that it was made from."""
    measured = subprocess.run(
        [sys.executable, "-c", LAUNCH, *command], input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True
    )
    seconds, kibibytes = json.loads(measured.stdout.splitlines()[-1])
    return float(seconds), int(kibibytes) * 1024


def measure(ways: dict[str, Callable[[int], tuple[float, int]]], rounds: int) -> dict[str, list[tuple[float, int]]]:
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            result = way(number)
            if number:  # the first round warms everything up
                found[name].append(result)
    return found


def show(found: dict[str, list[tuple[float, int]]], folder: Path) -> None:
    size = (folder / "model.safetensors").stat().st_size
    table = Table("", "median s", "least - most", "MB/s", "most memory, MiB", title=f"{size / MB:,.0f} MB")
    for name, results in found.items():
        seconds = [result[0] for result in results]
        middle = median(seconds)
        most = max(result[1] for result in results) / (1 << 20)
        spread = f"{min(seconds):.2f} - {max(seconds):.2f}"
        table.add_row(name, f"{middle:.2f}", spread, f"{size / MB / middle:.0f}", f"{most:.0f}")
    say(table)
    first, *others = found.values()
    fastest = [min(times) for times in zip(*([result[0] for result in other] for other in others), strict=True)]
    ratios = [fast / ours[0] for fast, ours in zip(fastest, first, strict=True)]
    say(
        f"throughput against the faster of the others, round by round: median {median(ratios):.2f} "
        f"({min(ratios):.2f} - {max(ratios):.2f}) of {len(ratios)}; load {load()}"
    )


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
