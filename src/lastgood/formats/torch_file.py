"""Files of `torch.save`: a zip of stored records (since torch 1.6), or the older stream of pickles.

Format: torch/serialization.py and caffe2/serialize/inline_container.cc. Each record carries a CRC-32 that torch itself
never checks on loading.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from lastgood.findings import Code, Finding
from lastgood.formats.inert_pickle import Contents, NotInert, TooMuch, read_pickle, read_pickles
from lastgood.formats.packed import NotAsSaid, Packed, unpack_whole
from lastgood.formats.payload import Parsed, Range
from lastgood.formats.tensors import tensors_within
from lastgood.formats.unsafe import dangerous, refused
from lastgood.formats.zip_directory import (
    ZIP_MAGIC,
    BrokenZip,
    check_directory,
    ends_as_zip,
    open_directory,
    packed_in,
    ranges_of,
)

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterable, Iterator

    from lastgood.formats.payload import PayloadReader
    from lastgood.formats.unsafe import Name

# The old format opens with its magic number, pickled: PROTO 2, LONG1 of ten bytes, STOP.
_LEGACY_MAGIC: Final = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_LEGACY_LENGTH_BYTES: Final = 8
_PROTOCOL: Final = 0x80  # the first byte of a pickle, before the number of its protocol
_PROTOCOLS: Final = range(2, 6)
_LARGEST_PICKLE: Final = 256 << 20
_FIRST_LOOK: Final = 1 << 20
_NAMES_TOLD: Final = 3
_TOO_MUCH: Final = "look who wrote it: no framework writes such a file"


def parse(payload: PayloadReader, path: str) -> Parsed:
    """The pickled structure as plain data, and where the records with a CRC-32 lie."""
    magic = payload.read(0, len(_LEGACY_MAGIC))
    if magic.startswith(ZIP_MAGIC) or ZIP_MAGIC.startswith(magic):
        return _parse_zip(payload, path)
    if _LEGACY_MAGIC.startswith(magic):
        return _parse_legacy(payload, path)
    return _parse_other(payload, path)


def parse_if_torch(payload: PayloadReader, path: str) -> Parsed:
    """As `parse` where the first bytes are a torch file's; otherwise a file like any other."""
    magic = payload.read(0, len(_LEGACY_MAGIC))
    if magic.startswith(ZIP_MAGIC) or magic == _LEGACY_MAGIC:
        return parse(payload, path)
    return Parsed("other")


def _parse_other(payload: PayloadReader, path: str) -> Parsed:
    """Neither of torch's formats: another program's file under the same ending, or what is left of one of torch's."""
    problem = Finding(Code.TORCH_FORMAT, path, "its first bytes are not those of a torch file")
    if _is_pickle(payload):
        names, whole = _plain_pickle(payload)
        return Parsed("torch", None, (*_unsafe(names, path), problem), foreign=whole)
    return Parsed("torch", None, (problem,), foreign=not (ends_as_zip(payload) or payload.is_zero()))


def _is_pickle(payload: PayloadReader) -> bool:
    start = payload.read(0, 2)
    return len(start) > 1 and start[0] == _PROTOCOL and start[1] in _PROTOCOLS and payload.size <= _LARGEST_PICKLE


def _plain_pickle(payload: PayloadReader) -> tuple[frozenset[Name], bool]:
    """The globals that it names, and whether it goes to its end: what was cut off was one, other bytes may be none."""
    stream = io.BytesIO(payload.read(0, payload.size))
    try:
        return frozenset(read_pickles(stream, 1).names), True
    except NotInert as error:
        return error.names, stream.tell() < payload.size


def _parse_legacy(payload: PayloadReader, path: str) -> Parsed:
    """Five pickles: magic, version, machine, structure, order of the storages. Then these, each after its length."""
    try:
        contents, end = _read_head(payload, {})
        places, end = _place_storages(contents, end)
        # Once more, now that it is known where each storage begins.
        contents, _end = _read_head(payload, places)
    except NotInert as error:
        return Parsed("torch", None, (*_unsafe(error.names, path), _not_inert(error, "its structure", path)))
    problems = [*_unsafe(contents.names, path)]
    if payload.size < end:
        problems.append(Finding(Code.ZIP_SHORT, path, f"{payload.size} of the {end} bytes that its storages need"))
    else:
        wrong = (*contents.problems, *_wrong_lengths(payload, contents, places))
        problems += [Finding(Code.STORAGE_MISMATCH, path, message) for message in wrong]
        problems.append(Finding(Code.NO_CHECKSUM, path, "its format has no checksums: flipped bits cannot be seen"))
    value = contents.value[3]
    return Parsed("torch", value, tuple(problems), (), (), tensors_within(value), refused(contents.names))


def _read_head(payload: PayloadReader, places: dict[str, int]) -> tuple[Contents, int]:
    """The five pickles, and where they end. How long they are is not told anywhere."""
    length = _FIRST_LOOK
    while True:
        head = io.BytesIO(payload.read(0, length))
        try:
            return read_pickles(head, 5, places), head.tell()
        except NotInert as error:
            if head.tell() < length or length >= _LARGEST_PICKLE:
                error.at_the_end = head.tell() >= payload.size
                raise
        length *= 8


