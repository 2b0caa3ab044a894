"""What verification works on and what it says: facts read from disk, the report, the manifest. All frozen."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from lastgood.findings import Code, Finding, Severity, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping


class Level(StrEnum):
    """How deep verification looks."""

    QUICK = "quick"  #: names, sizes, headers, directories, structure of pickles
    FULL = "full"  #: every byte once
    DEEP = "deep"  #: and the real loaders, in a process of their own


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
    """A tensor as its file describes it."""

    dtype: str  #: as safetensors names them: F32, BF16, I64
    shape: tuple[int, ...]
    bytes: int  #: of its elements
    start: int | None = None  #: where in the file its first element lies, behind its end where packed; None: not known
    extent: int | None = None  #: bytes from there to the end of its last element; strides may leave gaps
    hollow: bool = False  #: it lay on torch's device `meta`: a shape without numbers, in the file as in the job


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the scan of a file's floating-point tensors noticed, by their names in the file."""

    nan: frozenset[str] = frozenset()
    inf: frozenset[str] = frozenset()  #: masks, which hold nothing but zeros and -inf, are left out
    zero: frozenset[str] = frozenset()  #: every element is zero


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What reading one file told. `contents` is plain data with `TensorFact`s and stubs in it, never live objects."""

    path: str
    size: int
    format: Literal["safetensors", "torch", "json", "other"]
    contents: Any = None
    problems: tuple[Finding, ...] = ()
    digest: str | None = None  #: "crc64nvme:<16 hex>" or "sha256:<64 hex>", when every byte was read
    tensors: Mapping[str, TensorFact] = field(default_factory=dict)  #: by the path of keys to them: `state.0.exp_avg`
    numbers: Numbers = Numbers()
    doubtful: bool = False  #: `contents` do not match their own checksum: what is not in them may have been
    values: Mapping[str, float] = field(default_factory=dict)  #: of one-element tensors named `step`, `lr` or the like
    globals: frozenset[str] = frozenset()  #: named in its pickles, and not among those `weights_only=True` takes
    holes: bool = False  #: parts of it were never written
    foreign: bool = False  #: its bytes are those of another format, or of no file, rather than damaged ones of its own
    zero_tail: int = 0  #: bytes of whole zero pages at its end, where they begin within a tensor that is not zero


@dataclass(frozen=True, slots=True)
class Place:
    """Where in an epoch a checkpoint was saved."""

    epoch: int  #: the one in work, or the one just finished; counted from 1
    done: int | None  #: batches of it that were trained on
    batches: int | None  #: in the whole epoch

    @property
    def finished(self) -> bool:
        return self.done is not None and self.batches is not None and self.done >= self.batches


@dataclass(frozen=True, slots=True)
class Progress:
    """Where in training the checkpoint was saved, from its own state; None where it does not say."""

    step: int | None = None
    epoch: float | None = None
    world_size: int | None = None
    schedule_step: int | None = None  #: the scheduler's `last_epoch`: steps, or epochs
    counts_batches: bool = False  #: `step` counts batches, of which several may make a step of the optimizer
    lost_by: str | None = None  #: the entry that is not there, and without which `step` cannot be told
    metrics: Mapping[str, float] = field(default_factory=dict)  #: what the trainer measured by then, by its names
    best: str | None = None  #: the checkpoint that the trainer calls its best so far
    place: Place | None = None
    losses: tuple[float, ...] = ()  #: of each epoch, or of each time that the trainer logged one; the last one last
    rates: tuple[float, ...] = ()  #: the learning rates that the scheduler gave last


@dataclass(frozen=True, slots=True)
class OptimizerFacts:
    """What the optimizer's state tells of itself: `torch.optim.Optimizer.state_dict`."""

    steps: tuple[int, ...] = ()  #: the different step counts of its parameters, rising; none where it counts none
    rates: tuple[float, ...] = ()  #: the learning rate of each group
    unsound_rates: tuple[str, ...] = ()  #: those that are no numbers, in words
    parameters: int = 0  #: how many its groups name
    options: frozenset[str] = frozenset()  #: what else its groups name
    moments: Mapping[str, TensorFact] = field(default_factory=dict)  #: `0.exp_avg` and the like
    lacking: tuple[str, ...] = ()  #: what its next step would look for and not find, in words

    @property
    def kept(self) -> int:
        """Of how many parameters it keeps something."""
        return len({name.rpartition(".")[0] for name in self.moments})


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
    homes: Mapping[Component, tuple[str, ...]] = field(default_factory=dict)  #: the files in which each lies
    weights: Mapping[str, TensorFact] = field(default_factory=dict)  #: the model's, from whichever files
    optimizer: OptimizerFacts | None = None
    rng: Mapping[str, frozenset[str]] = field(default_factory=dict)  #: by file: which of python, numpy, torch, cuda
    baseline: frozenset[str] = frozenset()  #: files whose random states are those of the day when they were mended
    left_out: frozenset[Component] = frozenset()  #: what its job chose not to save
    made_up: tuple[str, ...] = ()  #: entries of its training state that were made when it was mended
    trained: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By file, where more lies in one: the prefixes of the names of weights and moments."""
    previous: Manifest | None = None
    manifest: Manifest | None = None
    saved: FileList | None = None  #: the job's own list of its files

    @property
    def estimated(self) -> tuple[str, ...]:
        """What of its progress was estimated when it was mended."""
        return tuple(name for name in self.made_up if name in ("global_step", "epoch"))


@dataclass(frozen=True, slots=True)
class FileDigest:
    path: str
    bytes: int
    digest: str | None


@dataclass(frozen=True, slots=True)
class FileList:
    """What the job itself says in `.lastgood.json` that its save consists of."""

    files: tuple[FileDigest, ...] = ()
    changed_at_ns: int = 0  #: its own ctime
    problem: str | None = None  #: why it cannot be read


@dataclass(frozen=True, slots=True)
class Manifest:
    """What verification leaves behind: the bytes as they were judged, and what the next checkpoint is held against."""

    name: str
    fingerprint: str
    files: tuple[FileDigest, ...]
    step: int | None = None
    step_by_name: int | None = None
    schedule_step: int | None = None
    optimizer_steps: tuple[int, ...] = ()
    parameters: int | None = None  #: how many the optimizer names
    kept: int | None = None  #: of how many of them it keeps something
    rates: tuple[float, ...] = ()
    weights: Mapping[str, str] = field(default_factory=dict)  #: "F32 [2, 3]" by the tensor's name
    zero: Mapping[str, frozenset[str]] = field(default_factory=dict)  #: by file: tensors that are all zero
    strangers: frozenset[str] = frozenset()  #: files of other formats than their names say; all others were sound


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
    metrics: Mapping[str, float] = field(default_factory=dict)  #: what the trainer measured by then
    best: str | None = None  #: the checkpoint that the trainer calls its best so far
    manifest: Manifest | None = field(default=None, compare=False)  #: None where not every byte was read

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity is Severity.WARNING)

    @property
    def still_changing(self) -> bool:
        """Somebody wrote while we read: there is nothing to conclude."""
        return any(f.code is Code.STILL_BEING_WRITTEN for f in self.findings)
