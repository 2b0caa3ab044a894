"""What is on the disk stays there: fsync of files and folders, and renames that replace nothing by accident."""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_NO_REPLACE: Final = 1  # RENAME_NOREPLACE of renameat2(2)
_EXCHANGE: Final = 2  # RENAME_EXCHANGE
_HERE: Final = -100  # AT_FDCWD
_CANNOT: Final = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def make_folders(path: str) -> None:
    """The folder and those above it, on the disk."""
    if not os.path.isdir(path):
        parent = os.path.dirname(path)
        make_folders(parent)
        os.makedirs(path, exist_ok=True)
        sync(parent)


def write_text(path: str, text: str, *, beside: str | None = None) -> None:
    """The text in place of what was there, all of it or nothing. `beside`: where it is written first, same folder.

    OSError where it cannot; nothing is left beside it then.
    """
    beside = beside or f"{path}.{os.getpid()}"
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def sync_tree(folder: str, after_each: Callable[[], object] = lambda: None) -> None:
    """Every file and folder in it, and itself, onto the disk. A large file may take a while: `after_each` is called."""
    for place, _folders, files in os.walk(folder, topdown=False):
        for path in (os.path.join(place, name) for name in files):
            if os.path.isfile(path):  # to open a pipe would wait for whoever writes to it
                sync(path)
                after_each()
        sync(place)


def sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exchange(one: str, other: str) -> bool:
    """Both names change places at once. False where the system or the filesystem cannot."""
    return _rename(one, other, _EXCHANGE)


def rename_to_free_name(source: str, target: str) -> None:
    """FileExistsError where the name is taken: a plain rename would replace an empty folder."""
    if not _rename(source, target, _NO_REPLACE):
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        os.rename(source, target)


def _rename(source: str, target: str, flags: int) -> bool:
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return False
    if library.renameat2(_HERE, os.fsencode(source), _HERE, os.fsencode(target), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), source, None, target)
