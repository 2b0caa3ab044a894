"""How fast a full verification is against merely reading the files, and how much memory it takes.

    python benchmarks/verify.py [--rounds 7 --dir FOLDER --small]

Makes a checkpoint of 1.5 GB (a training_state.pt and a model.safetensors) in a temporary folder and prints, from
interleaved rounds, the speed of everything as a ratio to one thread that reads the same files in the same round; then
the peak memory of a full and the time of a quick look at 200 MB and at 6 GB. `--small` shrinks all of it to a tenth.

The bare sums are the calls that no full look can do without, on the same blocks, and nothing else. How near they come
to reading alone is the processor's affair: some compute a CRC five times as fast as others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from awscrt.checksums import crc64nvme
from isal import isal_zlib
from rich.console import Console
from rich.table import Table

from lastgood.findings import Verdict
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MB: Final = 1_000_000
BUFFER: Final = 1 << 20
PIECE: Final = 32 << 20
TENSOR_BYTES: Final = 25 * MB  # 2,500 x 2,500 numbers: about what a layer of a small model has
PEAK: Final = """
import json, sys
import lastgood.verify, lastgood.formats.floats
before = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
report = lastgood.verify.verify(sys.argv[1])
after = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([report.verdict, int(before.split()[1]), int(after.split()[1])]))
"""
say = Console(width=110).print


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dir", default=None, help="where the files are made; else where temporary files are")
    parser.add_argument("--small", action="store_true", help="a tenth of the size")
    wanted = parser.parse_args()
    size = 10 if wanted.small else 100  # hundredths
    say(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, {load()}")
    with tempfile.TemporaryDirectory(prefix="lastgood-benchmark-", dir=wanted.dir) as made:
        place = Path(made)
        if shutil.disk_usage(place).free < 10_000 * MB * size // 100:
            sys.exit(f"{place}: too little room; name another folder with --dir")
        checkpoint = make_checkpoint(place / "checkpoint-100", 1000 * MB * size // 100, 500 * MB * size // 100)
        compare_speeds(checkpoint, wanted.rounds)
        shutil.rmtree(checkpoint)
        measure_sizes(place, [200 * MB * size // 100, 6000 * MB * size // 100])


# --- the checkpoints ---


def make_checkpoint(folder: Path, state_bytes: int, weight_bytes: int) -> Path:
    """A plain save: half of the state is one moment of each weight, half the other; all random and fp32."""
    import numpy as np
    import torch

    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    side = int((TENSOR_BYTES / 4) ** 0.5)

    def tensors(total: int) -> list[torch.Tensor]:
        return [torch.randn(side, side, generator=generator) for _ in range(max(total // TENSOR_BYTES, 1))]

    names = ("exp_avg", "exp_avg_sq")
    pairs = [
        dict(zip(names, tensors(2 * TENSOR_BYTES), strict=True))
        for _ in range(max(state_bytes // TENSOR_BYTES // 2, 1))
    ]
    step = {"step": torch.tensor(100.0)}
    state = {
        "global_step": 100,
        "epoch": 1,
        "optimizer_state_dict": {
            "state": {number: step | pair for number, pair in enumerate(pairs)},
            "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999), "params": list(range(len(pairs)))}],
        },
        "scheduler_state_dict": {"last_epoch": 100, "_last_lr": [1e-4]},
        "rng_states": {
            "python_rng_state": random.getstate(),
            "numpy_rng_state": np.random.RandomState(1).get_state(),
            "torch_rng_state": torch.get_rng_state(),
        },
    }
    torch.save(state, folder / "training_state.pt")
    write_weights(folder / "model.safetensors", tensors(TENSOR_BYTES)[0].numpy().tobytes(), weight_bytes)
    (folder / "config.json").write_text(json.dumps({"model_type": "tiny", "hidden_size": side}))
    return folder


def write_weights(file: Path, layer: bytes, total: int) -> None:
    """As many copies of one layer as fill the file."""
    count, side = max(total // len(layer), 1), int((len(layer) / 4) ** 0.5)
    header = {
        f"layers.{number}.weight": {
            "dtype": "F32",
            "shape": [side, side],
            "data_offsets": [number * len(layer), (number + 1) * len(layer)],
        }
        for number in range(count)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _ in range(count):
            stream.write(layer)


def files_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file())


# --- speeds ---


def compare_speeds(checkpoint: Path, rounds: int) -> None:
    total = sum(file.stat().st_size for file in files_of(checkpoint))
    cached: dict[str, Callable[[], None]] = {
        "one thread that reads": lambda: read_all(checkpoint),
        "verify, 2 threads": lambda: judge(checkpoint, threads=2),
        "verify, 1 thread": lambda: judge(checkpoint, threads=1),
        "the bare sums, 2 threads": lambda: sum_all(checkpoint, 2),
        "the bare sums, 1 thread": lambda: sum_all(checkpoint, 1),
        "verify, 2 threads, sha256": lambda: judge(checkpoint, threads=2, digest="sha256"),
        "sha256sum": lambda: sha256sum(checkpoint),
        "torch.load, safetensors, SHA-256": lambda: load_with_libraries(checkpoint),
    }
    report_speeds("cached", total, measured(cached, rounds))
    cold = {f"{name}, cold": dropping(checkpoint, cached[name]) for name in list(cached)[:3]}
    report_speeds("cold for this system; a disk below it may still cache", total, measured(cold, max(rounds // 2, 3)))


def measured(ways: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round; a first round warms up."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def report_speeds(title: str, total: int, seconds: Mapping[str, list[float]]) -> None:
    reference = next(iter(seconds.values()))
    table = Table("", "GB/s", "of the reading thread", "from", "to", title=f"{total / 1e9:.2f} GB, {title}; {load()}")
    for name, took in seconds.items():
        ratios = sorted(base / mine for base, mine in zip(reference, took, strict=True))
        shown = (median(ratios), ratios[0], ratios[-1])
        table.add_row(name, f"{total / median(took) / 1e9:.2f}", *(f"{ratio:.2f}" for ratio in shown))
    say(table)


def dropping(checkpoint: Path, way: Callable[[], None]) -> Callable[[], None]:
    def dropped() -> None:
        for file in files_of(checkpoint):
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        way()

    return dropped


def read_all(checkpoint: Path) -> None:
    buffer = bytearray(BUFFER)
    for file in files_of(checkpoint):
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def sum_all(checkpoint: Path, threads: int) -> None:
    pieces = [(file, start) for file in files_of(checkpoint) for start in range(0, file.stat().st_size, PIECE)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(sum_piece, *zip(*pieces, strict=True)))


def sum_piece(file: Path, start: int) -> None:
    """CRC64NVME, the CRC-32 of a zip's records, and the two maxima that find NaN, infinities and zeros."""
    import numpy as np

    buffer = memoryview(bytearray(BUFFER))
    crc64 = crc32 = 0
    with file.open("rb", buffering=0) as stream:
        for place in range(start, start + PIECE, BUFFER):
            block = buffer[: os.preadv(stream.fileno(), [buffer], place)]
            crc64 = crc64nvme(block, crc64)
            if file.suffix == ".pt":
                crc32 = isal_zlib.crc32(block, crc32)
            numbers = np.frombuffer(block[: len(block) & ~3], "<u4")
            if len(numbers):
                np.maximum.reduce(numbers)
                np.maximum.reduce(numbers.view("<i4"))


