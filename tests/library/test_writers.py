"""Whether anybody still writes a file: asked of the kernel, with real writers."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lastgood.writers import filesystem_of, is_local, is_network, is_open_for_writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PAGE = mmap.PAGESIZE
_MAP_FAILED = ctypes.c_void_p(-1).value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    if not is_local(filesystem_of(str(tmp_path))):
        pytest.skip(f"leases are not to be relied on here: {filesystem_of(str(tmp_path))}")
    place = tmp_path / "model.safetensors"
    place.write_bytes(bytes(_PAGE))
    return place


@pytest.fixture
def libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return library


@pytest.fixture
def other_process(file: Path) -> Iterator[subprocess.Popen[str]]:
    program = "import sys; held = open(sys.argv[1], 'r+b'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "open\n"
        yield process


def test_a_file_that_nobody_has_open_is_not_being_written(file: Path) -> None:
    assert is_open_for_writing(str(file)) is False


def test_another_process_that_writes_is_seen_until_it_ends(file: Path, other_process: subprocess.Popen[str]) -> None:
    assert is_open_for_writing(str(file)) is True
    other_process.communicate("")
    assert is_open_for_writing(str(file)) is False


def test_asking_takes_nothing_from_the_writer(file: Path) -> None:
    with file.open("r+b", buffering=0) as held:
        assert is_open_for_writing(str(file)) is True
        assert held.write(b"goes on") == 7
    assert file.read_bytes().startswith(b"goes on")


def test_a_shared_mapping_is_seen_although_its_descriptor_is_closed(file: Path, libc: ctypes.CDLL) -> None:
    descriptor = os.open(file, os.O_RDWR)
    mapped = libc.mmap(None, _PAGE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, descriptor, 0)
    os.close(descriptor)
    assert mapped != _MAP_FAILED
    try:
        assert is_open_for_writing(str(file)) is True
    finally:
        libc.munmap(mapped, _PAGE)
    assert is_open_for_writing(str(file)) is False


def test_a_reader_is_no_writer(file: Path) -> None:
    with file.open("rb"):
        assert is_open_for_writing(str(file)) is False


def test_asking_leaves_nothing_behind(file: Path) -> None:
    is_open_for_writing(str(file))
    with file.open("r+b", buffering=0) as held:  # a lease that was kept would hold this open for `lease-break-time`
        assert held.write(b"x") == 1


@pytest.mark.parametrize("name", [pytest.param("gone", id="nothing there"), pytest.param(".", id="a folder")])
def test_where_the_kernel_will_not_say_neither_do_we(name: str, tmp_path: Path) -> None:
    assert is_open_for_writing(str(tmp_path / name)) is None


def test_a_pipe_does_not_hold_us(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert is_open_for_writing(str(tmp_path / "pipe")) is not True


@pytest.mark.parametrize(("path", "filesystem"), [("/proc/self", "proc"), ("/sys", "sysfs")])
def test_the_filesystem_is_that_of_the_nearest_mount(path: str, filesystem: str) -> None:
    assert filesystem_of(path) == filesystem


@pytest.mark.parametrize(
    ("filesystem", "local", "network"),
    [
        ("ext4", True, False),
        ("overlay", True, False),
        ("nfs4", False, True),
        ("fuse.sshfs", False, True),
        pytest.param("fuseblk", False, False, id="neither is claimed of what is not known"),
        pytest.param("", False, False, id="nothing is claimed of what could not be found out"),
    ],
)
def test_filesystems_are_told_apart_by_whom_the_kernel_can_answer_for(
    filesystem: str, local: bool, network: bool
) -> None:
    assert (is_local(filesystem), is_network(filesystem)) == (local, network)
