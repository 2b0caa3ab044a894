"""Files of `torch.save`: a zip of stored records (since torch 1.6), or the older stream of pickles.

Format: torch/serialization.py and caffe2/serialize/inline_container.cc. Each record carries a CRC-32 that torch itself
never checks on loading.
"""

from __future__ import annotations

import errno
import io
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, Final

from lastgood.findings import Code, Finding
from lastgood.formats.inert_pickle import Contents, NotInert, TooMuch, read_pickle, read_pickles
from lastgood.formats.payload import Parsed, Range
from lastgood.formats.tensors import tensors_within
from lastgood.formats.unsafe import dangerous, refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lastgood.formats.payload import PayloadReader
    from lastgood.formats.unsafe import Name

_ZIP_MAGIC: Final = b"PK\x03\x04"
_LOCAL_HEADER_BYTES: Final = 30
_NAMES_ARE_UTF8: Final = 0x800
_FLAGS_REFUSED: Final = 0x2061  # encrypted, in either way, or a patch
_IS_FOLDER: Final = 0x10
_ENTRY_MAGIC: Final = b"PK\x01\x02"
_ENTRY: Final = struct.Struct("<28x3H12x")  # how long the name, the extra field and the comment are
_END64_MAGIC: Final = b"PK\x06\x06"
_LOCATOR_MAGIC: Final = b"PK\x06\x07"
_END64: Final = struct.Struct("<4sQ4x2I4Q 4sIQI")  # the 64-bit record and its locator
_END_MAGIC: Final = b"PK\x05\x06"
_END: Final = struct.Struct("<4x4H2I2x")
_END_FULL: Final = (0xFFFF,) * 4 + (0xFFFFFFFF,) * 2
# The old format opens with its magic number, pickled: PROTO 2, LONG1 of ten bytes, STOP.
_LEGACY_MAGIC: Final = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_LEGACY_LENGTH_BYTES: Final = 8
_LARGEST_DIRECTORY: Final = 32 << 20  # 300,000 records; zipfile makes of it about ten times as much
_LARGEST_PICKLE: Final = 256 << 20
_LARGEST_UNPACKED: Final = 1 << 30  # of packed records; torch never packs any
_FIRST_LOOK: Final = 1 << 20
_NAMES_TOLD: Final = 3
_TOO_MUCH: Final = "look who wrote it: no framework writes such a file"


class _Broken(Exception):
    def __init__(self, code: Code, message: str) -> None:
        self.code, self.message = code, message


def parse(payload: PayloadReader, path: str) -> Parsed:
    """The pickled structure as plain data, and where the records with a CRC-32 lie."""
    magic = payload.read(0, len(_LEGACY_MAGIC))
    if magic.startswith(_ZIP_MAGIC) or _ZIP_MAGIC.startswith(magic):
        return _parse_zip(payload, path)
    if _LEGACY_MAGIC.startswith(magic):
        return _parse_legacy(payload, path)
    return Parsed("torch", None, (Finding(Code.TORCH_FORMAT, path, "its first bytes are not those of a torch file"),))


def parse_if_torch(payload: PayloadReader, path: str) -> Parsed:
    """As `parse` where the first bytes are a torch file's; otherwise a file like any other."""
    magic = payload.read(0, len(_LEGACY_MAGIC))
    if magic.startswith(_ZIP_MAGIC) or magic == _LEGACY_MAGIC:
        return parse(payload, path)
    return Parsed("other")


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
    return Parsed("torch", value, tuple(problems), (), tensors_within(value), refused(contents.names))


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
    contents = None
    try:
        with _open_directory(payload) as directory:
            records = directory.infolist()
            _check_directory(payload, directory.start_dir, records)
            ranges = tuple(_ranges(payload, records))
            _check_compressed(directory, records)
            contents = _read_structure(payload, directory, records, ranges)
    except _Broken as broken:
        return Parsed("torch", None, (Finding(broken.code, path, broken.message),))
    except NotInert as error:
        return Parsed("torch", None, (*_unsafe(error.names, path), _not_inert(error, "its structure", path)), ranges)
    problems = [Finding(Code.STORAGE_MISMATCH, path, message) for message in _storage_problems(contents, records)]
    if ranges and not any(found.crc for found in ranges):
        problems.append(Finding(Code.ZIP_NO_CRC, path, "it was saved without checksums: flipped bits cannot be seen"))
        ranges = ()
    if contents is None:
        return Parsed("torch", None, tuple(problems), ranges)
    problems += _unsafe(contents.names, path)
    tensors = tensors_within(contents.value)
    return Parsed("torch", contents.value, tuple(problems), ranges, tensors, refused(contents.names))


