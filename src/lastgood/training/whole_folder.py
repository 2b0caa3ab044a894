"""A folder that is there whole or not at all: written under a temporary name, on the disk before it is renamed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import time
from typing import TYPE_CHECKING, Final

from lastgood import durable, naming
from lastgood.layouts import base, plain
from lastgood.removal import remove_tree

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_log = logging.getLogger("lastgood")
# Discovery takes both for a save in work.
_DRAFT: Final = ".tmp-"
_EARLIER: Final = ".tmp-earlier."

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_TRIES: Final = 5
_PAUSE: Final = 0.1
_TAKEN: Final = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_OF_TOKENIZERS: Final = "additional_chat_templates"  # the one folder that they save
_OURS: Final = frozenset(
    {*base.TOKENIZER_FILES, *plain.STATES, "config.json", "generation_config.json", "chat_template.jinja",
     "chat_template.json"}
)  # fmt: skip


@contextlib.contextmanager
def whole_folder(path: str) -> Iterator[str]:
    """An empty folder to write into. After the block it bears the name `path`; after an error it is gone.

    What was there before is replaced in one step, and stays as it was after an error.
    FileExistsError where that holds more than a checkpoint, BlockingIOError while another process saves it.
    """
    parent, name = os.path.split(os.path.abspath(path))
    path, draft = os.path.join(parent, name), os.path.join(parent, _DRAFT + name)
    durable.make_folders(parent)
    put_back(parent)
    _require_replaceable(path)
    with _taken(draft):
        _clear_earlier(path)
        try:
            yield draft
            durable.sync_tree(draft)
            _put_in_place(draft, path)
        except BaseException:
            _clear(draft)
            raise
        durable.sync(parent)
        _clear(draft)  # what was there before has taken its name
        _clear_earlier(path)


def put_back(parent: str) -> None:
    """Ends what a crash between the two steps of a replacement left: the earlier checkpoint gets its name back."""
    for found in [name for name in os.listdir(parent) if name.startswith(_EARLIER)]:
        name = found.removeprefix(_EARLIER)
        path = os.path.join(parent, name)
        # In this order: a save that ended in between has given the name to what it wrote.
        if not _is_in_work(os.path.join(parent, _DRAFT + name)) and not os.path.lexists(path):
            with contextlib.suppress(FileNotFoundError):  # another process has put it back
                os.rename(os.path.join(parent, found), path)


def _is_in_work(draft: str) -> bool:
    """Whether a living process writes it, and may be between the two steps itself."""
    try:
        descriptor = os.open(draft, _FOLDER)
    except OSError:
        return False
    try:
        return not _locked(descriptor, draft, without_locks=True)
    finally:
        os.close(descriptor)


def _require_replaceable(path: str) -> None:
    """Nobody's own files are in a folder that is about to be replaced: `./output` may hold all the checkpoints."""
    if os.path.islink(path) or not os.path.exists(path):
        return
    if not os.path.isdir(path):
        raise FileExistsError(errno.EEXIST, "a save would replace it, and it is no folder", path)
    with os.scandir(path) as found:
        entries = list(found)
    folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and entry.name != _OF_TOKENIZERS]
    files = _of_others({entry.name for entry in entries})
    is_checkpoint = naming.step_in_name(os.path.basename(path)) is not None
    if folders or (files and not is_checkpoint):
        raise FileExistsError(errno.EEXIST, f"a save would replace it, and it holds {min(folders or files)}", path)
    if files:
        _log.warning(
            "%s is replaced, and with it goes what no save of ours put there: %s", path, ", ".join(sorted(files))
        )


def _of_others(files: Collection[str]) -> list[str]:
    """Those that no save and no mending leaves."""
    known = {_OF_TOKENIZERS}.union(_OURS, base.weight_files(frozenset(files)))
    return [name for name in files if name.removesuffix(naming.BACKUP) not in known and not naming.is_ours(name)]


def clear_drafts(parent: str) -> None:
    """What killed saves left, which may be as large as a save. Nobody holds it."""
    for found in os.listdir(parent):
        name = found.removeprefix(_EARLIER).removeprefix(_DRAFT)
        if not found.startswith(_DRAFT) or naming.step_in_name(name) is None:
            continue
        path, draft = os.path.join(parent, name), os.path.join(parent, _DRAFT + name)
        with contextlib.suppress(OSError):
            if found.startswith(_EARLIER):
                _clear_earlier(path)  # once another has its name, no save puts it back
            else:
                _clear_left(draft)


def _clear_left(draft: str) -> None:
    descriptor = os.open(draft, _FOLDER)
    try:
        if _locked(descriptor, draft, without_locks=False):
            _clear(draft)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _taken(draft: str) -> Iterator[None]:
    """The draft is there, empty, and this process's own; what a killed save left in it is cleared away.

    BlockingIOError where another process has it.
    """
    descriptor = _own(draft)
    try:
        with os.scandir(draft) as left:
            for entry in list(left):
                _clear(entry.path)
        yield
    finally:
        os.close(descriptor)


def _own(draft: str) -> int:
    for _ in range(_TRIES):
        with contextlib.suppress(FileExistsError):
            os.mkdir(draft)
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(draft, _FOLDER)
            if _locked(descriptor, draft, without_locks=True):
                return descriptor
            os.close(descriptor)
        time.sleep(_PAUSE)  # somebody may be clearing it away, and have taken it for one that was left
    raise BlockingIOError(errno.EAGAIN, "another process is saving it", draft)


def _locked(descriptor: int, draft: str, *, without_locks: bool) -> bool:
    """Whether it is this process's own now. `without_locks`: what counts on a filesystem that has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.lexists(draft) and os.path.samestat(os.fstat(descriptor), os.stat(draft))
    except BlockingIOError:
        return False
    except OSError:
        return without_locks


def _put_in_place(draft: str, path: str) -> None:
    try:
        os.rename(draft, path)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        if not durable.exchange(draft, path):
            _replace_in_two_steps(draft, path)


def _replace_in_two_steps(draft: str, path: str) -> None:
    earlier = _earlier(path)
    os.rename(path, earlier)
    try:
        os.rename(draft, path)
    except OSError:
        with contextlib.suppress(OSError):  # why it could not be replaced is to be told; `put_back` tries again
            os.rename(earlier, path)
        raise


def _clear_earlier(path: str) -> None:
    """Takes away what was replaced in two steps, once what replaced it is on the disk under its name."""
    earlier = _earlier(path)
    if os.path.lexists(earlier) and os.path.lexists(path):
        durable.sync(os.path.dirname(path))
        _clear(earlier)


def _earlier(path: str) -> str:
    parent, name = os.path.split(path)
    return os.path.join(parent, _EARLIER + name)


def _clear(path: str) -> None:
    """Takes away what is ours: a draft, or what one has replaced. What resists is cleared away by the next save."""
    with contextlib.suppress(OSError):
        remove_tree(path)
