"""What a copy is, and what proves it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from lastgood.facts import Component, Manifest, Presence
    from lastgood.findings import Verdict


class Proof(StrEnum):
    """Why we believe that the store holds the bytes that were judged, strongest first. Size alone is none."""

    FULL_OBJECT = "full-object-crc64nvme"  #: it keeps the digest of the whole file, and refuses bytes with another
    PARTS_MD5 = "parts-md5"  #: its ETag is the MD5 that it made of what it received
    READ_BACK = "read-back"  #: we read it all again


class CopyState(StrEnum):
    """How far a copy is."""

    SENDING = "sending"  #: begun, and not there yet
    PROVEN = "proven"  #: its COMMIT is there
    FAILED = "failed"  #: given up for now; tried again later
    CONFLICT = "conflict"  #: something else bears its COMMIT: a person decides
    RETIRED = "retired"  #: it was there, and its rules let it go
    MISSING = "missing"  #: it was there, and somebody else removed it


@dataclass(frozen=True, slots=True)
class CloudCopy:
    """One copy of one checkpoint: what its COMMIT says. Times are aware UTC; `bytes` without our own files."""

    run: str
    name: str
    step: int
    digest: str  #: 64 hex digits over the paths, sizes and digests of its files
    key: str  #: what the keys of its objects begin with, without the last `/`
    bytes: int
    files: int
    verdict: Verdict
    saved_at: datetime
    exact_resume: bool = False
    epoch: float | None = None
    world_size: int | None = None
    components: Mapping[Component, Presence] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    best: str | None = None
    warnings: tuple[Mapping[str, Any], ...] = ()  #: findings, as JSON shows them
    proof: Proof | None = None  #: the weakest of its files; None before it is there
    committed_at: datetime | None = None
    write_id: str = ""  #: by which whoever wrote the COMMIT knows that it was theirs
    writer: str = ""  #: the machine, for people


@dataclass(frozen=True, slots=True)
class Upload:
    """What the catalog knows of a copy: one row each."""

    id: int
    copy: CloudCopy
    state: CopyState
    checkpoint_id: int | None = None  #: the record whose bytes it holds, where we know of one
    error: str | None = None  #: why it is not there
    attempts: int = 0  #: that failed in a row
    checked_at: datetime | None = None  #: when it last came back whole

    @property
    def suspect(self) -> bool:
        """It has a COMMIT, and did not come back whole: that it is there proves nothing."""
        return self.copy.proof is not None and self.state in (CopyState.FAILED, CopyState.SENDING)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What is to be sent: a checkpoint as it was judged."""

    folder: str
    copy: CloudCopy
    manifest: Manifest
    mtimes_ns: Mapping[str, int] = field(default_factory=dict)  #: by path: a restored file tells when it was saved
    file_list: str | None = None  #: the text of the job's own `.lastgood.json`


@dataclass(frozen=True, slots=True)
class Found:
    """What listing a store found: the copies, and what bears a COMMIT that cannot be believed, with why."""

    copies: tuple[CloudCopy, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store was seen to do. Each is False where it was tried and is not so."""

    keeps_crc64: bool = False  #: and returns it for a whole object
    refuses_wrong_crc64: bool = False
    keeps_crc64_of_parts: bool = False  #: the same for what was sent in parts
    refuses_wrong_crc64_of_parts: bool = False
    etag_is_md5: bool = False
    etag_is_md5_of_parts: bool = False
    refuses_wrong_md5: bool = False
    puts_only_new: bool = False  #: honours If-None-Match: *
    one_winner: bool = False  #: also where several put at once
    replaces_known: bool = False  #: honours If-Match
    lists_parts: bool = False  #: an upload can go on where it stopped
    reads_ranges: bool = False
    aborts_abandoned: bool | None = None  #: the bucket has a rule for that; None: it would not say
    remarks: Mapping[str, str] = field(default_factory=dict)  #: by name, what was answered instead

    @property
    def conditional(self) -> bool:
        """A COMMIT can be written by one alone."""
        return self.puts_only_new and self.one_winner

    def proof(self, *, parts: bool) -> Proof:
        """The best that an object can have there."""
        if parts:
            digest = self.keeps_crc64_of_parts and self.refuses_wrong_crc64_of_parts
            etag = self.etag_is_md5_of_parts
        else:
            digest, etag = self.keeps_crc64 and self.refuses_wrong_crc64, self.etag_is_md5
        if digest:
            return Proof.FULL_OBJECT
        return Proof.PARTS_MD5 if etag else Proof.READ_BACK


def capabilities_as_json(able: Capabilities) -> dict[str, Any]:
    return {name: getattr(able, name) for name in Capabilities.__dataclass_fields__} | {"remarks": dict(able.remarks)}


def capabilities_from_json(data: Mapping[str, Any]) -> Capabilities:
    """Of what a later version may have added, nothing."""
    return Capabilities(**{name: data[name] for name in Capabilities.__dataclass_fields__ if name in data})
