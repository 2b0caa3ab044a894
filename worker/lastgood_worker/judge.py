"""The child process that reads one checkpoint. A file that kills or hangs it takes nothing else along.

It is given a `lastgood_worker.judging.Job` and how to read it. It tells JSON objects: {"progress": {"bytes"}} now and
then, last {"report", "manifest"} or {"trouble"}.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from lastgood import durable
from lastgood.errors import LastgoodError
from lastgood.facts import FileDigest, Manifest
from lastgood.findings import SOUND
from lastgood.manifest import algorithm_of, manifest_as_json, read_manifest
from lastgood.report_json import report_as_json
from lastgood.verify import verify
from lastgood_worker.children import is_orphan, tell
from lastgood_worker.manners import Manners, bound_memory, read_pressures, take_a_low_priority

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection

_TELL_EVERY: Final = 0.2


def run(job: Mapping[str, Any], telling: Connection) -> None:
    """The whole life of the process."""
    if is_orphan():
        return
    take_a_low_priority()
    bound_memory()
    progress = _Progress(job["max_rate"], telling)
    manifest = own_manifest(job)
    try:
        report = verify(
            job["path"],
            previous=_manifest_at(job["previous"]),
            manifest=manifest,
            inodes=job["inodes"],
            digest=algorithm_of(manifest) or job["digest"],
            threads=job["threads"],
            on_bytes=progress.heard,
        )
    except LastgoodError as error:
        tell(telling, {"trouble": str(error)})
        return
    try:
        # What a crash of the machine could still take away must not be grounds for removing anything.
        if report.verdict in SOUND:
            durable.sync_tree(job["path"], lambda: progress.heard(0))
    except OSError as error:
        tell(telling, {"trouble": f"{job['path']} cannot be brought onto the disk: {error.strerror or error}"})
        return
    kept = report.manifest and manifest_as_json(report.manifest)
    tell(telling, {"report": report_as_json(report), "manifest": kept})


def own_manifest(job: Mapping[str, Any]) -> Manifest | None:
    """What was read of the same content before: from the catalog, or, where that was lost, from the run's folder."""
    if job["kept"]:
        return Manifest(job["name"], job["fingerprint"], tuple(FileDigest(*file) for file in job["kept"]))
    found = _manifest_at(job["manifest"])
    return found if found and found.fingerprint == job["fingerprint"] else None


def _manifest_at(path: str | None) -> Manifest | None:
    """None where it is missing or broken: verification does not need one."""
    try:
        return read_manifest(path) if path else None
    except LastgoodError:
        return None


class _Progress:
    def __init__(self, max_rate: int, telling: Connection) -> None:
        self._read, self._told_at, self._telling = 0, time.monotonic(), telling
        self._manners = Manners(
            max_rate, monotonic=time.monotonic, sleep=time.sleep, pressures=read_pressures, alive=self._tell
        )

    def heard(self, count: int) -> None:
        self._read += count
        self._tell()
        self._manners.heard(count)

    def _tell(self) -> None:
        if time.monotonic() - self._told_at >= _TELL_EVERY:
            self._told_at = time.monotonic()
            tell(self._telling, {"progress": {"bytes": self._read}})
