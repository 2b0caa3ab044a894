"""The watched folders: what each one allows, whether it is still the one we know, and what we track in it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lastgood import naming, writers
from lastgood.catalog import Root
from lastgood.errors import CannotTell, NotACheckpoint
from lastgood.facts import Inventory
from lastgood.findings import Severity
from lastgood.inventory import take_inventory
from lastgood.latest import inodes_are_stable
from lastgood_worker import marking, settling

if TYPE_CHECKING:
    from lastgood.catalog import WorkerCatalog
    from lastgood.discovery import Candidate
    from lastgood.outline import Outline
    from lastgood.settings import Settings
    from lastgood_worker.ledger import Ledger


@dataclass(slots=True)
class Tracked:
    """What we hold in memory of one checkpoint folder besides its record. Times are monotonic."""

    record_id: int
    folder_mtime_ns: int
    watched: settling.Watched | None = None  #: while it is landing
    last: settling.Watched | None = None  #: as it was when it settled
    finished: bool = False  #: it settled on better evidence than quiet
    looked_at: float = float("-inf")
    written_at: float = float("-inf")
    shrinking_since: float | None = None
    outline: tuple[str, Outline] | None = None  #: the last one, and the fingerprint that it was made for


@dataclass(frozen=True, slots=True)
class Disk:
    """What the filesystem below a root allows."""

    device: int | None
    pace: settling.Pace
    idle_seconds: float
    probes_writers: bool
    inodes: bool


@dataclass(slots=True)
class RootView:
    """What we hold in memory of one root."""

    path: str
    name: str  #: what its runs' names begin with; "" where it is the only root
    known: Root | None
    disk: Disk
    temporary: set[int] = field(default_factory=set)  #: inodes of the folders under unfinished names, at the last look
    tracked: dict[str, Tracked] = field(default_factory=dict)  #: by path below the root
    scanned: bool = False  #: since we started

    @property
    def frozen(self) -> bool:
        return self.known is not None and self.known.frozen is not None

    def run_folder(self, run: str) -> str:
        return os.path.normpath(os.path.join(self.path, run))

    def run_name(self, run: str) -> str:
        return naming.run_name(self.name, run, several_roots=bool(self.name))

    def inventory(self, candidate: Candidate) -> Inventory:
        """The folder's files; nothing where it went away, or the disk does not answer just now."""
        try:
            return take_inventory(os.path.join(self.path, candidate.relative_path), inodes=self.disk.inodes)
        except (NotACheckpoint, CannotTell):
            return Inventory(())


def open_roots(settings: Settings, catalog: WorkerCatalog) -> list[RootView]:
    """The views of the watched folders as they are at start."""
    paths = list(dict.fromkeys(os.path.abspath(path) for path in settings.roots))
    names = naming.root_names(paths) if len(paths) > 1 else {}
    known = {root.path: root for root in catalog.roots()}
    return [RootView(path, names.get(path, ""), known.get(path), _disk_below(path, settings)) for path in paths]


def _disk_below(path: str, settings: Settings) -> Disk:
    filesystem = writers.filesystem_of(path)
    network = writers.is_network(filesystem)
    return Disk(
        device=_device_of(path),
        pace=settling.Pace(
            quiet=settings.quiet_network_seconds if network else settings.quiet_seconds,
            sure=settings.quiet_sure_seconds,
            timeout=settings.settle_timeout_seconds,
        ),
        idle_seconds=settings.scan_network_seconds if network else settings.scan_idle_seconds,
        probes_writers=writers.is_local(filesystem),
        inodes=inodes_are_stable(path),
    )


def _device_of(path: str) -> int | None:
    try:
        return os.stat(path).st_dev
    except OSError:
        return None


def is_ready(root: RootView, settings: Settings, ledger: Ledger) -> bool:
    """Whether the root is the one we know. Where it is not, nothing in it is marked, judged or concluded."""
    why = marking.why_frozen(root.known, root.path)
    if why != (root.known.frozen if root.known else None):
        root.known = replace(root.known or Root(root.path, "", 0, None), frozen=why)
        ledger.catalog.remember_root(root.known)
        if why:
            ledger.event("root-frozen", why, Severity.WARNING)
        else:
            ledger.event("root-back", f"{root.path} is back")
    if why is None and _device_of(root.path) != root.disk.device:  # it was mounted since we last looked
        root.disk = _disk_below(root.path, settings)
    return why is None


def make_known(root: RootView, ledger: Ledger) -> None:
    """Marks the root as ours, once there is something in it: a trainer may insist on an empty folder at its start."""
    if root.known is None or not root.known.marker or root.known.known_since is None:
        marked = marking.mark_root(root.known, root.path, ledger.clock.now())
        if marked != root.known:
            root.known = marked
            ledger.catalog.remember_root(marked)
