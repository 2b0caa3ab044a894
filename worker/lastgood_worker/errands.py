"""What there is to do in the cloud, and which of it comes first."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from lastgood import retention
from lastgood.cloud import CopyState, copy_of, plan_of_copies
from lastgood.cloud.committing import copy_as_json
from lastgood.cloud.words import capabilities_as_json
from lastgood.facts import FileDigest
from lastgood.findings import Severity
from lastgood.latest import inodes_are_stable
from lastgood.life import State
from lastgood_worker.keeping import path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lastgood.cloud import CloudCopy, CopiesPlan
    from lastgood.records import Record
    from lastgood.settings import Settings
    from lastgood_worker.copies import Copies
    from lastgood_worker.ledger import Ledger

_PROBE_EVERY: Final = timedelta(days=7)  # a store is updated, a bucket gets other rules
_LIST_EVERY: Final = timedelta(hours=1)
_SWEEP_EVERY: Final = timedelta(hours=6)
_RETIRED_AT_ONCE: Final = 5


@dataclass(frozen=True, slots=True)
class Errand:
    """One thing for the courier to do. `job`: what it is told, besides how the store is spoken to."""

    kind: str
    job: Mapping[str, Any] = field(default_factory=dict)
    record_id: int | None = None
    copy: CloudCopy | None = None
    total: int = 0  #: bytes, for the progress
    run: str | None = None


class Errands:
    """Makes errands out of what is known; each method says what is to be done next of its kind, if anything."""

    def __init__(self, settings: Settings, ledger: Ledger, copies: Copies) -> None:
        self._settings, self._ledger, self._copies = settings, ledger, copies
        self.listed = False  #: since we started
        self.probe_asked = False
        self.told_of_plans: dict[str, str] = {}
        self.confirmed: dict[str, str] = {}  #: by run, the plan that a person wants carried out

    def upkeep(self) -> Errand | None:
        """What has to be known before anything is sent."""
        place, now = self._copies.place, self._ledger.clock.now()
        if self.probe_asked or place.able is None or place.probed_at is None or now - place.probed_at > _PROBE_EVERY:
            return Errand("probe")
        if not self.listed or place.listed_at is None or now - place.listed_at > _LIST_EVERY:
            return Errand("list", {"known": [_as_json(row.copy) for row in self._copies.proven()]})
        return None

    def sending(self, may: Callable[[Record], bool], pushed: Iterable[int]) -> Errand | None:
        """The next checkpoint to copy: what a person asked for, then the newest of each run."""
        asked = [self._ledger[found] for found in pushed if found in self._ledger]
        missing = [r for r in asked if (row := self._copies.of(r)) is None or row.state is not CopyState.PROVEN]
        for record in (*missing, *(r for run in sorted(self._ledger.runs()) for r in self._copies.wanted(run))):
            if may(record):
                return self._send(record)
        return None

    def _send(self, record: Record) -> Errand | None:
        files = self._judged_files(record)
        copy = copy_of(record, files, self._copies.remote)
        row = self._copies.at(copy.key)
        if row is not None and row.state is CopyState.PROVEN:
            self._copies.write(row.copy, row.state, checkpoint_id=record.id)  # it came back from there
            return None
        job = {
            "folder": record.path,
            "inodes": inodes_are_stable(record.root),
            "fingerprint": record.fingerprint,
            "files": [(file.path, file.bytes, file.digest) for file in files],
            "manifest": path_of(record),
            "copy": _as_json(copy),
            "suspect": row is not None and row.suspect,
            **self._as_ourselves(),
        }
        return Errand("send", job, record.id, copy, copy.bytes, record.run)

    def _judged_files(self, record: Record) -> list[FileDigest]:
        digests = self._ledger.catalog.digests(record.id)
        content = self._ledger.catalog.settled_content(record.id)
        return [FileDigest(path, size, digests.get(path)) for path, size, _mtime_ns, _inode in sorted(content)]

    def _as_ourselves(self) -> dict[str, Any]:
        able = self._copies.place.able
        assert able is not None
        return {"able": capabilities_as_json(able), "owner": self._copies.place.owner}

    def fetching(self, record: Record, copy: CloudCopy) -> Errand:
        return self._coming_back("fetch", os.path.dirname(record.path), copy, record.id)

    def _coming_back(self, kind: str, run_folder: str, copy: CloudCopy, record_id: int | None = None) -> Errand:
        job = {"copy": _as_json(copy), "run_folder": run_folder, "threads": self._settings.verify_threads}
        return Errand(kind, job, record_id, copy, copy.bytes, copy.run)

    def drill(self, folders: Mapping[str, str]) -> Errand | None:
        """The copy that has not come back for longest. `folders`: by run, where it would."""
        now, every = self._ledger.clock.now(), timedelta(seconds=self._settings.drill_every)
        last = self._copies.place.drilled_at or self._copies.place.known_since
        candidates = [row for row in self._copies.proven() if row.copy.run in folders]
        if not every or not candidates or last is None or now - last < every:
            return None
        first = min(candidates, key=lambda row: (row.checked_at is not None, row.checked_at, row.id))
        return self._coming_back("drill", folders[first.copy.run], first.copy)

    def sweep(self) -> Errand | None:
        now, last = self._ledger.clock.now(), self._copies.place.swept_at
        runs = sorted({row.copy.run for row in self._copies.all()} & self._ledger.runs())
        if not runs or (last is not None and now - last < _SWEEP_EVERY):
            return None
        spared = [row.copy.key for row in self._copies.all() if self._is_to_be_sent(row.checkpoint_id, row.state)]
        job = {"runs": runs, "older_than": self._settings.upload_abandon_after, "spared": spared}
        return Errand("sweep", {**job, **self._as_ourselves()})

    def _is_to_be_sent(self, record_id: int | None, state: CopyState) -> bool:
        here = record_id is not None and record_id in self._ledger
        return here and state is CopyState.SENDING and self._ledger[record_id or 0].state is State.VERIFIED

    # --- retention ---

    def retiring(self, run: str) -> Errand | None:
        """The next copies of a run that its rules let go. Told once where a person has to confirm that first."""
        policy = retention.remote_policy_of(self._settings, run)
        if policy.is_empty:
            return None
        known = next((found for found in self._ledger.catalog.runs() if found.name == run), None)
        if known is None:
            return None
        now = self._ledger.clock.now()
        holds, carried_out = self._ledger.catalog.holds(now), known.remote_policy
        planned = plan_of_copies(self._copies.proven(run), policy, holds, now=now, carried_out=carried_out)
        if not planned.doomed or self._waits(run, planned):
            return None
        if carried_out != str(policy):
            self._ledger.catalog.remember_policy(run, str(policy), remote=True)
        job = {"run": run, "copies": [_as_json(copy) for copy in planned.doomed[:_RETIRED_AT_ONCE]]}
        return Errand("retire", {**job, **self._as_ourselves()}, run=run)

    def _waits(self, run: str, planned: CopiesPlan) -> bool:
        plan = planned.plan
        if planned.wait is None or self.confirmed.get(run) == plan.id:
            return False
        if self.told_of_plans.get(run) != plan.id:
            self.told_of_plans[run] = plan.id
            message = (
                f"the policy for copies of {run} is new, and would remove {len(plan.removals)} of "
                f"{len(plan.decisions)}: lastgood retention --run {shlex.quote(run)} --apply --confirm {plan.id}"
            )
            self._ledger.event("copies-wait", message, Severity.WARNING)
        return True


def _as_json(copy: CloudCopy) -> dict[str, Any]:
    return {**copy_as_json(copy), "key": copy.key}


def how_to_speak(copies: Copies) -> dict[str, Any]:
    """What the courier is told of the store."""
    return asdict(copies.remote)