def judge(checkpoint: Path, **options: Any) -> None:
    report = verify(str(checkpoint), **options)
    assert report.verdict is Verdict.COMPLETE, report.findings
    assert all(file.digest for file in report.files)


def sha256sum(checkpoint: Path) -> None:
    subprocess.run(["sha256sum", *files_of(checkpoint)], check=True, stdout=subprocess.DEVNULL)


def load_with_libraries(checkpoint: Path) -> None:
    """What a careful script does instead: load everything, and digest every file."""
    import torch
    from safetensors.torch import load_file

    torch.load(checkpoint / "training_state.pt", weights_only=False)
    for tensor in load_file(checkpoint / "model.safetensors").values():
        assert tensor.isfinite().all()
    for file in files_of(checkpoint):
        with file.open("rb") as stream:
            hashlib.file_digest(stream, "sha256")


# --- sizes ---


def measure_sizes(place: Path, sizes: list[int]) -> None:
    table = Table(
        "checkpoint", "peak of a full look", "above the imports", "quick, whole process", title=f"by size; {load()}"
    )
    for size in sizes:
        folder = make_checkpoint(place / "checkpoint-100", 0, size)
        began, peak = peak_of(folder)
        quick = spread([quick_seconds(folder) for _ in range(5)])
        table.add_row(f"{size / MB:,.0f} MB", f"{peak >> 10} MiB", f"{(peak - began) >> 10} MiB", quick)
        shutil.rmtree(folder)
    say(table)


def peak_of(folder: Path) -> tuple[int, int]:
    """KiB at most in memory after the imports, and after a full look, in a process of its own."""
    child = subprocess.run([sys.executable, "-c", PEAK, str(folder)], check=True, stdout=subprocess.PIPE)
    verdict, began, peak = json.loads(child.stdout)
    assert verdict == Verdict.COMPLETE, verdict
    return began, peak


def quick_seconds(folder: Path) -> float:
    command = [str(Path(sys.executable).with_name("lastgood")), "verify", "--level", "quick", str(folder)]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def spread(values: list[float]) -> str:
    return f"median {median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
