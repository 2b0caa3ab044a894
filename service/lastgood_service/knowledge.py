"""What the catalog says, held in memory, and read again only where it changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lastgood.life import IN_PLACE
from lastgood_service.copies import Copies
from lastgood_service.sharing import Shared

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lastgood.catalog import Catalog, Root, Run, WorkerStatus
    from lastgood.cloud import Remote
    from lastgood.records import Record

_MINUTE: Final = 60


@dataclass(frozen=True, slots=True)
class Known:
    """The catalog as of one version."""

    version: int
    edition: tuple[Any, ...]  #: equal in two of them: no answer can differ, as far as the catalog goes
    records: Mapping[str, tuple[Record, ...]]  #: by the run's name, of the watched roots alone
    runs: Mapping[str, Run]
    roots: tuple[Root, ...]
    worker: WorkerStatus | None
    seconds_left: Mapping[int, float]
    watched: tuple[str, ...]  #: the watched roots, in their order; none before a worker ran
    copies: Copies | None  #: None: no place for copies is set

    @property
    def is_bare(self) -> bool:
        """Nothing lies where a trainer saved it."""
        everything = (record for records in self.records.values() for record in records)
        return not any(record.state in IN_PLACE and not record.copy for record in everything)


class Knowledge:
    """Ask for `now()` as often as you like: while nobody writes to the catalog it costs one pragma."""

    def __init__(self, catalog: Catalog, remote: Remote | None = None) -> None:
        self._catalog, self._remote = catalog, remote
        self._known: Known | None = None
        self._revision = -1
        self._records: dict[int, Record] = {}
        self._runs: list[Run] = []
        self._roots: list[Root] = []
        self._copies: Copies | None = None
        self._reading = Shared(self._read, catalog.path)

    async def now(self) -> Known:
        """What the catalog says at this moment."""
        known = self._known
        for _ in range(2):  # a reading that had begun before we asked may have missed what made us ask
            # Memory-mapped, a few microseconds: cheaper here than the way to a thread and back.
            if known is not None and known.version == self._catalog.version():
                return known
            known = await self._reading.result()
        assert known is not None
        return known

    def _read(self) -> Known:
        version = self._catalog.version()  # first: what is written meanwhile must make us read again
        worker = self._catalog.worker()
        self._read_changes()
        seconds_left = estimate(worker.progress if worker else {})
        watched = tuple(worker.watch.get("roots", ())) if worker else ()
        edition = (self._revision, watched, *seconds_left.items())
        before = self._known
        runs = {run.name: run for run in self._runs if is_watched(run.root, watched)}
        unchanged = before is not None and before.edition[:2] == edition[:2]
        records = before.records if before and unchanged else group(self._records.values(), runs)
        roots = tuple(root for root in self._roots if is_watched(root.path, watched))
        self._known = Known(version, edition, records, runs, roots, worker, seconds_left, watched, self._copies)
        return self._known

    def _read_changes(self) -> None:
        revision = self._catalog.revision()
        if revision == self._revision:
            return
        self._runs, self._roots = self._catalog.runs(), self._catalog.roots()
        self._records.update((record.id, record) for record in self._catalog.records_since(self._revision))
        if self._remote is not None:
            self._copies = self._copies_in(self._remote)
        self._revision = revision

    def _copies_in(self, remote: Remote) -> Copies:
        """The ones that we have, as long as they are what the catalog says: they keep what was worked out of them."""
        place, uploads = self._catalog.place(remote.identity), self._catalog.uploads(remote.identity)
        if self._copies is not None and self._copies.says_the_same(place, uploads):
            return self._copies
        return Copies(remote, place, uploads)


def is_watched(root: str, watched: tuple[str, ...]) -> bool:
    """Whether the worker watches it today: the catalog also remembers the roots of other days."""
    return not watched or root in watched


def group(records: Iterable[Record], runs: Mapping[str, Run]) -> dict[str, tuple[Record, ...]]:
    """The records of each run, in the order in which they were seen. A run without any is not there."""
    grouped: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.id):
        if record.run in runs:
            grouped.setdefault(record.run, []).append(record)
    return {name: tuple(grouped[name]) for name in sorted(grouped)}


def estimate(progress: Mapping[str, Any]) -> dict[int, float]:
    """Seconds until the checkpoint that is read now is judged, by id."""
    left = seconds_left(progress)
    return {} if left is None else {progress["checkpoint_id"]: left}


def seconds_left(progress: Mapping[str, Any]) -> float | None:
    """Until the work is done; coarse, so that answers stay the same. None before anything of it is done."""
    rate = progress.get("bytes_per_second")
    if not rate:
        return None
    left = max(progress["bytes_total"] - progress["bytes_done"], 0) / rate
    coarse = 5 if left < _MINUTE else 30
    return float(-(-left // coarse) * coarse)