def _unsafe(names: Iterable[Name], path: str) -> Iterator[Finding]:
    if found := dangerous(names):
        listed = ", ".join(ascii(name)[1:-1][:100] for name in found[:_NAMES_TOLD])
        more = f" and {len(found) - _NAMES_TOLD} more" if len(found) > _NAMES_TOLD else ""
        yield Finding(Code.UNSAFE_PICKLE, path, f"it names {listed}{more}, which would run when it is loaded")


def _not_inert(error: NotInert, what: str, path: str) -> Finding:
    if isinstance(error, TooMuch):
        return Finding(Code.FILE_UNREADABLE, path, f"{what}: {error}", _TOO_MUCH)
    return Finding(Code.ZIP_SHORT if error.at_the_end else Code.PICKLE_DAMAGED, path, f"{what}: {error}")


def _open_directory(payload: PayloadReader) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(_BoundedFile(payload))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, OSError) as error:
        if isinstance(error, _TooLong):
            raise TooMuch(str(error)) from None
        if "not a zip file" in str(error):
            raise _Broken(Code.ZIP_SHORT, "it ends before the list of its records") from None
        raise _Broken(Code.ZIP_DIRECTORY, f"the list of its records is damaged: {error}") from None


def _check_directory(payload: PayloadReader, start: int, records: list[zipfile.ZipInfo]) -> None:
    """What zipfile passes over and torch's reader does not: it refuses the file, or takes a record for a folder."""
    if len({record.filename.lower() for record in records}) < len(records):
        # torch finds a record whatever the case of its name; which of two it takes is not ours to guess.
        raise _Broken(Code.ZIP_DIRECTORY, "two records bear the same name")
    for record in records:
        if record.flag_bits & _FLAGS_REFUSED or record.external_attr & _IS_FOLDER or record.volume:
            raise _Broken(Code.ZIP_DIRECTORY, f"the list describes record {record.filename} as torch never does")
    raw = payload.read(start, min(payload.size - start, _LARGEST_DIRECTORY))
    end = 0
    for _record in records:
        if not raw.startswith(_ENTRY_MAGIC, end) or len(raw) < end + _ENTRY.size:
            raise _Broken(Code.ZIP_DIRECTORY, "the list of its records is out of step")
        end += _ENTRY.size + sum(_ENTRY.unpack_from(raw, end))
    if not _ends_well(raw, start, end, len(records)):
        raise _Broken(Code.ZIP_DIRECTORY, "what follows the list of its records does not agree with it")


def _ends_well(raw: bytes, start: int, length: int, count: int) -> bool:
    """Whether the closing records agree with the list that lies before them (APPNOTE.TXT, 4.3.14 to 4.3.16)."""
    told, end = (0, 0, count, count, length, start), length
    if raw.startswith(_END64_MAGIC, end) and len(raw) >= end + _END64.size:
        if _END64.unpack_from(raw, end) != (_END64_MAGIC, 44, *told, _LOCATOR_MAGIC, 0, start + end, 1):
            return False
        end += _END64.size
    if not raw.startswith(_END_MAGIC, end) or len(raw) < end + _END.size:
        return False
    # A number that is too large for its field stands in the 64-bit record, and this field is full.
    short = zip(_END.unpack_from(raw, end), told, _END_FULL, strict=True)
    return all(found in (expected, full) for found, expected, full in short)


