"""The values that pass between the parts: facts read from disk, reports, records of the catalog. All frozen."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal

from lastgood.findings import Code, Finding, Severity, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from lastgood.life import State


class Level(StrEnum):
    """How deep verification looks."""

    QUICK = "quick"  #: names, sizes, headers, directories, structure of pickles
    FULL = "full"  #: every byte once


class Component(StrEnum):
    """What a resume needs."""

    CONFIG = "config"
    WEIGHTS = "weights"
    TOKENIZER = "tokenizer"
    TRAINING_STATE = "training_state"
    OPTIMIZER = "optimizer"
    SCHEDULER = "scheduler"
    RNG = "rng"
    SCALER = "scaler"
    DATALOADER = "dataloader"


class Presence(StrEnum):
    PRESENT = "present"
    MISSING = "missing"
    EMPTY = "empty"
    DAMAGED = "damaged"
    NOT_APPLICABLE = "not-applicable"


class Evidence(StrEnum):
    """Why we believe that a save is finished, weakest first."""

    QUIET = "quiet"  #: silence only: listed, never handed out
    STRUCTURAL = "structural"  #: the expected set is there, as long as each header says, and nobody writes
    RENAMED = "renamed"  #: the folder appeared by rename from a temporary name
    MARKER = "marker"  #: the layout's last file is there, and the newest
    DECLARED = "declared"  #: the job said so


EVIDENCE_ORDER: Final = tuple(Evidence)

FileKind = Literal["file", "link", "folder-link", "other"]


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One file of a checkpoint as `stat` shows it. `path` is relative, with `/`; times in nanoseconds."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    kind: FileKind = "file"
    leaves: bool = False  #: a link whose target lies outside the checkpoint
    sparse: bool = False  #: fewer blocks than its size needs: holes, or a filesystem that compresses

    @property
    def content(self) -> tuple[str, int, int, int]:
        """What changes when somebody writes; ctime also moves with a hard link or a chmod."""
        return (self.path, self.size, self.mtime_ns, self.inode)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What one walk of a checkpoint found, each part sorted by path."""

    entries: tuple[Entry, ...]
    temporary: tuple[Entry, ...] = ()  #: files and folders under the names that writers give to unfinished ones
    marks: tuple[str, ...] = ()  #: files that say that the save is in progress
    unreadable: tuple[tuple[str, str], ...] = ()  #: (path, why)

    @property
    def fingerprint(self) -> str:
        """32 hex digits over every entry: equal means that nobody rewrote it."""
        rows = [(e.path, e.size, e.mtime_ns, e.ctime_ns, e.inode, e.kind) for e in (*self.entries, *self.temporary)]
        return hashlib.sha256(repr((rows, self.marks)).encode()).hexdigest()[:32]

    @property
    def content(self) -> frozenset[tuple[str, int, int, int]]:
        """As the fingerprint, without ctime: equal means that at most metadata changed."""
        return frozenset(entry.content for entry in self.entries)

    @property
    def unfinished(self) -> tuple[str, ...]:
        """What says that somebody is at work. A temporary file older than the rest was left by an earlier save."""
        newest = self.newest_mtime_ns
        return (*self.marks, *(entry.path for entry in self.temporary if entry.mtime_ns >= newest))

    @property
    def leftovers(self) -> tuple[str, ...]:
        newest = self.newest_mtime_ns
        return tuple(entry.path for entry in self.temporary if entry.mtime_ns < newest)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(entry.path for entry in self.entries)

    @property
    def bytes(self) -> int:
        return sum(entry.size for entry in self.entries)

    @property
    def newest_mtime_ns(self) -> int:
        return max((entry.mtime_ns for entry in self.entries), default=0)


@dataclass(frozen=True, slots=True)
class TensorFact:
    """A tensor as its file describes it: torch's short dtype name, shape, and size in bytes."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What reading one file told. `contents` is plain data with `TensorFact`s and stubs in it, never live objects."""

    path: str
    size: int
    format: Literal["safetensors", "torch", "json", "other"]
    contents: Any = None
    problems: tuple[Finding, ...] = ()
    digest: str | None = None  #: "crc64nvme:<16 hex>", when every byte was read


