"""One checkpoint at a time is read in a child process, forked from one that has loaded all it needs (decision 0009)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from lastgood import naming
from lastgood.errors import NotAManifest
from lastgood.facts import FileDigest, Level, Manifest, Report
from lastgood.findings import Code, Finding, Verdict
from lastgood.manifest import manifest_from_json
from lastgood.report_json import report_from_json
from lastgood_worker import children, judge
from lastgood_worker.children import Child

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from lastgood.records import Record
    from lastgood.settings import Settings

_TRIES: Final = 2


@dataclass(frozen=True, slots=True)
class Reading:
    """How checkpoints are read. `max_rate` in bytes per second; 0: no limit."""

    digest: str = naming.USUAL_DIGEST
    threads: int = 2
    max_rate: int = 0

    @classmethod
    def of(cls, settings: Settings) -> Reading:
        return cls(settings.digest, settings.verify_threads, settings.verify_max_rate)


@dataclass(frozen=True, slots=True)
class Job:
    """What to read, and what to hold it against. `total` in bytes, for the progress."""

    checkpoint_id: int
    run: str
    name: str
    path: str
    fingerprint: str
    total: int
    inodes: bool
    kept: tuple[FileDigest, ...] = ()  #: what was read before of the same content; none where nothing was
    manifest: str | None = None  #: where its own manifest lies, if it has one
    previous: str | None = None  #: where that of the checkpoint before it lies

    @classmethod
    def of(cls, record: Record, *, inodes: bool, **against: Any) -> Job:
        return cls(record.id, record.run, record.name, record.path, record.fingerprint, record.bytes, inodes, **against)

    def as_json(self) -> dict[str, Any]:
        """What the child is told."""
        return {
            "path": self.path,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "inodes": self.inodes,
            "kept": [(file.path, file.bytes, file.digest) for file in self.kept],
            "manifest": self.manifest,
            "previous": self.previous,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job: a report, or the trouble that kept the child from one (the checkpoint went away)."""

    job: Job
    report: Report | None
    trouble: str | None = None


class Judging:
    """Runs jobs one after the other; `wake` is set when one has ended."""

    def __init__(
        self,
        wake: threading.Event,
        monotonic: Callable[[], float],
        stall_seconds: float,
        reading: Reading = Reading(),
    ) -> None:
        self._wake, self._monotonic, self._stall, self._reading = wake, monotonic, stall_seconds, reading
        self._child: Child | None = None
        self._job: Job | None = None
        self._tries = 0
        self._started = 0.0
        children.get_ready()

    @property
    def job(self) -> Job | None:
        return self._job

    def start(self, job: Job) -> None:
        assert self._job is None
        self._job, self._tries = job, 0
        self._launch(job)

    def poll(self) -> Outcome | None:
        """The outcome of the running job, once. A child that died or stalled is replaced once, no more."""
        job, child = self._job, self._child
        if job is None or child is None:
            return None
        if child.stalled(self._stall):
            child.kill()
        if not child.ended:
            return None
        if child.message is None and self._tries < _TRIES:
            self._launch(job)
            return None
        self._job = self._child = None
        return _outcome(job, child.message)

    def cancel(self) -> None:
        """Drops the running job: what it reads is being rewritten, or went away."""
        if self._child is not None:
            self._child.kill()
        self._job = self._child = None

    def progress(self) -> dict[str, Any]:
        """What runs, how far it is, at which rate in bytes per second; empty when nothing does."""
        if self._job is None or self._child is None:
            return {}
        seconds, read = max(self._monotonic() - self._started, 0.001), self._child.progress.get("bytes", 0)
        return {
            "checkpoint_id": self._job.checkpoint_id,
            "run": self._job.run,
            "name": self._job.name,
            "bytes_done": read,
            "bytes_total": self._job.total,
            "bytes_per_second": round(read / seconds),
        }

    def stop(self) -> None:
        self.cancel()

    def _launch(self, job: Job) -> None:
        self._tries += 1
        self._started = self._monotonic()
        how = {**job.as_json(), **asdict(self._reading)}
        self._child = Child("judge", judge.run, self._wake, self._monotonic, how)


def _outcome(job: Job, message: Mapping[str, Any] | None) -> Outcome:
    if message is None:
        return Outcome(job, _unreadable(job))
    if "trouble" in message:
        return Outcome(job, None, str(message["trouble"]))
    report = report_from_json(message["report"])
    return Outcome(job, replace(report, manifest=_manifest(message.get("manifest"))))


def _manifest(data: object) -> Manifest | None:
    try:
        return manifest_from_json(data) if data else None
    except NotAManifest:  # a float that JSON cannot say, or the like: the verdict stands without it
        return None


def _unreadable(job: Job) -> Report:
    """The report on a checkpoint that nobody could read to its end."""
    finding = Finding(Code.CHECKER_DIED, None, f"the process that read it died or hung {_TRIES} times")
    return Report(
        path=job.path,
        name=job.name,
        layout=naming.UNKNOWN_LAYOUT,
        level=Level.FULL,
        verdict=Verdict.UNREADABLE,
        exact_resume=False,
        step=None,
        epoch=None,
        world_size=None,
        components={},
        findings=(finding,),
        files=(),
        bytes=job.total,
        seconds=0.0,
        fingerprint=job.fingerprint,
    )