def _ranges(payload: PayloadReader, records: list[zipfile.ZipInfo]) -> Iterator[Range]:
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED:
            continue
        header = payload.read(record.header_offset, _LOCAL_HEADER_BYTES)
        if len(header) < _LOCAL_HEADER_BYTES or not header.startswith(_ZIP_MAGIC):
            raise _Broken(Code.ZIP_DIRECTORY, f"record {record.filename} does not begin where the list says")
        name_length, extra_length = (
            int.from_bytes(header[26:28], "little"),
            int.from_bytes(header[28:30], "little"),
        )
        if _local_name(payload, record, name_length) != record.orig_filename:
            raise _Broken(Code.ZIP_DIRECTORY, f"record {record.filename} bears another name where it lies")
        start = record.header_offset + _LOCAL_HEADER_BYTES + name_length + extra_length
        if start + record.file_size > payload.size or record.compress_size != record.file_size:
            raise _Broken(Code.ZIP_DIRECTORY, f"record {record.filename} does not fit into the file")
        yield Range(record.filename, start, record.file_size, record.CRC)


def _local_name(payload: PayloadReader, record: zipfile.ZipInfo, length: int) -> str:
    """The name before the record's bytes. No checksum covers either name, and torch finds records by them."""
    name = payload.read(record.header_offset + _LOCAL_HEADER_BYTES, length)
    return name.decode("utf-8" if record.flag_bits & _NAMES_ARE_UTF8 else "cp437", "replace")


def _check_compressed(directory: zipfile.ZipFile, records: list[zipfile.ZipInfo]) -> None:
    unpacked = sum(record.file_size for record in records if record.compress_type != zipfile.ZIP_STORED)
    if unpacked > _LARGEST_UNPACKED:
        raise TooMuch(f"its packed records unpack to {unpacked} bytes")
    for record in records:
        if record.compress_type == zipfile.ZIP_STORED:
            continue
        if record.compress_type != zipfile.ZIP_DEFLATED:
            raise _Broken(Code.ZIP_DIRECTORY, f"record {record.filename} is packed in a way that torch does not know")
        try:
            with directory.open(record) as stream:
                while stream.read(1 << 20):
                    pass
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
            ValueError,
        ) as error:
            raise _Broken(Code.ZIP_RECORD_CRC, f"record {record.filename}: {error}") from None


def _read_structure(
    payload: PayloadReader, directory: zipfile.ZipFile, records: list[zipfile.ZipInfo], ranges: tuple[Range, ...]
) -> Contents | None:
    """The pickle at the heart of the file; None for a zip that holds none, such as an exported program."""
    root = _root(records)
    heart = next((record for record in records if record.filename.lower() == f"{root}/data.pkl".lower()), None)
    if heart is None:
        return None
    if heart.file_size > _LARGEST_PICKLE:
        raise TooMuch(f"{heart.file_size} bytes are more than is read")
    prefix = f"{root}/data/"
    places = {found.name.removeprefix(prefix): found.start for found in ranges if found.name.startswith(prefix)}
    stored = next((found for found in ranges if found.name == heart.filename), None)
    data = payload.read(stored.start, stored.length) if stored else directory.read(heart)
    return read_pickle(data, places)


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


class _TooLong(ValueError):
    """More than is read at once."""


class _BoundedFile(io.RawIOBase):
    """The payload as a file object for zipfile, which must not be talked into one enormous read."""

    def __init__(self, payload: PayloadReader) -> None:
        self.payload, self.position = payload, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.payload.size}[whence]
        if base + offset < 0:
            # As the kernel has it: by this error zipfile knows that a file is too short to be a zip.
            raise OSError(errno.EINVAL, "a position before the file's beginning")
        self.position = base + offset
        return self.position

    def read(self, size: int = -1) -> Any:
        length = self.payload.size - self.position if size < 0 else size
        if min(length, self.payload.size) > _LARGEST_DIRECTORY:
            raise _TooLong(f"the list of its records has {length} bytes")
        found = self.payload.read(self.position, length)
        self.position += len(found)
        return found
