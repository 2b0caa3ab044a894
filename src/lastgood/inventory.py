"""One walk of a checkpoint folder, as facts. Nothing is opened."""

from __future__ import annotations

import errno
import os
import stat
from functools import cached_property
from typing import TYPE_CHECKING

from lastgood import naming
from lastgood.errors import CannotTell, NotACheckpoint
from lastgood.facts import Entry, FileKind, Inventory

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 512  # the unit of st_blocks, whatever the filesystem's own
_LEAD_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # links to what is not there, below a file, in a circle


def take_inventory(folder: str, *, inodes: bool = True) -> Inventory:
    """Every file below `folder`, by stat, our own left out.

    `inodes=False` on network filesystems, where they change without a rewrite.
    NotACheckpoint where the folder is not there; CannotTell where it cannot be listed for another reason.
    """
    walk = _Walk(folder, inodes=inodes)
    try:
        walk.visit("")
    except FileNotFoundError as error:
        raise NotACheckpoint(f"{folder}: no such folder") from error
    except NotADirectoryError as error:
        raise NotACheckpoint(
            f"{folder} is a file, and a checkpoint is a folder: name the one that it lies in"
        ) from error
    except PermissionError as error:
        return Inventory((), unreadable=((".", error.strerror or str(error)),))
    except OSError as error:
        raise CannotTell("listing", folder, error) from error
    return Inventory(
        tuple(sorted(walk.entries)),
        tuple(sorted(walk.temporary)),
        tuple(sorted(walk.marks)),
        tuple(sorted(walk.unreadable)),
    )


class _Walk:
    def __init__(self, folder: str, *, inodes: bool) -> None:
        self.folder, self.inodes = folder, inodes
        self.entries: list[Entry] = []
        self.temporary: list[Entry] = []
        self.marks: list[str] = []
        self.unreadable: list[tuple[str, str]] = []

    @cached_property
    def real_folder(self) -> str:
        """For links alone: it asks the kernel about each part of the path, at every look at every checkpoint."""
        return os.path.realpath(self.folder)

    def visit(self, below: str) -> None:
        for found in self._list(below):
            path = below + found.name
            if naming.is_ours(found.name):
                continue
            if naming.marks_progress(found.name):
                self.marks.append(path)
                continue
            try:
                if naming.is_temporary(found.name):
                    self.temporary.append(self._entry(found, path))
                elif found.is_dir(follow_symlinks=False):
                    self.visit(path + "/")
                else:
                    self.entries.append(self._entry(found, path))
            except FileNotFoundError:
                continue  # went away between listing and stat: the next look tells
            except OSError as error:
                self.unreadable.append((path, error.strerror or str(error)))

    def _list(self, below: str) -> Iterator[os.DirEntry[str]]:
        with os.scandir(os.path.join(self.folder, below) if below else self.folder) as found:
            yield from found

    def _entry(self, found: os.DirEntry[str], path: str) -> Entry:
        kind: FileKind = "file"
        leaves = False
        if found.is_symlink():
            leaves = not os.path.realpath(found.path).startswith(self.real_folder + os.sep)
            kind = "link"
        try:
            status = found.stat()
        except OSError as error:
            if kind == "file" or error.errno not in _LEAD_NOWHERE:
                raise
            return Entry(path, 0, 0, 0, 0, "other", leaves)  # a link to nothing
        if kind == "link" and stat.S_ISDIR(status.st_mode):
            kind = "folder-link"
        elif not stat.S_ISREG(status.st_mode):
            kind = "other"
        return Entry(
            path=path,
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            inode=status.st_ino if self.inodes else 0,
            kind=kind,
            leaves=leaves,
            sparse=status.st_blocks * _BLOCK + _BLOCK < status.st_size,
        )
