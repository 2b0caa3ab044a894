"""Which checkpoint is read next, and what becomes of its report."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from lastgood.branches import lineage
from lastgood.facts import FileDigest
from lastgood.findings import SOUND, Code, Finding, Severity, Verdict, conclude
from lastgood.latest import inodes_are_stable
from lastgood.life import State
from lastgood_worker.judging import Job
from lastgood_worker.keeping import Keeper, path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lastgood.facts import Report
    from lastgood.records import Record
    from lastgood_worker.judging import Judging
    from lastgood_worker.ledger import Ledger

_TRY_AGAIN_AFTER: Final = 5.0  # seconds, where the disk did not answer
_UNREADABLE_AGAIN_AFTER: Final = 600.0  # what could not be read is no verdict on it: a disk may answer again
_BOOT_GRACE: Final = timedelta(minutes=10)


class Verdicts:
    """Hands settled checkpoints to the judge, the newest first, and records what it says."""

    def __init__(self, ledger: Ledger, judging: Judging, boot: str, scrub_every: timedelta) -> None:
        self._ledger, self._judging, self._boot, self._scrub_every = ledger, judging, boot, scrub_every
        self._keeper = Keeper(ledger)
        self._rechecks: set[int] = set()
        self._not_before: dict[int, float] = {}

    def recheck_after_crash(self) -> None:
        """What was verified shortly before the machine went down is read again: it may not have reached the disk."""
        last = self._ledger.catalog.worker()
        if last is None:
            return
        for found in self._ledger.catalog.read_before_boot(self._boot, last.heartbeat_at - _BOOT_GRACE):
            if found in self._ledger:
                self._ledger.write(self._ledger.catalog.recheck, found, "the machine went down after it was verified")

    def recheck(self, record: Record) -> None:
        """Reads it again in the background; meanwhile its verdict stands."""
        self._rechecks.add(record.id)
        self._not_before.pop(record.id, None)

    def drop(self, record_id: int) -> None:
        """What was read of it counts no more: it is being rewritten, or went away."""
        self._rechecks.discard(record_id)
        if self._judging.job is not None and self._judging.job.checkpoint_id == record_id:
            self._judging.cancel()
        self.forget(self._ledger[record_id])

    def forget(self, record: Record) -> None:
        """What was kept of its bytes goes."""
        self._keeper.forget(record)

    def in_work(self) -> frozenset[int]:
        """What is being read, or read again."""
        return frozenset(self._rechecks | ({self._judging.job.checkpoint_id} if self._judging.job else set()))

    def start_next(self, may_read: Callable[[Record], bool]) -> None:
        """Starts the newest that waits, if nothing runs."""
        if self._judging.job is not None:
            return
        now = self._ledger.clock.monotonic()
        waiting = [
            record
            for record in self._ledger.present()
            if self._is_to_be_read(record) and self._not_before.get(record.id, now) <= now and may_read(record)
        ]
        if waiting:
            self._judging.start(self._job(most_urgent(waiting, self._ledger.present())))
        elif stale := self._longest_unread(may_read):
            self._judging.start(self._job(stale))

    def _longest_unread(self, may_read: Callable[[Record], bool]) -> Record | None:
        """Scrubbing: what was last read so long ago that bits may have rotten since."""
        if not self._scrub_every:
            return None
        before = self._ledger.clock.now() - self._scrub_every
        now = self._ledger.clock.monotonic()
        stale = (
            record
            for record in self._ledger.present()
            if record.state is State.VERIFIED and record.verified_at and record.verified_at <= before
            if self._not_before.get(record.id, now) <= now and may_read(record)
        )
        return min(stale, key=lambda record: (record.verified_at, record.id), default=None)

    def _job(self, record: Record) -> Job:
        before = previous(record, self._ledger.of_run(record.run))
        return Job.of(
            record,
            inodes=inodes_are_stable(record.root),
            kept=self._kept(record),
            manifest=path_of(record),
            previous=path_of(before) if before else None,
        )

    def _kept(self, record: Record) -> tuple[FileDigest, ...]:
        """What was read of it since it settled: its content is the same still, or it would have settled anew."""
        digests = self._ledger.catalog.digests(record.id)
        if not digests:
            return ()
        content = self._ledger.catalog.settled_content(record.id)
        return tuple(FileDigest(path, size, digests.get(path)) for path, size, _mtime_ns, _inode in sorted(content))

    def _is_to_be_read(self, record: Record) -> bool:
        unread = record.state is State.VERIFIED and record.verdict is Verdict.UNREADABLE
        return record.state is State.SETTLED or record.id in self._rechecks or unread

    def collect(self, may_read: Callable[[Record], bool]) -> None:
        """Records what the judge found, if it has ended and the record still speaks of what was read.

        `may_read`: whether its root is there.
        """
        outcome = self._judging.poll()
        if outcome is None:
            return
        record = self._ledger[outcome.job.checkpoint_id]
        if outcome.report is None or not may_read(record) or not _still_speaks_of(record, outcome.report):
            # Whoever changed it shows at the next look; a disk that would not answer is asked again a little later.
            self._not_before[record.id] = self._ledger.clock.monotonic() + _TRY_AGAIN_AFTER
            return
        stirred = record.id in self._rechecks
        self._rechecks.discard(record.id)
        report = _with_unfinished(outcome.report, record.unfinished)
        if report.verdict in SOUND:
            self._keeper.keep(record, report)
        now = self._ledger.clock.now()
        judged = self._ledger.write(self._ledger.catalog.judged, record.id, report, boot=self._boot, now=now)
        if report.verdict is Verdict.UNREADABLE:
            self._not_before[record.id] = self._ledger.clock.monotonic() + _UNREADABLE_AGAIN_AFTER
            if record.verdict is Verdict.UNREADABLE:
                return  # it was told the first time
        if record.state is State.VERIFIED and not stirred:
            self._tell_of_scrub(record, judged, report)
        else:
            self._ledger.event(*_verdict_event(judged, report), judged)

    def _tell_of_scrub(self, before: Record, record: Record, report: Report) -> None:
        """Nobody wrote to it since: where its bytes are others, the disk has lost them."""
        if record.verdict is before.verdict:
            return
        kind, message, severity = _verdict_event(record, report)
        if any(finding.code is Code.MANIFEST_MISMATCH for finding in report.findings):
            kind, message = "bit-rot", f"nobody wrote to it, and its bytes changed: {message}"
        self._ledger.event(kind, message, severity, record)


def most_urgent(waiting: Iterable[Record], present: Iterable[Record]) -> Record:
    """What was never judged before what was; then what no newer accepted one of its run supersedes; then the newest."""
    accepted: dict[str, tuple[int, int]] = {}
    for record in present:
        if _is_accepted(record):
            accepted[record.run] = max(accepted.get(record.run, (0, 0)), _place(record))
    return max(
        waiting,
        key=lambda record: (
            record.state is State.SETTLED,
            _place(record) >= accepted.get(record.run, (0, 0)),
            _place(record),
            record.id,
        ),
    )


def previous(record: Record, run: Iterable[Record]) -> Record | None:
    """The last accepted one before it in its own line; None where there is none."""
    if record.branch is None:
        return None
    line = lineage(other for other in run if (other.branch or 0) <= (record.branch or 0))
    before = (other for other in line if other.number < record.number and _is_accepted(other))
    return max(before, key=lambda other: other.number, default=None)


def _place(record: Record) -> tuple[int, int]:
    return (record.branch or 0, record.number)


def _is_accepted(record: Record) -> bool:
    return record.state is State.VERIFIED and record.verdict in SOUND


def _still_speaks_of(record: Record, report: Report) -> bool:
    judged = record.state in (State.SETTLED, State.VERIFIED)
    return judged and not report.still_changing and report.fingerprint == record.fingerprint


def _with_unfinished(report: Report, reason: str | None) -> Report:
    """The report of a save that was given up says so, whatever its bytes look like."""
    if reason is None:
        return report
    return _with_findings(report, Finding(Code.SAVE_UNFINISHED, None, f"the save never finished: {reason}"))


def _with_findings(report: Report, *more: Finding) -> Report:
    if not more:
        return report
    findings = (*report.findings, *more)
    verdict = conclude(findings)
    return replace(
        report, findings=findings, verdict=verdict, exact_resume=report.exact_resume and verdict is Verdict.COMPLETE
    )


def _verdict_event(record: Record, report: Report) -> tuple[str, str, Severity]:
    what = f"{record.name} is {report.verdict}"
    if report.verdict is Verdict.COMPLETE:
        return "verified", f"{what}: {report.bytes:,} bytes read in {report.seconds:.2f} s", Severity.INFO
    errors = [finding for finding in report.findings if finding.severity is Severity.ERROR]
    why = "; ".join(f"{f.file}: {f.message}" if f.file else f.message for f in errors[:3])
    if report.verdict is Verdict.PARTIAL:
        return "verified", f"{what}: {why}", Severity.INFO
    return "damaged", f"{what}: {why}", Severity.WARNING
