"""SIGKILL at a chosen system call of a forked child, by strace: nothing in the child knows of it."""

from __future__ import annotations

import mmap
import os
import re
import signal
import subprocess
import traceback
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from running import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: The calls by which a save changes what lies on the disk.
CHANGES: Final = (
    "openat,open,creat,mkdir,mkdirat,write,writev,pwrite64,pwritev,ftruncate,truncate,fallocate,fsync,fdatasync,"
    "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,chmod,fchmod,fchmodat,utimensat,"
    "copy_file_range,sendfile,flock,close"
)
#: All but those by which memory is had: they change nothing on the disk, and how many come is not the same each time.
ALL: Final = "!mmap,munmap,mremap,brk,madvise,mprotect,futex"
_CALL: Final = re.compile(r"^\d+ +(\w+)\(", re.MULTILINE)


def calls_of(act: Callable[[], Any], log: Path, calls: str) -> list[tuple[str, int]]:
    """Each system call that `act` makes, with its number among those of its name, in no order."""
    with _traced(act, ["-o", str(log), "-e", f"trace={calls}"]) as child:
        assert _ended(child) == 0, "it does not end well even where nobody kills it"
    counted = Counter(_CALL.findall(log.read_text(errors="replace")))
    return [(name, number) for name, count in sorted(counted.items()) for number in range(1, count + 1)]


def killed_at(act: Callable[[], Any], name: str, number: int) -> bool:
    """Does `act` in a child that is killed as it enters that call. Whether it came so far."""
    tracing = ["-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}"]
    with _traced(act, tracing) as child:
        return _ended(child) == -signal.SIGKILL


@contextmanager
def _traced(act: Callable[[], Any], options: list[str]) -> Iterator[int]:
    """A forked child that acts once strace holds it. Its process id."""
    held = mmap.mmap(-1, 1)  # shared: the child waits without a system call that would be counted
    child = os.fork()
    if child == 0:
        code = 1
        try:
            while not held[0]:
                pass
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)
    tracer = subprocess.Popen(["strace", "-qq", "-f", "-p", str(child), *options], stderr=subprocess.DEVNULL)
    try:
        wait_for("strace to hold the child", lambda: _is_held(child), trouble=lambda: _why_not(tracer))
        held[0] = 1
        yield child
    finally:
        tracer.wait(60)


def _is_held(pid: int) -> bool:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return "TracerPid:\t0\n" not in status.read()


def _why_not(tracer: subprocess.Popen[bytes]) -> str | None:
    return None if tracer.poll() is None else f"strace ended with code {tracer.returncode}"


def _ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