def _place_storages(contents: Contents, end: int) -> tuple[dict[str, int], int]:
    """Where each storage begins, and where the last one ends. One of unknown size hides those after it."""
    *_others, keys = contents.value
    if not isinstance(keys, list):
        raise NotInert("it does not say in which order its storages lie")
    places: dict[str, int] = {}
    known = True
    for key in keys:
        size = contents.storages.get(key) if isinstance(key, str) else None
        end += _LEGACY_LENGTH_BYTES
        if known and isinstance(key, str):
            places[key] = end
        known = known and size is not None
        end += size or 0
    return places, end


def _wrong_lengths(payload: PayloadReader, contents: Contents, places: dict[str, int]) -> Iterator[str]:
    """Before each storage stands how many elements it has: bytes divided by the bytes of one."""
    for key, place in places.items():
        count = int.from_bytes(payload.read(place - _LEGACY_LENGTH_BYTES, _LEGACY_LENGTH_BYTES), "little")
        if contents.counts.get(key) not in (None, count):
            yield f"storage {key} has {count} elements where it lies, its tensors need {contents.counts[key]}"
            return  # whatever follows is out of step as well


def _parse_zip(payload: PayloadReader, path: str) -> Parsed:
    contents, ranges, packed = None, tuple[Range, ...](), tuple[Packed, ...]()
    try:
        with open_directory(payload) as directory:
            records = directory.infolist()
            check_directory(payload, directory.start_dir, records)
            ranges = tuple(ranges_of(payload, records))
            packed = tuple(packed_in(payload, records))
            contents = _read_structure(payload, records, ranges, packed)
    except BrokenZip as broken:
        return Parsed("torch", None, (Finding(broken.code, path, broken.message),))
    except NotInert as error:
        problems = [*_unsafe(error.names, path), _not_inert(error, "its structure", path)]
        return Parsed("torch", None, tuple(problems), ranges, packed)
    problems = [Finding(Code.STORAGE_MISMATCH, path, message) for message in _storage_problems(contents, records)]
    if ranges and not any(found.crc for found in ranges):
        problems.append(Finding(Code.ZIP_NO_CRC, path, "it was saved without checksums: flipped bits cannot be seen"))
        ranges = ()
    if contents is None:
        return Parsed("torch", None, tuple(problems), ranges, packed)
    problems += _unsafe(contents.names, path)
    tensors = tensors_within(contents.value)
    return Parsed("torch", contents.value, tuple(problems), ranges, packed, tensors, refused(contents.names))


def _unsafe(names: Iterable[Name], path: str) -> Iterator[Finding]:
    if found := dangerous(names):
        listed = ", ".join(ascii(name)[1:-1][:100] for name in found[:_NAMES_TOLD])
        more = f" and {len(found) - _NAMES_TOLD} more" if len(found) > _NAMES_TOLD else ""
        yield Finding(Code.UNSAFE_PICKLE, path, f"it names {listed}{more}, which would run when it is loaded")


def _not_inert(error: NotInert, what: str, path: str) -> Finding:
    if isinstance(error, TooMuch):
        return Finding(Code.FILE_UNREADABLE, path, f"{what}: {error}", _TOO_MUCH)
    return Finding(Code.ZIP_SHORT if error.at_the_end else Code.PICKLE_DAMAGED, path, f"{what}: {error}")


def _read_structure(
    payload: PayloadReader, records: list[zipfile.ZipInfo], ranges: tuple[Range, ...], packed: tuple[Packed, ...]
) -> Contents | None:
    """The pickle at the heart of the file; None for a zip that holds none, such as an exported program."""
    root = _root(records)
    heart = next((record for record in records if record.filename.lower() == f"{root}/data.pkl".lower()), None)
    if heart is None:
        return None
    if heart.file_size > _LARGEST_PICKLE:
        raise TooMuch(f"{heart.file_size} bytes are more than is read")
    prefix = f"{root}/data/"
    placed = (*ranges, *(record.unpacked for record in packed))
    places = {found.name.removeprefix(prefix): found.start for found in placed if found.name.startswith(prefix)}
    return read_pickle(_content_of(heart.filename, payload, ranges, packed), places)


def _content_of(name: str, payload: PayloadReader, ranges: tuple[Range, ...], packed: tuple[Packed, ...]) -> bytes:
    """Of one record that is small enough."""
    stored = next((found for found in ranges if found.name == name), None)
    if stored is not None:
        return payload.read(stored.start, stored.length)
    try:
        return unpack_whole(payload, next(record for record in packed if record.unpacked.name == name))
    except NotAsSaid as error:
        raise BrokenZip(Code.ZIP_RECORD_CRC, f"record {name}: {error}") from None


def _root(records: list[zipfile.ZipInfo]) -> str:
    """The folder that all records lie in: torch takes that of the first."""
    return records[0].filename.partition("/")[0] if records else ""


def _storage_problems(contents: Contents | None, records: list[zipfile.ZipInfo]) -> Iterator[str]:
    if contents is None:
        return
    sizes = {record.filename: record.file_size for record in records}
    for key, wanted in contents.storages.items():
        actual = sizes.get(f"{_root(records)}/data/{key}")
        if actual is None:
            yield f"the record of storage {key} is missing"
        elif wanted is not None and actual != wanted:
            yield f"storage {key} has {actual} bytes, its tensors need {wanted}"
    yield from contents.problems
