"""Which checkpoints are copied, and which copy a job could start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lastgood import resume, retention
from lastgood.branches import first_look
from lastgood.cloud.addressing import content_digest
from lastgood.cloud.words import CloudCopy, CopyState
from lastgood.errors import Refusal
from lastgood.findings import SOUND, Verdict
from lastgood.life import State
from lastgood.records import Evidence, Record

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from lastgood.cloud.addressing import Remote
    from lastgood.cloud.words import Upload
    from lastgood.facts import FileDigest
    from lastgood.settings import Settings
    from lastgood.settings_values import KeepBest, UploadWhich

_ROOT: Final = "cloud"
_NOT_TO_BE_SENT: Final = (CopyState.PROVEN, CopyState.RETIRED, CopyState.CONFLICT)


@dataclass(frozen=True, slots=True)
class Choice:
    """What the settings say of one run."""

    which: UploadWhich
    accept: Verdict
    keep_best: KeepBest | None = None
    required: bool = False

    @classmethod
    def of(cls, settings: Settings, run: str) -> Choice | None:
        """None where nothing of it is copied."""
        own = settings.of_run(run)
        if not settings.remote or own.upload == "off":
            return None
        return cls(own.upload_which, Verdict(own.upload_accept), own.keep_best, own.upload == "required")


def to_upload(
    records: Sequence[Record], choice: Choice, uploads: Iterable[Upload], pinned: Collection[int] = ()
) -> list[Record]:
    """Of one run's records those that are to have a copy and have none, the newest first."""
    states = {upload.checkpoint_id: upload.state for upload in uploads}
    wanted = _chosen(records, choice, {i for i, state in states.items() if state is CopyState.PROVEN}, pinned)
    missing = [record for record in wanted if states.get(record.id) not in _NOT_TO_BE_SENT]
    return sorted(missing, key=lambda record: (record.branch or 0, record.number, record.id), reverse=True)


def waiting_for_proof(
    records: Sequence[Record], choice: Choice | None, uploads: Iterable[Upload], pinned: Collection[int] = ()
) -> frozenset[int]:
    """Ids of those that may not be removed before their copies are proven."""
    if choice is None or not choice.required:
        return frozenset()
    proven = {upload.checkpoint_id for upload in uploads if upload.state in (CopyState.PROVEN, CopyState.RETIRED)}
    return frozenset(record.id for record in _chosen(records, choice, proven, pinned)) - proven


def may_be_copied(record: Record, accept: Verdict = Verdict.PARTIAL) -> bool:
    """It was read to its last byte and is accepted, and nobody found fault with it since."""
    good = record.verdict in (Verdict.COMPLETE, accept) and record.verdict in SOUND
    return record.state is State.VERIFIED and good and record.finished and not record.failed and not record.copy


def _chosen(
    records: Sequence[Record], choice: Choice, proven: Collection[int | None], pinned: Collection[int]
) -> list[Record]:
    good = [record for record in records if may_be_copied(record, choice.accept)]
    if choice.which.all:
        return good
    chosen = {record.id for record in _last_of_stretches(records, good, choice.which.every, proven)}
    if choice.which.pinned:
        chosen.update(pinned)
    if choice.which.best:
        chosen.update(_best(records, good, choice.keep_best))
    return [record for record in good if record.id in chosen]


def _last_of_stretches(
    records: Iterable[Record], good: Collection[Record], every: int, proven: Collection[int | None]
) -> Iterable[Record]:
    """Those that `keep_every` keeps, each once a later save shows that it is the last one up to its multiple."""
    if not every:
        return
    known = {record.id: record for record in (*good, *(r for r in records if r.id in proven))}
    lasts: dict[int | None, dict[int, Record]] = {}
    for record in sorted(known.values(), key=lambda record: (record.step, record.id)):
        lasts.setdefault(record.branch, {})[retention.stretch_of(record.step, every)] = record
    for of_branch in lasts.values():
        newest = max(of_branch)
        for stretch, record in of_branch.items():
            if stretch < newest or record.step == stretch * every:
                yield record