@dataclass(frozen=True, slots=True)
class Progress:
    """Where in training the checkpoint was saved, from its own state; None where it does not say."""

    step: int | None = None
    epoch: float | None = None
    world_size: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the checks look at: names, stat, what each file told, and what the layout makes of it."""

    name: str
    layout: str
    inventory: Inventory
    files: Mapping[str, FileFacts]
    lacking: tuple[Finding, ...]  #: what a finished save of this layout must have, and this one has not
    components: Mapping[Component, Presence]
    progress: Progress
    step_by_name: int | None


@dataclass(frozen=True, slots=True)
class FileDigest:
    path: str
    bytes: int
    digest: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """What verification says of one checkpoint, as of `fingerprint`."""

    path: str
    name: str
    layout: str
    level: Level
    verdict: Verdict
    exact_resume: bool
    step: int | None
    epoch: float | None
    world_size: int | None
    components: Mapping[Component, Presence]
    findings: tuple[Finding, ...]
    files: tuple[FileDigest, ...]
    bytes: int
    seconds: float
    fingerprint: str

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity is Severity.WARNING)

    @property
    def still_changing(self) -> bool:
        """Somebody wrote while we read: there is nothing to conclude."""
        return any(f.code is Code.STILL_BEING_WRITTEN for f in self.findings)


def finding_as_json(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity.value,
        "code": finding.code.value,
        "file": finding.file,
        "message": finding.message,
        "hint": finding.advice,
    }


def report_as_json(report: Report) -> dict[str, Any]:
    """The object that `verify --json` prints and the catalog keeps."""
    return {
        "path": report.path,
        "name": report.name,
        "layout": report.layout,
        "level": report.level.value,
        "verdict": report.verdict.value,
        "exact_resume": report.exact_resume,
        "step": report.step,
        "epoch": report.epoch,
        "world_size": report.world_size,
        "components": {c.value: p.value for c, p in report.components.items()},
        "findings": [finding_as_json(f) for f in report.findings],
        "files": [asdict(f) for f in report.files],
        "bytes": report.bytes,
        "seconds": round(report.seconds, 4),
        "fingerprint": report.fingerprint,
    }


def report_from_json(data: Mapping[str, Any]) -> Report:
    """The report that `report_as_json` wrote. KeyError or ValueError where it is not one."""
    return Report(
        path=data["path"],
        name=data["name"],
        layout=data["layout"],
        level=Level(data["level"]),
        verdict=Verdict(data["verdict"]),
        exact_resume=data["exact_resume"],
        step=data["step"],
        epoch=data["epoch"],
        world_size=data["world_size"],
        components={Component(c): Presence(p) for c, p in data["components"].items()},
        findings=tuple(Finding(Code(f["code"]), f["file"], f["message"], f["hint"]) for f in data["findings"]),
        files=tuple(FileDigest(**f) for f in data["files"]),
        bytes=data["bytes"],
        seconds=data["seconds"],
        fingerprint=data["fingerprint"],
    )


@dataclass(frozen=True, slots=True)
class Record:
    """One generation of a checkpoint, as the catalog remembers it. Times are aware UTC."""

    id: int
    run: str
    root: str  #: absolute path of the watched folder
    relative_path: str  #: of the checkpoint, below the root
    name: str
    number: int  #: the number in its name
    generation: int
    state: State
    first_seen_at: datetime
    saved_at: datetime  #: newest mtime of the payload
    bytes: int
    fingerprint: str
    copy: bool = False  #: a symlink to another folder: listed, starts no branch
    before_us: bool = False  #: it lay there before our first look, so that its order is a guess
    active: bool = False  #: somebody writes, or wrote within the last quiet window
    waiting_for: str | None = None  #: why it is not settled, or not judged, yet
    branch: int | None = None
    landing_seq: int | None = None  #: the order in which saves were finished
    evidence: Evidence | None = None
    verdict: Verdict | None = None
    settled_at: datetime | None = None
    verified_at: datetime | None = None
    step_in_state: int | None = None
    epoch: float | None = None
    world_size: int | None = None
    exact_resume: bool = False
    components: Mapping[Component, Presence] = field(default_factory=dict)
    warnings: tuple[Mapping[str, Any], ...] = ()  #: findings, as JSON shows them

    @property
    def path(self) -> str:
        return f"{self.root.rstrip('/')}/{self.relative_path}"

    @property
    def step(self) -> int:
        """The step of its own state; the number in its name until that is known, or where it does not say."""
        return self.number if self.step_in_state is None else self.step_in_state
