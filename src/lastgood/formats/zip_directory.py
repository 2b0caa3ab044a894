"""The list of a zip file's records, held against torch's own strictness: zipfile forgives what torch's reader does not.

Format: PKWARE's APPNOTE.TXT; caffe2/serialize/inline_container.cc.
"""

from __future__ import annotations

import errno
import io
import struct
import zipfile
from typing import TYPE_CHECKING, Any, Final

from lastgood.findings import Code
from lastgood.formats.inert_pickle import TooMuch
from lastgood.formats.packed import Packed
from lastgood.formats.payload import Range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastgood.formats.payload import PayloadReader

ZIP_MAGIC: Final = b"PK\x03\x04"
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
_END_BYTES: Final = 22
_END_FULL: Final = (0xFFFF,) * 4 + (0xFFFFFFFF,) * 2
_LARGEST_DIRECTORY: Final = 32 << 20  # 300,000 records; zipfile makes of it about ten times as much
_LARGEST_UNPACKED: Final = 1 << 30  # of packed records, which torch itself never makes
_MOST_OF_SIZE: Final = 100  # times the file's own: weights and moments hardly get smaller


class BrokenZip(Exception):
    """The list, or a record, is not as torch writes it: what the finding is to say."""

    def __init__(self, code: Code, message: str) -> None:
        self.code, self.message = code, message


def ends_as_zip(payload: PayloadReader) -> bool:
    """Whether the last bytes are those of a zip file without a comment, as torch writes it."""
    return payload.read(max(0, payload.size - _END_BYTES), _END_BYTES).startswith(_END_MAGIC)


def open_directory(payload: PayloadReader) -> zipfile.ZipFile:
    """The list of records. BrokenZip where it is cut off or damaged; TooMuch where it is too long to be read."""
    try:
        return zipfile.ZipFile(_BoundedFile(payload))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, OSError) as error:
        if isinstance(error, _TooLong):
            raise TooMuch(str(error)) from None
        if "not a zip file" in str(error):
            raise BrokenZip(Code.ZIP_SHORT, "it ends before the list of its records") from None
        raise BrokenZip(Code.ZIP_DIRECTORY, f"the list of its records is damaged: {error}") from None


def check_directory(payload: PayloadReader, start: int, records: list[zipfile.ZipInfo]) -> None:
    """What zipfile passes over and torch's reader does not: it refuses the file, or takes a record for a folder."""
    if len({record.filename.lower() for record in records}) < len(records):
        # torch finds a record whatever the case of its name; which of two it takes is not ours to guess.
        raise BrokenZip(Code.ZIP_DIRECTORY, "two records bear the same name")
    for record in records:
        if record.flag_bits & _FLAGS_REFUSED or record.external_attr & _IS_FOLDER or record.volume:
            raise BrokenZip(Code.ZIP_DIRECTORY, f"the list describes record {record.filename} as torch never does")
    raw = payload.read(start, min(payload.size - start, _LARGEST_DIRECTORY))
    end = 0
    for _record in records:
        if not raw.startswith(_ENTRY_MAGIC, end) or len(raw) < end + _ENTRY.size:
            raise BrokenZip(Code.ZIP_DIRECTORY, "the list of its records is out of step")
        end += _ENTRY.size + sum(_ENTRY.unpack_from(raw, end))
    if not _ends_well(raw, start, end, len(records)):
        raise BrokenZip(Code.ZIP_DIRECTORY, "what follows the list of its records does not agree with it")


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


def is_mappable(path: str) -> bool:
    """Whether torch may map the file: of packed records it would take the packed bytes for tensors, without a word."""
    try:
        with zipfile.ZipFile(path) as found:
            return all(record.compress_type == zipfile.ZIP_STORED for record in found.infolist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def ranges_of(payload: PayloadReader, records: list[zipfile.ZipInfo]) -> Iterator[Range]:
    """Where each stored record's bytes lie, and their CRC-32. BrokenZip where one is not where the list says."""
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED:
            continue
        start = _begin_of(payload, record)
        if record.compress_size != record.file_size:
            raise BrokenZip(Code.ZIP_DIRECTORY, f"record {record.filename} does not fit into the file")
        yield Range(record.filename, start, record.file_size, record.CRC)


def packed_in(payload: PayloadReader, records: list[zipfile.ZipInfo]) -> Iterator[Packed]:
    """The packed records, none of them unpacked yet. BrokenZip as `ranges_of`; TooMuch where it would take for ever."""
    packed = [record for record in records if record.compress_type != zipfile.ZIP_STORED]
    size = sum(record.file_size for record in packed)
    if size > max(_LARGEST_UNPACKED, _MOST_OF_SIZE * payload.size):
        raise TooMuch(f"its packed records unpack to {size} bytes")
    place = payload.size
    for record in packed:
        if record.compress_type != zipfile.ZIP_DEFLATED:
            raise BrokenZip(Code.ZIP_DIRECTORY, f"record {record.filename} is packed in a way that torch does not know")
        unpacked = Range(record.filename, place, record.file_size, record.CRC)
        yield Packed(_begin_of(payload, record), record.compress_size, unpacked)
        place += record.file_size


def _begin_of(payload: PayloadReader, record: zipfile.ZipInfo) -> int:
    """Where the record's bytes begin, behind a header of their own. BrokenZip where the list says otherwise."""
    header = payload.read(record.header_offset, _LOCAL_HEADER_BYTES)
    if len(header) < _LOCAL_HEADER_BYTES or not header.startswith(ZIP_MAGIC):
        raise BrokenZip(Code.ZIP_DIRECTORY, f"record {record.filename} does not begin where the list says")
    name_length, extra_length = (
        int.from_bytes(header[26:28], "little"),
        int.from_bytes(header[28:30], "little"),
    )
    if _local_name(payload, record, name_length) != record.orig_filename:
        raise BrokenZip(Code.ZIP_DIRECTORY, f"record {record.filename} bears another name where it lies")
    start = record.header_offset + _LOCAL_HEADER_BYTES + name_length + extra_length
    if start + record.compress_size > payload.size:
        raise BrokenZip(Code.ZIP_DIRECTORY, f"record {record.filename} does not fit into the file")
    return start


def _local_name(payload: PayloadReader, record: zipfile.ZipInfo, length: int) -> str:
    """The name before the record's bytes. No checksum covers either name, and torch finds records by them."""
    name = payload.read(record.header_offset + _LOCAL_HEADER_BYTES, length)
    return name.decode("utf-8" if record.flag_bits & _NAMES_ARE_UTF8 else "cp437", "replace")


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