def _best(records: Iterable[Record], good: Iterable[Record], rule: KeepBest | None) -> set[int]:
    """Ids of the best so far: by the rule, where there is one; by the trainer's own word otherwise."""
    if rule is None:
        told = max((r for r in records if r.best and r.verdict in SOUND), key=lambda r: r.id, default=None)
        return {record.id for record in good if told is not None and record.name == told.best}
    return {record.id for record in retention.best_of(good, rule)}


def records_of(copies: Iterable[CloudCopy]) -> dict[int, tuple[Record, CloudCopy]]:
    """Copies of one run as records, by ids of their own, so that they are chosen and kept by the rules of all others.

    Which one follows which is told by when they were saved, as for what lay on a disk before our first look.
    """
    proven = [copy for copy in copies if copy.proof is not None]
    found: dict[int, tuple[Record, CloudCopy]] = {}
    for place, branch in first_look((copy.saved_at.timestamp(), copy.step) for copy in proven):
        record = _record_of(proven[place], len(found) + 1, branch)
        found[record.id] = (record, proven[place])
    return found


def _record_of(copy: CloudCopy, record_id: int, branch: int) -> Record:
    return Record(
        id=record_id,
        run=copy.run,
        root=_ROOT,
        relative_path=copy.key,
        name=copy.name,
        number=copy.step,
        generation=1,
        state=State.VERIFIED,
        first_seen_at=copy.committed_at or copy.saved_at,
        saved_at=copy.saved_at,
        bytes=copy.bytes,
        fingerprint=copy.digest[:32],
        before_us=True,
        branch=branch,
        landing_seq=record_id,
        evidence=Evidence.DECLARED,
        verdict=copy.verdict,
        step_in_state=copy.step,
        epoch=copy.epoch,
        world_size=copy.world_size,
        exact_resume=copy.exact_resume,
        components=copy.components,
        warnings=copy.warnings,
        metrics=copy.metrics,
        best=copy.best,
    )


def copy_of(record: Record, files: Sequence[FileDigest], remote: Remote) -> CloudCopy:
    """What a copy of it would be. ValueError where one of its files was not read."""
    digest = content_digest(files)
    return CloudCopy(
        run=record.run,
        name=record.name,
        step=record.step,
        digest=digest,
        key=remote.copy_key(record.run, record.name, digest),
        bytes=sum(file.bytes for file in files),
        files=len(files),
        verdict=record.verdict or Verdict.UNREADABLE,
        saved_at=record.saved_at,
        exact_resume=record.exact_resume,
        epoch=record.epoch,
        world_size=record.world_size,
        components=record.components,
        metrics=record.metrics,
        best=record.best,
        warnings=record.warnings,
    )


def copy_as_answer(upload: Upload, remote: Remote) -> dict[str, Any]:
    """What is said of a copy beside the checkpoint that it is of."""
    copy = upload.copy
    return {
        "url": remote.url(copy.key),
        "state": upload.state.value,
        "run": copy.run,
        "name": copy.name,
        "step": copy.step,
        "verdict": copy.verdict.value,
        "exact_resume": copy.exact_resume,
        "bytes": copy.bytes,
        "proof": copy.proof.value if copy.proof else None,
        "saved_at": copy.saved_at.isoformat(),
        "committed_at": copy.committed_at.isoformat() if copy.committed_at else None,
        "error": upload.error,
    }


def newest_copy(copies: Iterable[CloudCopy], wishes: resume.Wishes) -> CloudCopy | None:
    """The copy of one run that a job should start from, by the rules of all resume points; None where none will do."""
    found = records_of(copies)
    try:
        answer = resume.resume_point([record for record, _copy in found.values()], wishes)
    except Refusal:
        return None
    return found[answer.record.id][1]
