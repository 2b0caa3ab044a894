"""What can be noticed in a checkpoint, and what it means for the verdict. Closed lists: public in API and docs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Verdict(StrEnum):
    """What verification concludes."""

    COMPLETE = "complete"  #: all bytes sound, every applicable component there
    PARTIAL = "partial"  #: sound, but some applicable training state is missing or empty
    INCOMPLETE = "incomplete"  #: something required is missing or short: the save never finished
    CORRUPT = "corrupt"  #: bytes are wrong, or files contradict each other
    UNHEALTHY = "unhealthy"  #: bytes are right, numbers are not
    UNREADABLE = "unreadable"  #: we could not look


SOUND: Final = (Verdict.COMPLETE, Verdict.PARTIAL)  #: every byte is right, and the weights are there


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Code(StrEnum):
    """The stable name of each thing that can be noticed."""

    FOLDER_UNREADABLE = "folder-unreadable"
    FILE_UNREADABLE = "file-unreadable"
    FILE_EMPTY = "file-empty"
    FILE_NOT_REGULAR = "file-not-regular"
    FILE_NOT_UNDERSTOOD = "file-not-understood"
    LINK_LEAVES_CHECKPOINT = "link-leaves-checkpoint"
    READS_DIFFER = "reads-differ"
    STILL_BEING_WRITTEN = "still-being-written"
    SAVE_UNFINISHED = "save-unfinished"
    LEFTOVER_TEMPORARY = "leftover-temporary"
    CHECKER_DIED = "checker-died"
    LAYOUT_UNKNOWN = "layout-unknown"
    WEIGHTS_MISSING = "weights-missing"
    SHARD_MISSING = "shard-missing"
    CONFIG_MISSING = "config-missing"
    CONFIG_NOT_SAVED = "config-not-saved"
    TRAINING_STATE_MISSING = "training-state-missing"
    OPTIMIZER_MISSING = "optimizer-missing"
    SCHEDULER_MISSING = "scheduler-missing"
    RNG_MISSING = "rng-missing"
    OPTIMIZER_EMPTY = "optimizer-empty"
    SCHEDULER_EMPTY = "scheduler-empty"
    RNG_EMPTY = "rng-empty"
    RANKS_MISSING = "ranks-missing"
    SAFETENSORS_SHORT = "safetensors-short"
    SAFETENSORS_HEADER = "safetensors-header"
    SAFETENSORS_LAYOUT = "safetensors-layout"
    ZIP_SHORT = "zip-short"
    ZIP_DIRECTORY = "zip-directory"
    ZIP_RECORD_CRC = "zip-record-crc"
    ZIP_NO_CRC = "zip-no-crc"
    TORCH_FORMAT = "torch-format"
    PICKLE_DAMAGED = "pickle-damaged"
    STORAGE_MISMATCH = "storage-mismatch"
    JSON_SHORT = "json-short"
    JSON_INVALID = "json-invalid"
    UNSAFE_PICKLE = "unsafe-pickle"
    WEIGHTS_ONLY_REFUSES = "weights-only-refuses"
    LOADER_REFUSES = "loader-refuses"
    NO_CHECKSUM = "no-checksum"
    FILE_SPARSE = "file-sparse"
    ZERO_TAIL = "zero-tail"
    JSON_SHAPE = "json-shape"
    STATE_SHAPE = "state-shape"
    CONFIG_DISAGREES = "config-disagrees"
    INDEX_DISAGREES = "index-disagrees"
    SHARD_STRAY = "shard-stray"
    OPTIMIZER_DISAGREES = "optimizer-disagrees"
    OPTIMIZER_STRANGE = "optimizer-strange"
    SCHEDULER_STRANGE = "scheduler-strange"
    RATE_NEGATIVE = "rate-negative"
    RATE_ZERO = "rate-zero"
    SCALER_MISSING = "scaler-missing"
    RNG_INCOMPLETE = "rng-incomplete"
    RNG_BASELINE = "rng-baseline"
    STATE_LEFT_OUT = "state-left-out"
    NOT_A_NUMBER = "not-a-number"
    NOT_FINITE = "not-finite"
    WEIGHTS_ZERO = "weights-zero"
    TENSOR_ZEROED = "tensor-zeroed"
    TENSORS_LOST = "tensors-lost"
    TENSORS_CHANGED = "tensors-changed"
    WRAPPER_PREFIX = "wrapper-prefix"
    WEIGHTS_UNCHANGED = "weights-unchanged"
    FILE_OF_ANOTHER = "file-of-another"
    MANIFEST_MISMATCH = "manifest-mismatch"
    MANIFEST_FILE_MISSING = "manifest-file-missing"
    MANIFEST_FILE_NEW = "manifest-file-new"
    FILE_LIST_BROKEN = "file-list-broken"
    PROGRESS_UNTOLD = "progress-untold"
    PROGRESS_ESTIMATED = "progress-estimated"
    STEP_DISAGREES = "step-disagrees"
    STEP_OFFSET = "step-offset"
    CONCURRENT_WRITERS = "concurrent-writers"


class Meaning(NamedTuple):
    """How grave a code is, the verdict that it forces (None: none), and what a person can do."""

    severity: Severity
    verdict: Verdict | None
    hint: str


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO
_RESUME_OLDER = "resume from an older checkpoint; `lastgood latest` names it"
_SAVE_NEVER_FINISHED = "the save never finished; resume from an older checkpoint"
_DIVERGED = "training diverged: resume from an older checkpoint, with a lower learning rate or clipped gradients"
_NO_RNG = "dropout and shuffling will differ; `lastgood fix` adds current ones, `accept=partial` takes it as it is"
_PERMISSION = "run lastgood as the user who trains, or give that user's group read permission"

MEANINGS: Final[Mapping[Code, Meaning]] = {
    Code.FOLDER_UNREADABLE: Meaning(_E, Verdict.UNREADABLE, _PERMISSION),
    Code.FILE_UNREADABLE: Meaning(_E, Verdict.UNREADABLE, _PERMISSION),
    Code.FILE_EMPTY: Meaning(_E, Verdict.INCOMPLETE, _SAVE_NEVER_FINISHED),
    Code.FILE_NOT_REGULAR: Meaning(_E, Verdict.CORRUPT, "put a regular file in its place"),
    Code.FILE_NOT_UNDERSTOOD: Meaning(_W, None, "nothing, where another program keeps a file of its own there"),
    Code.LINK_LEAVES_CHECKPOINT: Meaning(_W, None, "copy the file in, so that the checkpoint stands alone"),
    Code.READS_DIFFER: Meaning(
        _E, Verdict.UNREADABLE, "two readings gave different bytes: check the disk, its cable and the memory"
    ),
    Code.STILL_BEING_WRITTEN: Meaning(_E, Verdict.INCOMPLETE, "wait until the save is finished, and ask again"),
    Code.SAVE_UNFINISHED: Meaning(_E, Verdict.INCOMPLETE, _SAVE_NEVER_FINISHED),
    Code.LEFTOVER_TEMPORARY: Meaning(_I, None, "remove it when you like: an earlier save was killed and left it"),
    Code.CHECKER_DIED: Meaning(
        _E, Verdict.UNREADABLE, "read the worker's log; `lastgood verify PATH` shows how far it comes"
    ),
    Code.LAYOUT_UNKNOWN: Meaning(_W, None, "nothing: it is not handed out, and not removed on account of that"),
    Code.WEIGHTS_MISSING: Meaning(_E, Verdict.INCOMPLETE, _SAVE_NEVER_FINISHED),
    Code.SHARD_MISSING: Meaning(_E, Verdict.INCOMPLETE, _SAVE_NEVER_FINISHED),
    Code.CONFIG_MISSING: Meaning(
        _E, Verdict.INCOMPLETE, "`lastgood fix` copies it from another checkpoint of the same run"
    ),
    Code.CONFIG_NOT_SAVED: Meaning(_I, None, "nothing: a job that resumes from it makes the model itself"),
    Code.TRAINING_STATE_MISSING: Meaning(_E, Verdict.INCOMPLETE, _SAVE_NEVER_FINISHED),
    Code.OPTIMIZER_MISSING: Meaning(
        _E,
        Verdict.PARTIAL,
        "the loss will jump: momentum starts from zero; to use it anyway, accept `partial`",
    ),
    Code.SCHEDULER_MISSING: Meaning(
        _E, Verdict.PARTIAL, "the learning rate starts from its first value; to use it anyway, accept `partial`"
    ),
    Code.RNG_MISSING: Meaning(_E, Verdict.PARTIAL, _NO_RNG),
    Code.OPTIMIZER_EMPTY: Meaning(
        _E,
        Verdict.PARTIAL,
        "the loss will jump: momentum starts from zero; to use it anyway, accept `partial`",
    ),
    Code.SCHEDULER_EMPTY: Meaning(
        _E, Verdict.PARTIAL, "the learning rate starts from its first value; to use it anyway, accept `partial`"
    ),
    Code.RNG_EMPTY: Meaning(_E, Verdict.PARTIAL, _NO_RNG),
    Code.RANKS_MISSING: Meaning(_E, Verdict.INCOMPLETE, _SAVE_NEVER_FINISHED),
    Code.SAFETENSORS_SHORT: Meaning(_E, Verdict.INCOMPLETE, _SAVE_NEVER_FINISHED),
    Code.SAFETENSORS_HEADER: Meaning(_E, Verdict.CORRUPT, _RESUME_OLDER),
    Code.SAFETENSORS_LAYOUT: Meaning(_E, Verdict.CORRUPT, _RESUME_OLDER),
    Code.ZIP_SHORT: Meaning(_E, Verdict.INCOMPLETE, _SAVE_NEVER_FINISHED),
    Code.ZIP_DIRECTORY: Meaning(_E, Verdict.CORRUPT, _RESUME_OLDER),
    Code.ZIP_RECORD_CRC: Meaning(_E, Verdict.CORRUPT, _RESUME_OLDER),
    Code.ZIP_NO_CRC: Meaning(_I, None, "turn torch.serialization.set_crc32_options(True) on again"),
    Code.TORCH_FORMAT: Meaning(_E, Verdict.CORRUPT, _RESUME_OLDER),
    Code.PICKLE_DAMAGED: Meaning(_E, Verdict.CORRUPT, _RESUME_OLDER),
    Code.STORAGE_MISMATCH: Meaning(_E, Verdict.CORRUPT, _RESUME_OLDER),
    Code.JSON_SHORT: Meaning(_E, Verdict.INCOMPLETE, _SAVE_NEVER_FINISHED),
    Code.JSON_INVALID: Meaning(_E, Verdict.CORRUPT, _RESUME_OLDER),
    Code.UNSAFE_PICKLE: Meaning(_E, Verdict.CORRUPT, "do not load it: loading would run a program that it names"),
    Code.WEIGHTS_ONLY_REFUSES: Meaning(
        _I, None, "nothing to do if you trust whoever wrote it: the trainer itself loads it with weights_only=False"
    ),
    Code.LOADER_REFUSES: Meaning(_E, Verdict.CORRUPT, _RESUME_OLDER),
    Code.NO_CHECKSUM: Meaning(_I, None, "save in torch's zip format: the older one has no checksums"),
    Code.FILE_SPARSE: Meaning(_W, None, "compare it with a copy: a disk that was full or lost power leaves holes"),
    Code.ZERO_TAIL: Meaning(_W, None, "compare it with a copy: a disk that was full or lost power leaves zeros"),
    Code.JSON_SHAPE: Meaning(_E, Verdict.CORRUPT, _RESUME_OLDER),
    Code.STATE_SHAPE: Meaning(_E, Verdict.CORRUPT, _RESUME_OLDER),
    Code.CONFIG_DISAGREES: Meaning(_W, None, "check whether config.json belongs to these weights"),
    Code.INDEX_DISAGREES: Meaning(
        _W, None, "`lastgood fix` writes the index again from the shards; most loaders do not mind"
    ),
    Code.SHARD_STRAY: Meaning(_W, None, "check whether shards of two saves were mixed"),
    Code.OPTIMIZER_DISAGREES: Meaning(_E, Verdict.CORRUPT, "check whether it is another model's optimizer"),
    Code.OPTIMIZER_STRANGE: Meaning(
        _W, None, "nothing, where the job trains parameters that it does not save with the model"
    ),
    Code.SCHEDULER_STRANGE: Meaning(
        _W,
        None,
        "nothing, where a scheduler of the job's own saves it so; one of torch would begin anew without a word",
    ),
    Code.RATE_NEGATIVE: Meaning(
        _E, Verdict.UNHEALTHY, "resume from an older checkpoint, and look how the schedule came below zero"
    ),
    Code.RATE_ZERO: Meaning(_I, None, "nothing: every schedule that decays to zero ends there"),
    Code.SCALER_MISSING: Meaning(_W, None, "the loss scale starts anew: a few steps may be skipped"),
    Code.RNG_INCOMPLETE: Meaning(_E, Verdict.PARTIAL, _NO_RNG),
    Code.RNG_BASELINE: Meaning(
        _I, None, "nothing: dropout and shuffling differ from those of a run that nobody interrupted"
    ),
    Code.STATE_LEFT_OUT: Meaning(_I, None, "nothing, where that was meant; otherwise save it from now on"),
    Code.NOT_A_NUMBER: Meaning(_E, Verdict.UNHEALTHY, _DIVERGED),
    Code.NOT_FINITE: Meaning(_E, Verdict.UNHEALTHY, _DIVERGED),
    Code.WEIGHTS_ZERO: Meaning(_E, Verdict.UNHEALTHY, _RESUME_OLDER),
    Code.TENSOR_ZEROED: Meaning(_E, Verdict.UNHEALTHY, _RESUME_OLDER),
    Code.TENSORS_LOST: Meaning(_E, Verdict.CORRUPT, _RESUME_OLDER),
    Code.TENSORS_CHANGED: Meaning(_W, None, "check whether the model was changed on purpose"),
    Code.WRAPPER_PREFIX: Meaning(_W, None, "`lastgood fix` strips it: most loaders skip such tensors without a word"),
    Code.WEIGHTS_UNCHANGED: Meaning(
        _W, None, "check whether the optimizer was given the model's parameters, and whether the right model is saved"
    ),
    Code.FILE_OF_ANOTHER: Meaning(_E, Verdict.CORRUPT, _RESUME_OLDER),
    Code.MANIFEST_MISMATCH: Meaning(_E, Verdict.CORRUPT, _RESUME_OLDER),
    Code.MANIFEST_FILE_MISSING: Meaning(_E, Verdict.INCOMPLETE, "fetch it from a copy, or resume from an older one"),
    Code.MANIFEST_FILE_NEW: Meaning(_I, None, "nothing: it was added after verification"),
    Code.FILE_LIST_BROKEN: Meaning(
        _W, None, "compare the checkpoint with a copy: what stands beside a damaged file may be damaged too"
    ),
    Code.PROGRESS_UNTOLD: Meaning(
        _W,
        None,
        "give the job the step to go on from; `lastgood fix` adds to training_state.pt what name and neighbours tell",
    ),
    Code.PROGRESS_ESTIMATED: Meaning(_I, None, "compare it with what the job logged"),
    Code.STEP_DISAGREES: Meaning(_W, None, "check whether files of two saves were mixed, or the folder was renamed"),
    Code.CONCURRENT_WRITERS: Meaning(
        _W, None, "give each job a folder of its own, or ask with the path of the checkpoint that you mean"
    ),
    Code.STEP_OFFSET: Meaning(_I, None, "nothing: a small, steady difference is usual"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing noticed. `file` is relative to the checkpoint; None where it concerns the whole."""

    code: Code
    file: str | None
    message: str
    hint: str = ""

    @property
    def severity(self) -> Severity:
        return MEANINGS[self.code].severity

    @property
    def advice(self) -> str:
        return self.hint or MEANINGS[self.code].hint


# Proven damage outranks all; what could not be read comes before what is missing, since it may hide it.
GRAVEST_FIRST: Final = (
    Verdict.CORRUPT,
    Verdict.UNREADABLE,
    Verdict.INCOMPLETE,
    Verdict.UNHEALTHY,
    Verdict.PARTIAL,
)


def conclude(findings: Iterable[Finding]) -> Verdict:
    """The verdict that the gravest finding forces; complete where none forces any."""
    forced = {MEANINGS[finding.code].verdict for finding in findings}
    return next((verdict for verdict in GRAVEST_FIRST if verdict in forced), Verdict.COMPLETE)
