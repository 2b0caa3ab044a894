"""Where copies lie: PREFIX/RUN/NAME-<12 digits>/, with manifest.json and COMMIT beside the checkpoint's files."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lastgood import naming
from lastgood.errors import SettingsError
from lastgood.settings_values import bucket_and_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lastgood.facts import FileDigest
    from lastgood.settings import Settings

COMMIT: Final = "COMMIT"
MANIFEST: Final = "manifest.json"
UPLOADER: Final = ".lastgood-uploader"
PROBES: Final = ".lastgood-probe"
_DIGITS: Final = 12
_COPY: Final = re.compile(rf"(?P<name>.+)-(?P<digits>[0-9a-f]{{{_DIGITS}}})")
_OURS: Final = re.compile(rf"(?:data\.)*(?:{COMMIT}|{re.escape(MANIFEST)})")
_MOST_PARTS: Final = 10_000  # S3's limit


@dataclass(frozen=True, slots=True)
class Remote:
    """A place in a store, and how it is spoken to. Nothing secret: credentials are found by boto3 itself."""

    bucket: str
    prefix: str = ""
    endpoint: str = ""  #: "": AWS
    region: str = ""
    addressing: str = "auto"
    ca: str = ""
    sse: str = ""
    kms_key: str = ""
    storage_class: str = ""
    tags: str = ""  #: `key=value`, joined by `&`
    part_size: int = 16 << 20
    parallel: int = 4
    max_rate: int = 0  #: bytes per second; 0: no limit
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    tries: int = 3  #: by botocore, within one call; what it cannot know is ours to try again
    patience: float = 0.5  #: seconds before the first retry of ours; each further one waits twice as long

    @classmethod
    def of(cls, settings: Settings) -> Remote | None:
        """None where no copies are wanted."""
        if not settings.remote:
            return None
        bucket, prefix = bucket_and_prefix(settings.remote)
        return cls(
            bucket=bucket,
            prefix=prefix,
            endpoint=settings.remote_endpoint.rstrip("/"),
            region=settings.remote_region,
            addressing=settings.remote_addressing,
            ca=settings.remote_ca,
            sse=settings.remote_sse,
            kms_key=settings.remote_kms_key,
            storage_class=settings.remote_storage_class,
            tags=settings.remote_tags,
            part_size=settings.upload_part_size,
            parallel=settings.upload_parallel,
            max_rate=settings.upload_max_rate,
        )

    @classmethod
    def needed_of(cls, settings: Settings) -> Remote:
        """SettingsError where none is set."""
        found = cls.of(settings)
        if found is None:
            raise SettingsError("no place for copies is set: LASTGOOD_REMOTE=s3://BUCKET/PREFIX names it")
        return found

    @property
    def identity(self) -> str:
        """What tells one store from another, and what it may do for one sort of object from another."""
        return " ".join(filter(None, (self.url(), self.endpoint, self.sse, self.kms_key, self.storage_class)))

    def url(self, key: str = "") -> str:
        """As people write it. `key`: within the bucket; without one, the place itself."""
        return f"s3://{self.bucket}/{key or self.prefix}".rstrip("/")

    def run_key(self, run: str) -> str:
        """What the keys of all of a run's copies begin with, without the last `/`."""
        return "/".join(filter(None, (self.prefix, "" if run == naming.ROOT_FOLDER else run)))

    def copy_key(self, run: str, name: str, digest: str) -> str:
        return "/".join(filter(None, (self.run_key(run), f"{name}-{digest[:_DIGITS]}")))

    def place_of(self, key: str) -> tuple[str, str, str] | None:
        """Run, name and digits in a copy's key; None where it is none of ours."""
        inner = key.removeprefix(f"{self.prefix}/") if self.prefix else key
        if self.prefix and inner == key:
            return None
        run, _, last = inner.rpartition("/")
        match = _COPY.fullmatch(last)
        # A bucket may be anybody's: a run's name is joined to a folder.
        leads_out = bool(run) and (any(part in ("", ".", "..") for part in run.split("/")) or not run.isprintable())
        return None if match is None or leads_out else (run or naming.ROOT_FOLDER, match["name"], match["digits"])

    def part_size_of(self, size: int) -> int:
        """So that no file needs more parts than there may be."""
        least = -(-size // _MOST_PARTS)
        return max(self.part_size, -(-least // (1 << 20)) << 20)


def file_key(copy_key: str, path: str) -> str:
    """Where a file of the checkpoint lies. One that is called as ours are is called otherwise there."""
    return f"{copy_key}/{'data.' if _OURS.fullmatch(path) else ''}{path}"


def content_digest(files: Iterable[FileDigest]) -> str:
    """64 hex digits, equal where every path, size and digest is. ValueError where a file was not read."""
    rows = sorted((file.path, file.bytes, file.digest or "") for file in files)
    unread = [path for path, _bytes, digest in rows if not digest]
    if unread:
        raise ValueError(f"{unread[0]} was not read")
    return hashlib.sha256(repr(rows).encode("utf-8", "backslashreplace")).hexdigest()
