"""The local side of a copy: stretches of its files, with their digests."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from awscrt.checksums import combine_crc64nvme, crc64nvme

from lastgood.errors import CannotTell, NoLongerAsJudged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lastgood.facts import FileDigest

_BLOCK: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes [start, start + size) of a file; the number of the part that they are, from 1."""

    number: int
    start: int
    size: int


def stretches(size: int, part_size: int) -> list[Stretch]:
    """A file of no bytes is one stretch of none."""
    starts = range(0, max(size, 1), part_size)
    return [Stretch(number, start, min(part_size, size - start)) for number, start in enumerate(starts, 1)]


def read(path: str, stretch: Stretch) -> bytes:
    """NoLongerAsJudged where the file is shorter by now, or gone; CannotTell where the disk does not answer."""
    try:
        with open(path, "rb", buffering=0) as file:
            # Read whole blocks into one buffer: the bytes of a part are sent as they are, in one piece.
            content = os.pread(file.fileno(), stretch.size, stretch.start)
            while 0 < len(content) < stretch.size:
                more = os.pread(file.fileno(), stretch.size - len(content), stretch.start + len(content))
                if not more:
                    break
                content += more
    except FileNotFoundError as error:
        raise NoLongerAsJudged(f"{path} is gone") from error
    except OSError as error:
        raise CannotTell("reading", path, error) from error
    if len(content) < stretch.size:
        raise NoLongerAsJudged(f"{path} is shorter than when it was judged")
    return content


def crc64(content: bytes) -> str:
    """16 hex digits."""
    return f"{crc64nvme(content):016x}"


def crc64_of(parts: Iterable[tuple[str, int]]) -> str:
    """That of a whole, from the digests and lengths of its parts in order."""
    whole = 0
    for digits, length in parts:
        whole = combine_crc64nvme(whole, int(digits, 16), length)
    return f"{whole:016x}"


def blocks(path: str, size: int) -> Iterator[bytes]:
    for stretch in stretches(size, _BLOCK):
        yield read(path, stretch)


def judged_crc64(path: str, file: FileDigest) -> str:
    """The CRC64NVME of the bytes that were judged: known, or had by one more pass that ends in the judged digest."""
    algorithm, _, digits = (file.digest or "").partition(":")
    if algorithm == "crc64nvme":
        return digits
    sha256, whole = hashlib.sha256(), 0
    for block in blocks(path, file.bytes):
        sha256.update(block)
        whole = crc64nvme(block, whole)
    if sha256.hexdigest() != digits:
        raise NoLongerAsJudged(f"{path} is not what was judged")
    return f"{whole:016x}"


def md5_of_parts(digests: Iterable[bytes]) -> str:
    """The ETag that S3 gives to what was sent in parts with these MD5s."""
    found = list(digests)
    return f"{hashlib.md5(b''.join(found), usedforsecurity=False).hexdigest()}-{len(found)}"


def digest_of(path: str, file: FileDigest) -> str:
    """The digest of what is there, by the algorithm of the judged one."""
    if (file.digest or "").startswith("sha256:"):
        sha256 = hashlib.sha256()
        for block in blocks(path, file.bytes):
            sha256.update(block)
        return f"sha256:{sha256.hexdigest()}"
    whole = 0
    for block in blocks(path, file.bytes):
        whole = crc64nvme(block, whole)
    return f"crc64nvme:{whole:016x}"
