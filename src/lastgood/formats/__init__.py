"""Reading files, inertly: bytes in, facts and findings out. Nothing is executed, no damage raises."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from lastgood.errors import CannotTell
from lastgood.facts import Entry, FileFacts, Level
from lastgood.findings import Code, Finding
from lastgood.formats import json_file, safetensors, torch_file
from lastgood.formats.payload import Parsed, Parser, PayloadReader, Range, Unsteady

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Unsteady", "read_file"]

# By the ending; a `.pkl` or unknown ending is whatever its first bytes say.
_PARSERS: Final[dict[str, Parser]] = {
    ".safetensors": safetensors.parse,
    ".json": json_file.parse,
    ".pt": torch_file.parse,
    ".pth": torch_file.parse,
    ".bin": torch_file.parse,
    ".pkl": torch_file.parse_if_torch,
}


def read_file(
    folder: str,
    entry: Entry,
    level: Level,
    on_bytes: Callable[[int], None] = lambda _count: None,
    *,
    fresh: bool = False,
) -> FileFacts:
    """What one file tells. At `full`, every byte is read once; `on_bytes` hears how many.

    `fresh` asks the disk itself where the kernel has the file cached.
    Unsteady where the file changed or went away meanwhile. What cannot be read is a finding.
    """
    if problem := _problem_by_stat(entry):
        return FileFacts(entry.path, entry.size, "other", problems=(problem,))
    try:
        handle = _open_regular(os.path.join(folder, entry.path), entry)
    except OSError as error:
        return FileFacts(entry.path, entry.size, "other", problems=(_unreadable(entry, error),))
    try:
        with handle as payload:
            if fresh:
                os.posix_fadvise(payload.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            parse = _PARSERS.get(os.path.splitext(entry.path)[1], _parse_nothing)
            parsed = parse(payload, entry.path)
            digest: str | None = None
            torn: tuple[Range, ...] = ()
            if level is Level.FULL:
                digest, torn = _read_all(payload, parsed.ranges, on_bytes)
    except CannotTell as error:
        return FileFacts(entry.path, entry.size, "other", problems=(_unreadable(entry, error.cause),))
    problems = (*parsed.problems, *(_torn(entry, found) for found in torn))
    return FileFacts(
        entry.path, entry.size, parsed.format, parsed.contents, problems, digest, parsed.tensors, globals=parsed.globals
    )


def _problem_by_stat(entry: Entry) -> Finding | None:
    if entry.kind in ("other", "folder-link"):
        what = "a link to a folder" if entry.kind == "folder-link" else "a pipe, socket, device or dangling link"
        return Finding(Code.FILE_NOT_REGULAR, entry.path, f"{what}, where a file belongs")
    if entry.size == 0:
        return Finding(Code.FILE_EMPTY, entry.path, "the file has no content")
    return None


def _open_regular(path: str, entry: Entry) -> PayloadReader:
    # O_NONBLOCK: a pipe that was put in the file's place since we looked must not hold us.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size:
        os.close(descriptor)
        raise Unsteady(entry.path)
    return PayloadReader(descriptor, entry.path, entry.size)


def _read_all(
    payload: PayloadReader, ranges: tuple[Range, ...], on_bytes: Callable[[int], None]
) -> tuple[str, tuple[Range, ...]]:
    torn = payload.torn_ranges(ranges, on_bytes)
    return payload.digest, torn


def _parse_nothing(_payload: PayloadReader, _path: str) -> Parsed:
    return Parsed("other")


def _unreadable(entry: Entry, error: OSError) -> Finding:
    if isinstance(error, FileNotFoundError):
        raise Unsteady(entry.path) from error
    return Finding(Code.FILE_UNREADABLE, entry.path, f"cannot be read: {error.strerror or error}")


def _torn(entry: Entry, found: Range) -> Finding:
    return Finding(
        Code.ZIP_RECORD_CRC,
        entry.path,
        f"record {found.name}: its bytes do not match the CRC-32 stored with them",
    )
