"""A folder behind FUSE: what is written to the back shows in front, and no file event tells of it, as on NFS."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def bindfs(back: Path, front: Path, *options: str) -> Iterator[None]:
    """Shows `back` at `front`, attributes never cached."""
    back.mkdir(parents=True, exist_ok=True)
    front.mkdir(parents=True, exist_ok=True)
    command = ["bindfs", "--no-allow-other", "-o", "attr_timeout=0,entry_timeout=0", *options, str(back), str(front)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"bindfs cannot mount here: {done.stderr.strip()}")
    try:
        yield
    finally:
        unmount = shutil.which("fusermount3") or shutil.which("fusermount") or "fusermount3"
        subprocess.run([unmount, "-u", "-z", str(front)], check=True)
