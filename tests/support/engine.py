"""A Docker engine of our own, in namespaces of its own: neither this machine's network nor an engine of its own notice.

It reaches no network itself; what it needs comes from `images`.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from running import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

POLITELY: Final = ("nice", "-n", "10")  # the rest of the suite measures seconds, and has to go first
_NEW_NETWORK: Final = 0x40000000  # CLONE_NEWNET
_ROOMY: Final = 10 << 30  # bytes of free memory with which images need not go to the disk
_LISTENS: Final = "0A"
_START: Final = """
ip link set lo up
if [ "$2" = memory ]; then mount -t tmpfs -o size=8g tmpfs "$1/data"; fi
exec dockerd --host "unix://$1/socket" --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" \
    --shutdown-timeout 5
"""


class Engine:
    """Starts at once, and runs until `end`. Paths of sockets are short, so that of `place` has to be."""

    def __init__(self, place: Path) -> None:
        self.place, self.log = place, place / "log"
        self.environ = {**os.environ, "DOCKER_HOST": f"unix://{place}/socket"}
        (place / "data").mkdir()
        space = ("setpriv", "--pdeathsig", "TERM", "unshare", "--net", "--mount")
        where = "memory" if _free_memory() > _ROOMY else "disk"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*POLITELY, *space, "sh", "-euc", _START, "sh", str(place), where], stdout=log, stderr=log
            )
        self._client = httpx.Client(trust_env=False, timeout=10)
        # Asked again and again: a program each time would take half a core.
        self._api = httpx.Client(transport=httpx.HTTPTransport(uds=f"{place}/socket"), base_url="http://engine")
        self._network = ThreadPoolExecutor(1, initializer=_enter_network, initargs=(self._process.pid,))

    def wait(self) -> None:
        """Until it answers. Skips the test, and says why, where it cannot run on this machine."""
        wait_for("the engine", lambda: self._process.poll() is not None or self._answers(), 60)
        if self._process.poll() is not None:
            pytest.skip(f"dockerd cannot run here: {self._last_words()}")

    def end(self) -> None:
        self._network.shutdown()
        for client in (self._client, self._api):
            client.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)

    def docker(self, *arguments: str, folder: Path | None = None) -> str:
        """What it prints. AssertionError where it fails."""
        done = self.run(*arguments, folder=folder)
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def run(self, *arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", *arguments],
            env=self.environ,
            cwd=folder or self.place,
            text=True,
            capture_output=True,
            check=False,
        )

    def inspect(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = self._api.get(f"/containers/{container}/json").raise_for_status().json()
        return found

    def said(self, container: str) -> str:
        """Everything that it printed."""
        streams = {"stdout": True, "stderr": True}
        return self._api.get(f"/containers/{container}/logs", params=streams).raise_for_status().text

    def ask(self, method: str, url: str, **content: Any) -> httpx.Response:
        """As a process on the engine's host would."""
        return self._network.submit(self._client.request, method, url, **content).result()

    def listening(self, pid: int | None = None) -> set[tuple[str, int]]:
        """Addresses and ports that are listened on in the network of this process, or else on the engine's host."""
        found = set()
        for table in ("tcp", "tcp6"):
            lines = Path(f"/proc/{pid or self._process.pid}/net/{table}").read_text(encoding="ascii").splitlines()
            for address, _, state in (line.split()[1:4] for line in lines[1:]):
                if state == _LISTENS:
                    host, _, port = address.partition(":")
                    found.add((_readable(bytes.fromhex(host)), int(port, 16)))
        return found

    def _answers(self) -> bool:
        try:
            return self._api.get("/_ping").is_success
        except httpx.TransportError:
            return False

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").split("\n")
        return next((line[:300] for line in reversed(lines) if line.strip()), "it does not say why")


@contextmanager
def engine() -> Iterator[Engine]:
    """One that runs; nothing is left of it."""
    place = Path(tempfile.mkdtemp(prefix="lg-", dir="/tmp"))
    made = Engine(place)
    try:
        made.wait()
        yield made
    finally:
        made.end()
        shutil.rmtree(place)


def _free_memory() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))


def _enter_network(pid: int) -> None:
    """For this thread alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{pid}/ns/net", "rb") as network:
        if libc.setns(network.fileno(), _NEW_NETWORK) != 0:
            raise OSError(ctypes.get_errno(), "its network cannot be entered")


def _readable(address: bytes) -> str:
    """The kernel prints addresses as words of the machine's own order."""
    words = b"".join(address[start : start + 4][::-1] for start in range(0, len(address), 4))
    return socket.inet_ntop(socket.AF_INET if len(words) == 4 else socket.AF_INET6, words)
