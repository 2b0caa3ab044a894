"""Where checkpoints lie below a folder: one walk of names, four levels deep. Nothing is opened."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lastgood import naming
from lastgood.errors import CannotTell, NotACheckpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEPTH: Final = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A folder whose name makes it a checkpoint. Paths are relative to the root."""

    run: str
    relative_path: str
    name: str
    number: int
    inode: int
    mtime_ns: int  #: of the folder itself: moves when a file in it appears, goes away or is renamed
    copy: bool  #: under another kind of name, or a link to one


@dataclass(slots=True)
class Discovery:
    """What one walk below a root found."""

    candidates: list[Candidate] = field(default_factory=list)
    temporary: set[int] = field(default_factory=set)  #: inodes of folders under unfinished names
    unlisted: dict[str, OSError] = field(default_factory=dict)  #: folders of which nothing is known, and why

    @property
    def saves(self) -> list[Candidate]:
        """Those that lie in the root itself, as in a run's folder, and are no copies."""
        return [found for found in self.candidates if found.run == naming.ROOT_FOLDER and not found.copy]


def discover(root: str) -> Discovery:
    """Every checkpoint folder below `root`, four levels deep, never inside a checkpoint.

    Folders whose names are not text are passed over: nobody could be told of them.
    """
    found = Discovery()
    _visit(root, naming.ROOT_FOLDER, 0, found)
    return found


def require_folder(path: str) -> None:
    """NotACheckpoint where there is no folder in which checkpoints could lie."""
    if os.path.isfile(path):
        raise NotACheckpoint(f"{path} is a file: name the folder that the checkpoints lie in")
    if not os.path.isdir(path):
        raise NotACheckpoint(f"{path}: no such folder")


def is_checkpoint(path: str) -> bool:
    """Whether the folder is called as a checkpoint is, and holds what one does."""
    return naming.step_in_name(os.path.basename(path)) is not None and holds_payload(path)


def require_listed(root: str, found: Discovery) -> None:
    """CannotTell where something is hidden: that nobody sees any saves does not say that there are none."""
    for folder, error in found.unlisted.items():
        if not isinstance(error, FileNotFoundError):  # the trainer has yet to make it
            raise CannotTell("listing", os.path.normpath(os.path.join(root, folder)), error) from error


def copies_in(folder: str) -> list[str]:
    """What bears the name of a copy, such as `best_model`, and holds what a checkpoint does; and links by the names of
    checkpoints, wherever they lead: their disk may be away.

    None where there is no such folder; CannotTell where it cannot be listed.
    """
    return sorted(entry.name for entry in _entries(folder) if _is_copy(entry))


def saved_otherwise(folder: str) -> list[str]:
    """What is not handed out by itself, and yet was saved: copies, and files that are a checkpoint each.

    Where nothing else lies there, to begin anew would be wrong. Errors as of `copies_in`.
    """
    found = _entries(folder)
    return sorted(entry.name for entry in found if _is_copy(entry) or naming.is_whole_checkpoint(entry.name))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if _is_text(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CannotTell("listing", folder, error) from error


def _is_copy(entry: os.DirEntry[str]) -> bool:
    if entry.is_symlink() and naming.step_in_name(entry.name) is not None:
        return True
    return naming.number_of_copy(entry.name) is not None and holds_payload(entry.path)


def _visit(root: str, folder: str, depth: int, found: Discovery) -> None:
    try:
        children = list(_folders(os.path.join(root, folder)))
    except OSError as error:
        if depth == 0 or not isinstance(error, FileNotFoundError):
            found.unlisted[folder] = error
        return
    # Elsewhere such a name says nothing: a folder of finished models is no run.
    is_run = any(naming.step_in_name(child.name) is not None for child in children)
    for child in children:
        relative = child.name if folder == naming.ROOT_FOLDER else f"{folder}/{child.name}"
        if naming.is_temporary(child.name):
            found.temporary.add(child.inode())
        elif (number := naming.step_in_name(child.name)) is not None:
            _add_candidate(found, child, folder, relative, number, copy=child.is_symlink())
        elif is_run and (number := naming.number_of_copy(child.name)) is not None and holds_payload(child.path):
            _add_candidate(found, child, folder, relative, number, copy=True)
        elif depth < _DEPTH and not child.is_symlink() and not naming.is_passed_over(child.name):
            _visit(root, relative, depth + 1, found)


def _folders(path: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                if entry.is_dir() and _is_text(entry.name):
                    yield entry
            except OSError:
                continue


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # a byte that is not UTF-8
        return False
    return True


def holds_payload(path: str) -> bool:
    """Whether it is a checkpoint rather than a folder of them."""
    try:
        names = os.listdir(path)
    except OSError:
        return False
    return any(map(naming.is_payload, names)) and not any(naming.step_in_name(name) is not None for name in names)


def _add_candidate(
    found: Discovery, child: os.DirEntry[str], run: str, relative: str, number: int, *, copy: bool
) -> None:
    try:
        status = child.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        found.unlisted[relative] = error
        return
    found.candidates.append(Candidate(run, relative, child.name, number, status.st_ino, status.st_mtime_ns, copy))
