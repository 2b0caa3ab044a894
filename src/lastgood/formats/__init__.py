"""Reading files, inertly: bytes in, facts and findings out. Nothing is executed, no damage raises."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from lastgood import naming
from lastgood.errors import CannotTell
from lastgood.facts import Entry, FileFacts, Level, Numbers
from lastgood.findings import Code, Finding
from lastgood.formats import json_file, safetensors, torch_file
from lastgood.formats.packed import Unpacking
from lastgood.formats.payload import Parsed, Parser, PayloadReader, Range, Unsteady, open_payload
from lastgood.formats.scan import Source, ignore, scan_file
from lastgood.formats.values import read_values
from lastgood.formats.zero_tail import zero_tail

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
    on_bytes: Callable[[int], None] = ignore,
    *,
    digest: str = naming.USUAL_DIGEST,
    threads: int = 2,
    fresh: bool = False,
) -> FileFacts:
    """What one file tells. At `full`, every byte is read once; `on_bytes` hears how many.

    `fresh` asks the disk itself where the kernel has the file cached.
    Unsteady where the file changed or went away meanwhile. What cannot be read is a finding.
    """
    if problem := _problem_by_stat(entry):
        problems = () if naming.is_backup(entry.path) else (problem,)
        foreign = problem.code is Code.FILE_NOT_REGULAR
        return FileFacts(entry.path, entry.size, "other", problems=problems, foreign=foreign)
    location = os.path.join(folder, entry.path)
    try:
        with open_payload(location, entry.path, entry.size) as payload:
            if fresh:
                payload.drop_cached()
            drop_cached = level is not Level.QUICK and not payload.is_cached()
            ending = "" if naming.is_of_macos(entry.path) else os.path.splitext(entry.path)[1]
            parsed = _PARSERS.get(ending, _parse_nothing)(payload, entry.path)
            facts = _facts(entry, parsed, payload)
            if level is Level.QUICK:
                return facts
            source = Source(location, entry.path, entry.size, digest == "sha256", drop_cached)
            found = scan_file(source, parsed.ranges, parsed.tensors, on_bytes, threads=threads, packed=parsed.packed)
            return replace(
                facts,
                problems=(*facts.problems, *(_torn(entry, torn) for torn in found.torn)),
                doubtful=any(torn.name.endswith(naming.STRUCTURE) for torn in found.torn),
                digest=found.digest,
                numbers=found.numbers,
                zero_tail=_zero_tail(payload, parsed, found.numbers),
            )
    except CannotTell as error:
        return FileFacts(entry.path, entry.size, "other", problems=(_unreadable(entry, error.cause),))


def _facts(entry: Entry, parsed: Parsed, payload: PayloadReader) -> FileFacts:
    return FileFacts(
        entry.path,
        entry.size,
        parsed.format,
        parsed.contents,
        parsed.problems,
        tensors=parsed.tensors,
        values=read_values(Unpacking(payload, parsed.packed), parsed.tensors),
        holes=entry.sparse and payload.has_holes(),
        globals=parsed.globals,
        foreign=parsed.foreign,
    )


def _problem_by_stat(entry: Entry) -> Finding | None:
    if entry.kind in ("other", "folder-link"):
        what = "a link to a folder" if entry.kind == "folder-link" else "a pipe, socket, device or dangling link"
        return Finding(Code.FILE_NOT_REGULAR, entry.path, f"{what}, where a file belongs")
    if entry.size == 0 and not naming.may_be_empty(entry.path):
        return Finding(Code.FILE_EMPTY, entry.path, "the file has no content")
    return None


def _zero_tail(payload: PayloadReader, parsed: Parsed, numbers: Numbers) -> int:
    # The records of a torch file have checksums, and whole stretches of healthy moments are zero.
    return zero_tail(payload, parsed.tensors, numbers.zero) if parsed.format == "safetensors" else 0


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
