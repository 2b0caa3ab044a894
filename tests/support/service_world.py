"""A small world for the service: a real catalog, real folders, a worker that only says it lives, and a client."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from starlette.testclient import TestClient

from lastgood.catalog import Place, Root, Sighting, WorkerCatalog, WorkerStatus
from lastgood.cloud import CloudCopy, CopyState, Proof, Remote, Upload
from lastgood.facts import Component, FileDigest, Level, Presence, Report
from lastgood.findings import Code, Finding, Verdict, conclude
from lastgood.inventory import take_inventory
from lastgood.latest import inodes_are_stable
from lastgood.records import Evidence
from lastgood.settings import Settings, read_settings
from lastgood_service.app import create_app
from lastgood_service.clock import Clock
from lastgood_service.security import obtain_token

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
FILES = {"model.safetensors": b"weights", "optimizer.pt": b"optimizer", "trainer_state.json": b"{}"}
REMOTE = "s3://checkpoints/lab"
WHOLE = dict.fromkeys((Component.WEIGHTS, Component.OPTIMIZER, Component.SCHEDULER, Component.RNG), Presence.PRESENT)

# The smallest finding that forces each verdict.
_FORCED_BY = {
    Verdict.COMPLETE: None,
    Verdict.PARTIAL: Code.RNG_MISSING,
    Verdict.INCOMPLETE: Code.FILE_EMPTY,
    Verdict.CORRUPT: Code.ZIP_RECORD_CRC,
    Verdict.UNREADABLE: Code.FILE_UNREADABLE,
}


@dataclass
class Times:
    """A clock that is moved by hand."""

    at: float = 1000.0

    def monotonic(self) -> float:
        return self.at

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.at - 1000.0)

    def pass_seconds(self, seconds: float) -> None:
        self.at += seconds

    @property
    def clock(self) -> Clock:
        return Clock(self.monotonic, self.now)


@dataclass
class World:
    """Checkpoints appear in it as the worker would record them."""

    folder: Path
    settings: Settings = field(init=False)
    times: Times = field(default_factory=Times)
    real_clock: bool = False

    def __post_init__(self) -> None:
        self.settings = read_settings({"LASTGOOD_STATE_DIR": str(self.folder / "state")})
        self.catalog = WorkerCatalog(self.settings.state_dir)
        self.root = str(self.folder / "output")
        os.makedirs(self.root)
        self.catalog.remember_root(Root(self.root, "marker", 1, None))

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) if self.real_clock else self.times.now()

    # --- the worker ---

    def beat(self, **changes: Any) -> None:
        """The worker says that it lives."""
        values: dict[str, Any] = {
            "pid": 4242,
            "started_at": NOON,
            "heartbeat_at": self.now,
            "first_scan_done": True,
            "watch": {"mode": "events", "degraded": False, "reason": None, "roots": [self.root]},
            "progress": {},
        }
        self.catalog.heartbeat(WorkerStatus(**(values | changes)))

    def freeze(self, why: str, root: str | None = None) -> None:
        self.catalog.remember_root(Root(root or self.root, "marker", 1, why))

    # --- checkpoints ---

    def land(
        self, step: int, *, run: str = "llama", root: str | None = None, active: bool = True, branch: int = 1
    ) -> int:
        """A checkpoint that is being written. Its id."""
        root = root or self.root
        relative = f"{run}/checkpoint-{step}"
        folder = os.path.join(root, relative)
        os.makedirs(folder, exist_ok=True)
        for name, content in FILES.items():
            with open(os.path.join(folder, name), "wb") as file:
                file.write(content)
        run_id = self.catalog.add_run(run, root, run, self.now)
        return self.catalog.add_checkpoint(
            run_id,
            name=f"checkpoint-{step}",
            relative_path=relative,
            number=step,
            copy=False,
            before_us=False,
            branch=branch,
            seen=self._seen(folder, root, active=active, waiting_for="its files still change"),
            now=self.now,
        )

    def settle(self, checkpoint_id: int, *, evidence: Evidence = Evidence.MARKER) -> None:
        record, _ = self.catalog.record(checkpoint_id)
        seen = self._seen(record.path, record.root, active=False, waiting_for="it waits to be read")
        self.catalog.settled(checkpoint_id, seen=seen, content=[], evidence=evidence, now=self.now)

    def judge(self, checkpoint_id: int, verdict: Verdict = Verdict.COMPLETE, *findings: Finding) -> None:
        record, _ = self.catalog.record(checkpoint_id)
        self.catalog.judged(
            checkpoint_id,
            self._report(record.path, record.root, verdict, findings),
            boot="boot",
            now=self.now,
        )

    def save(
        self,
        step: int,
        verdict: Verdict = Verdict.COMPLETE,
        *findings: Finding,
        run: str = "llama",
        root: str | None = None,
        evidence: Evidence = Evidence.MARKER,
        branch: int = 1,
    ) -> int:
        """A checkpoint that landed, settled and was judged. Its id."""
        made = self.land(step, run=run, root=root, branch=branch)
        self.settle(made, evidence=evidence)
        self.judge(made, verdict, *findings)
        return made

    def log(self, message: str) -> None:
        self.catalog.log("landing", message, now=self.now, run="llama", name="checkpoint-1")

    def path(self, step: int, file: str = "", run: str = "llama") -> str:
        return os.path.join(self.root, run, f"checkpoint-{step}", file)

    def _seen(self, folder: str, root: str, *, active: bool, waiting_for: str) -> Sighting:
        inventory = take_inventory(folder, inodes=inodes_are_stable(root))
        return Sighting(inventory.fingerprint, inventory.bytes, self.now, active, waiting_for)

    def _report(self, path: str, root: str, verdict: Verdict, findings: tuple[Finding, ...]) -> Report:
        inventory = take_inventory(path, inodes=inodes_are_stable(root))
        if (code := _FORCED_BY[verdict]) is not None:
            findings = (*findings, Finding(code, "model.safetensors", "as the test wants it"))
        assert conclude(findings) is verdict
        step = int(path.rpartition("-")[2])
        components = {**WHOLE, Component.RNG: Presence.MISSING} if verdict is Verdict.PARTIAL else WHOLE
        return Report(
            path=path,
            name=os.path.basename(path),
            layout="hf-trainer",
            level=Level.FULL,
            verdict=verdict,
            exact_resume=verdict is Verdict.COMPLETE,
            step=step,
            epoch=1.5,
            world_size=1,
            components=components,
            findings=findings,
            files=tuple(FileDigest(e.path, e.size, "crc64nvme:0011223344556677") for e in inventory.entries),
            bytes=inventory.bytes,
            seconds=0.01,
            fingerprint=inventory.fingerprint,
        )

    # --- retention ---

    def known_since(self, since: datetime) -> None:
        """The worker first saw something in the root at that time."""
        self.catalog.remember_root(Root(self.root, "marker", 1, None, since))

    def discard(self, checkpoint_id: int, *, hours: float = 24) -> datetime:
        """It lies in the trash, as far as the catalog goes. Until when."""
        until = self.now + timedelta(hours=hours)
        assert self.catalog.choose(checkpoint_id, trash="in the trash", until=until, now=self.now)
        self.catalog.discarded(checkpoint_id)
        return until

    # --- copies in the cloud: `client(remote=REMOTE)` shows them ---

    @property
    def remote(self) -> Remote:
        found = Remote.of(self.settings.model_copy(update={"remote": REMOTE}))
        assert found is not None
        return found

    def listed(self, **changes: Any) -> None:
        """The worker has looked for all copies there are."""
        now = self.now
        place = Place(identity=self.remote.identity, owner="us", known_since=now, listed_at=now)
        self.catalog.write_place(replace(place, **changes))

    def copy(
        self,
        step: int,
        *,
        run: str = "llama",
        state: CopyState = CopyState.PROVEN,
        of: int | None = None,
        error: str | None = None,
        **changes: Any,
    ) -> Upload:
        """A copy, saved so many seconds after noon. `of`: the id of the checkpoint. `changes`: of what it says."""
        name, digest = f"checkpoint-{step}", f"{step:064x}"
        proven = state is CopyState.PROVEN
        said = CloudCopy(
            run=run,
            name=name,
            step=step,
            digest=digest,
            key=self.remote.copy_key(run, name, digest),
            bytes=1000,
            files=3,
            verdict=Verdict.COMPLETE,
            exact_resume=True,
            saved_at=NOON + timedelta(seconds=step),
            components=WHOLE,
            proof=Proof.FULL_OBJECT if proven else None,
            committed_at=self.now if proven else None,
        )
        made = Upload(0, replace(said, **changes), state, of, error)
        return replace(made, id=self.catalog.write_upload(self.remote.identity, made))

    # --- asking ---

    def client(self, **settings: Any) -> TestClient:
        """A client of a fresh application with these settings, calling it localhost."""
        chosen = self.settings.model_copy(update=settings)
        app = create_app(chosen, self.catalog, None if self.real_clock else self.times.clock)
        return TestClient(app, base_url="http://localhost:8484", raise_server_exceptions=False)

    @property
    def token(self) -> str:
        return obtain_token(self.settings.token_path)

    @property
    def authorized(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def errand(kind: str, checkpoint_id: int | None = None, **changes: Any) -> dict[str, Any]:
    """What a worker says of the cloud while it is out for this, for `beat(cloud=...)`."""
    told = {
        "kind": kind,
        "run": "llama",
        "name": "checkpoint-100",
        "checkpoint_id": checkpoint_id,
        "bytes_done": 40,
        "bytes_total": 100,
        "bytes_per_second": 3,
    }
    return {"url": REMOTE, "trouble": None, "errand": told | changes}


def problem(response: Any) -> dict[str, Any]:
    """The problem that the answer is; fails where it is none, or not a well-formed one."""
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert found["status"] == response.status_code
    assert found["type"] == f"urn:lastgood:problem:{found['code']}"
    assert found["title"]
    assert found["detail"]
    return found
