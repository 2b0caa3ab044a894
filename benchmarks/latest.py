"""How fast `GET /checkpoints/latest` is with 1,000 checkpoints in the catalog, and what watching them costs.

    PYTHONPATH=tests/support python benchmarks/latest.py [--rounds 7 --seconds 4 --known 1000 --saves 20 --idle 30]

Four tables: requests a second and the slowest of a hundred, against a bare FastAPI route in a process of its own that
returns the same bytes and headers, in interleaved rounds; start to first answer; processor time while nothing happens;
time from a save's last file to the answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, cast

import httpx
from rich.console import Console
from rich.table import Table

from builders import hf_files, make_hf_checkpoint, write_files
from lastgood.catalog import Sighting, WorkerCatalog
from lastgood.inventory import take_inventory
from lastgood.records import Evidence
from lastgood.verify import verify
from running import Asker, free_port, up, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from running import Watcher

PATH: Final = "/checkpoints/latest"
CONNECTIONS: Final = 16
TICKS: Final = os.sysconf("SC_CLK_TCK")
say = Console(width=110).print


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in (("rounds", 7), ("seconds", 4), ("known", 1000), ("saves", 20), ("idle", 30), ("starts", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    wanted = parser.parse_args()
    say(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, {load()}")
    with tempfile.TemporaryDirectory(prefix="lastgood-benchmark-") as made:
        place = Path(made)
        output = place / "output"
        remember(output, place / "place" / "state", wanted.known)
        compare_rates(output, place, wanted.rounds, wanted.seconds)
        time_starts(output, place, wanted.starts)
        measure_idle(output, place, wanted.idle)
        time_saves(output, place, wanted.saves, wanted.known)


def remember(output: Path, state_dir: Path, count: int) -> None:
    """So many small checkpoints on disk, each really judged, in a catalog as the worker would have left it."""
    catalog = WorkerCatalog(str(state_dir))
    now = datetime.now(UTC)
    run = catalog.add_run(".", str(output), ".", now)
    for step in range(1, count + 1):
        folder = write_files(output / f"checkpoint-{step}", hf_files(step))
        inventory = take_inventory(str(folder))
        seen = Sighting(inventory.fingerprint, inventory.bytes, now, active=False, waiting_for=None)
        made = catalog.add_checkpoint(
            run,
            name=folder.name,
            relative_path=folder.name,
            number=step,
            copy=False,
            before_us=False,
            branch=1,
            seen=seen,
            now=now,
        )
        catalog.settled(made, seen=seen, content=inventory.content, evidence=Evidence.MARKER, now=now)
        catalog.judged(made, verify(str(folder)), boot=boot_id(), now=now)
    catalog.close()


# --- requests a second ---


def compare_rates(output: Path, place: Path, rounds: int, seconds: int) -> None:
    with up(output, place / "place") as watcher:
        watcher.wait("the answer", watcher.latest_name)
        answer = watcher.client.get(PATH)
        with bare_route(place, answer) as bare:
            measured = [(load_of(bare, seconds), load_of(watcher.url, seconds)) for _ in range(1 + rounds)][
                1:
            ]  # the first warms both up
    table = Table(
        "round", "bare, requests/s", "p99", "lastgood, requests/s", "p99", "ratio",
        title=f"GET {PATH}: {len(answer.content)} bytes, {CONNECTIONS} connections kept alive, one client process",
    )  # fmt: skip
    for number, (theirs, ours) in enumerate(measured, 1):
        rate = ours["rate"] / theirs["rate"]
        table.add_row(str(number), *shown(theirs), *shown(ours), f"{rate:.2f}")
    say(table)
    ratios = sorted(ours["rate"] / theirs["rate"] for theirs, ours in measured)
    slow = [sorted(pair[place]["p99"] for pair in measured) for place in (0, 1)]
    say(
        f"lastgood answers at {median(ratios):.2f} of the bare route's rate ({ratios[0]:.2f} to {ratios[-1]:.2f}); "
        f"p99 {median(slow[1]) * 1e3:.1f} ms against {median(slow[0]) * 1e3:.1f} ms; {load()}\n"
    )


def shown(one: dict[str, float]) -> tuple[str, str]:
    return f"{one['rate']:,.0f}", f"{one['p99'] * 1e3:.1f} ms"


@contextmanager
def bare_route(place: Path, answer: httpx.Response) -> Iterator[str]:
    """The url of a FastAPI application with one route that returns this very answer."""
    port = free_port()
    (place / "answer").write_bytes(answer.content)
    ours = {k: v for k, v in answer.headers.items() if k not in ("content-length", "date", "server")}
    (place / "headers").write_text(json.dumps(ours))
    arguments = [str(port), str(place / "answer"), str(place / "headers"), PATH]
    process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("bare.py")), *arguments])
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for("the bare route", lambda: answers(url))
        same = httpx.get(url + PATH, trust_env=False)
        assert (same.content, same.headers.keys()) == (answer.content, answer.headers.keys())
        yield url
    finally:
        process.terminate()
        process.wait()


def load_of(url: str, seconds: int) -> dict[str, float]:
    """What a client process on its own measures: requests a second, seconds that 99 of 100 stay below."""
    command = [sys.executable, __file__, "--client", url, str(seconds)]
    measured: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return measured


class Asking(asyncio.Protocol):
    """One connection, kept alive: asks, reads to the end of the answer, asks again."""

    def __init__(self, request: bytes, times: list[float]) -> None:
        self._request, self._times = request, times
        self._buffer, self._missing = b"", 0
        self._asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own, of no common class
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) < length:
            return
        self._times.append(time.perf_counter() - self._asked)
        self._ask()

    def _ask(self) -> None:
        self._buffer, self._asked = b"", time.perf_counter()
        self._transport.write(self._request)


async def ask_for(url: str, seconds: float) -> dict[str, float]:
    host, _, port = url.removeprefix("http://").partition(":")
    request = f"GET {PATH} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: application/json\r\n\r\n".encode()
    times: list[float] = []
    loop = asyncio.get_running_loop()
    transports = [
        (await loop.create_connection(lambda: Asking(request, times), host, int(port)))[0] for _ in range(CONNECTIONS)
    ]
    times.clear()
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    took, done = time.perf_counter() - began, sorted(times)
    for transport in transports:
        transport.close()
    return {"rate": len(done) / took, "p99": done[int(len(done) * 0.99)]}


# --- start, rest, saves ---


def time_starts(output: Path, place: Path, starts: int) -> None:
    took = []
    for _ in range(starts):
        began = time.perf_counter()
        with up(output, place / "place", until_ready=False) as watcher:
            wait_for("the first answer", watcher.latest_name)
            took.append(time.perf_counter() - began)
    say(f"start of `lastgood up` to the first answer: {spread(took)} s ({starts} starts)\n")


def measure_idle(output: Path, place: Path, seconds: int) -> None:
    with up(output, place / "place") as watcher:
        watcher.wait("the answer", watcher.latest_name)
        threading.Event().wait(10)  # what starting left to do
        before = processor_seconds(watcher)
        threading.Event().wait(seconds)
        after = processor_seconds(watcher)
    table = Table(
        "process", f"processor time in {seconds} s", "of one core", title="while nothing happens, nobody asks"
    )
    for name, spent in after.items():
        used = spent - before.get(name, 0.0)
        table.add_row(name, f"{used:.2f} s", f"{used / seconds:.2%}")
    say(table)


def processor_seconds(watcher: Watcher) -> dict[str, float]:
    """User and system time of each process of the watcher, of its children that ended too."""
    found: dict[str, float] = {}
    for pid in [watcher.programs["up"].pid, *descendants(watcher.programs["up"].pid)]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        name = arguments[2] if arguments[1:2] == ["-m"] else "lastgood up"
        found[name] = found.get(name, 0.0) + sum(map(int, fields[11:15])) / TICKS  # utime, stime and the children's
    return found


def descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(below for child in children for below in descendants(child))]


def time_saves(output: Path, place: Path, saves: int, known: int) -> None:
    judged, answered = [], []
    with up(output, place / "place") as watcher, Asker(watcher) as asker:
        for step in range(known + 1, known + saves + 1):
            folder = make_hf_checkpoint(output / f"checkpoint-{step}", step, weight_rows=100_000)
            finished = (folder / "trainer_state.json").stat().st_mtime
            watcher.wait(folder.name, lambda name=folder.name: name in asker.handed_out())  # type: ignore[misc]
            record = watcher.get(f"/checkpoints/{watcher.latest()['id']}")
            judged.append(datetime.fromisoformat(record["verified_at"]).timestamp() - finished)
            answered.append(asker.first_seen[None, folder.name] - finished)
    say(
        f"last file to verdict: {spread(judged)} s; to the answer: {spread(answered)} s "
        f"({saves} saves of 6.4 MB beside {known} known ones); {load()}"
    )


def answers(url: str) -> bool:
    try:
        return httpx.get(url + PATH, trust_env=False, timeout=10).is_success
    except httpx.TransportError:
        return False


def spread(values: list[float]) -> str:
    return f"median {median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def dispatch(arguments: list[str]) -> Any:
    match arguments:
        case ["--client", url, seconds]:
            import uvloop

            print(json.dumps(uvloop.run(ask_for(url, float(seconds)))))
        case _:
            main()


if __name__ == "__main__":
    dispatch(sys.argv[1:])
