"""What is remembered: SQLite in WAL mode, through SQLAlchemy. The one place where worker and service meet.

The worker alone writes checkpoints, events and its own row; the service adds requests. Times are stored as seconds
since the epoch, states and verdicts by their names.
"""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from lastgood import writers
from lastgood.errors import CatalogError, Unknown
from lastgood.findings import Severity, Verdict
from lastgood.life import Happening, State, move
from lastgood.records import Component, Evidence, Presence, Record, finding_as_json, report_as_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lastgood.records import Report

SCHEMA_VERSION: Final = 1
_BUSY_SECONDS: Final = 10

_tables = sa.MetaData()

_revision = sa.Table(
    "revision",
    _tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("value", sa.Integer, nullable=False),
)
_this_revision: Final = sa.select(_revision.c.value).scalar_subquery()
_root = sa.Table(
    "root",
    _tables,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("marker", sa.Text, nullable=False),
    sa.Column("device", sa.Integer, nullable=False),
    sa.Column("frozen", sa.Text),
)
_run = sa.Table(
    "run",
    _tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("root", sa.Text, nullable=False),
    sa.Column("relative", sa.Text, nullable=False),
    sa.Column("first_seen_at", sa.Float, nullable=False),
    sa.UniqueConstraint("root", "relative"),
)
_checkpoint = sa.Table(
    "checkpoint",
    _tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.ForeignKey("run.id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("relative_path", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("copy", sa.Boolean, nullable=False),
    sa.Column("before_us", sa.Boolean, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("waiting_for", sa.Text),
    sa.Column("first_seen_at", sa.Float, nullable=False),
    sa.Column("saved_at", sa.Float, nullable=False),
    sa.Column("settled_at", sa.Float),
    sa.Column("verified_at", sa.Float),
    sa.Column("bytes", sa.Integer, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("content", sa.Text),
    sa.Column("branch", sa.Integer),
    sa.Column("landing_seq", sa.Integer),
    sa.Column("evidence", sa.Text),
    sa.Column("verdict", sa.Text),
    sa.Column("step_in_state", sa.Integer),
    sa.Column("epoch", sa.Float),
    sa.Column("world_size", sa.Integer),
    sa.Column("exact_resume", sa.Boolean, nullable=False, default=False),
    sa.Column("components", sa.Text, nullable=False, default="{}"),
    sa.Column("warnings", sa.Text, nullable=False, default="[]"),
    sa.Column("report", sa.Text),
    sa.Column("boot", sa.Text),
    # The revision that wrote the row last, so that a reader of 1,000 rows fetches only what is new to it.
    sa.Column("revision", sa.Integer, nullable=False, index=True, default=_this_revision, onupdate=_this_revision),
    sa.UniqueConstraint("run_id", "name", "generation"),
)
_file = sa.Table(
    "file",
    _tables,
    sa.Column("checkpoint_id", sa.ForeignKey("checkpoint.id"), primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("bytes", sa.Integer, nullable=False),
    sa.Column("digest", sa.Text),
)
_event = sa.Table(
    "event",
    _tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("run", sa.Text),
    sa.Column("checkpoint_id", sa.Integer),
    sa.Column("name", sa.Text),
    sa.Column("message", sa.Text, nullable=False),
    sqlite_autoincrement=True,  # a cursor must never be given twice
)
_request = sa.Table(
    "request",
    _tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("result", sa.Text),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("finished_at", sa.Float),
    sqlite_autoincrement=True,
)
_worker = sa.Table(
    "worker",
    _tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("heartbeat_at", sa.Float, nullable=False),
    sa.Column("first_scan_done", sa.Boolean, nullable=False),
    sa.Column("watch", sa.Text, nullable=False),
    sa.Column("progress", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Run:
    id: int
    name: str
    root: str
    relative: str
    first_seen_at: datetime

    @property
    def path(self) -> str:
        return os.path.normpath(os.path.join(self.root, self.relative))


@dataclass(frozen=True, slots=True)
class Root:
    """A watched folder as it was when first seen: marker and device tell whether it is still the same."""

    path: str
    marker: str
    device: int
    frozen: str | None  #: why nothing is concluded from it at the moment


@dataclass(frozen=True, slots=True)
class Event:
    """What happened; the id is the log's cursor."""

    id: int
    at: datetime
    kind: str
    severity: Severity
    run: str | None
    checkpoint_id: int | None
    name: str | None
    message: str


@dataclass(frozen=True, slots=True)
class Request:
    """Work that somebody asked of the worker. state: open, done or refused."""

    id: int
    kind: str
    run: str
    name: str
    state: str
    result: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    pid: int
    started_at: datetime
    heartbeat_at: datetime
    first_scan_done: bool
    watch: Mapping[str, Any]
    progress: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the worker saw of a checkpoint when it wrote the row."""

    fingerprint: str
    bytes: int
    saved_at: datetime
    active: bool
    waiting_for: str | None


class Catalog:
    """The open catalog. Safe to use from several threads."""

    def __init__(self, state_dir: str) -> None:
        """Opens `state_dir`/catalog.db, made where it is not there. CatalogError where that place will not do."""
        self.path = os.path.join(state_dir, "catalog.db")
        _prepare(state_dir)
        self._engine = sa.create_engine(f"sqlite:///{self.path}", poolclass=QueuePool, pool_size=4)
        sa.event.listen(self._engine, "connect", _on_connect)
        sa.event.listen(self._engine, "begin", _on_begin)
        try:
            with self._writing() as connection:
                _check_version(connection, self.path)
                _tables.create_all(connection)
                connection.execute(sa.text("INSERT OR IGNORE INTO revision VALUES (1, 0)"))
        except sa.exc.DatabaseError as error:
            raise CatalogError(f"{self.path} cannot be used: {error.orig}") from error
        self._watched = self._engine.raw_connection()

    def close(self) -> None:
        self._watched.close()
        self._engine.dispose()

    def version(self) -> int:
        """Changes whenever anybody wrote to the catalog (PRAGMA data_version)."""
        cursor = self._watched.cursor()
        try:
            return int(cursor.execute("PRAGMA data_version").fetchone()[0])
        finally:
            cursor.close()

    def revision(self) -> int:
        """Changes whenever a checkpoint or root did; heartbeats and events leave it alone."""
        with self._engine.connect() as connection:
            return int(connection.execute(sa.select(_revision.c.value)).scalar_one())

    def check_writable(self) -> None:
        """CatalogError where nothing can be written: the disk is full, or read-only."""
        try:
            with self._writing() as connection:
                connection.execute(sa.text(f"PRAGMA user_version = {SCHEMA_VERSION}"))
        except sa.exc.DatabaseError as error:
            raise CatalogError(f"{self.path} cannot be written: {error.orig}") from error

    # --- roots, runs ---

    def roots(self) -> list[Root]:
        with self._engine.connect() as connection:
            return [Root(*row) for row in connection.execute(sa.select(_root))]

    def remember_root(self, root: Root) -> None:
        with self._revising() as connection:
            connection.execute(_root.delete().where(_root.c.path == root.path))
            connection.execute(
                _root.insert().values(path=root.path, marker=root.marker, device=root.device, frozen=root.frozen)
            )

    def runs(self) -> list[Run]:
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(_run).order_by(_run.c.name)).all()
        return [Run(r.id, r.name, r.root, r.relative, _utc(r.first_seen_at)) for r in rows]

    def add_run(self, name: str, root: str, relative: str, now: datetime) -> int:
        """The run's id; its name follows which roots are watched today.

        Where a run of another day's root has the same name, that one is called by its path from now on.
        """
        with self._revising() as connection:
            here = sa.and_(_run.c.root == root, _run.c.relative == relative)
            found = connection.execute(sa.select(_run.c.id).where(here)).scalar()
            for other in connection.execute(sa.select(_run).where(_run.c.name == name, ~here)).all():
                _rename(connection, other.id, os.path.normpath(os.path.join(other.root, other.relative)))
            if found is not None:
                _rename(connection, int(found), name)
                return int(found)
            values = {"name": name, "root": root, "relative": relative, "first_seen_at": now.timestamp()}
            return _new_id(connection.execute(_run.insert().values(values)))

    # --- checkpoints: reading ---

    def records(self, run: str | None = None, *, gone: bool = True) -> list[Record]:
        """Every generation of every checkpoint, of one run or of all, in the order in which they were seen."""
        query = _records_query()
        if run is not None:
            query = query.where(_run.c.name == run)
        if not gone:
            query = query.where(_checkpoint.c.state != State.GONE.value)
        with self._engine.connect() as connection:
            return [_record(row) for row in connection.execute(query.order_by(_checkpoint.c.id))]

    def records_since(self, revision: int) -> list[Record]:
        """Records written after `revision`, those that are gone among them."""
        query = _records_query().where(_checkpoint.c.revision > revision).order_by(_checkpoint.c.id)
        with self._engine.connect() as connection:
            return [_record(row) for row in connection.execute(query)]

    def page(
        self,
        *,
        run: str | None = None,
        verdict: Verdict | None = None,
        state: State | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[Record]:
        """The newest records first, below id `before`; those that are gone only where their state is asked for."""
        query = _records_query()
        if run is not None:
            query = query.where(_run.c.name == run)
        if verdict is not None:
            query = query.where(_checkpoint.c.verdict == verdict.value)
        query = query.where(_checkpoint.c.state == state.value if state else _checkpoint.c.state != State.GONE.value)
        if before is not None:
            query = query.where(_checkpoint.c.id < before)
        with self._engine.connect() as connection:
            return [_record(row) for row in connection.execute(query.order_by(_checkpoint.c.id.desc()).limit(limit))]

    def record(self, checkpoint_id: int) -> tuple[Record, dict[str, Any] | None]:
        """One record with its report as JSON, None before it was judged. Unknown where there is no such id."""
        query = _records_query().where(_checkpoint.c.id == checkpoint_id)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
            if row is None:
                raise Unknown(f"there is no checkpoint with the id {checkpoint_id}")
            report = connection.execute(
                sa.select(_checkpoint.c.report).where(_checkpoint.c.id == checkpoint_id)
            ).scalar()
        return _record(row), json.loads(report) if report else None

    def settled_content(self, checkpoint_id: int) -> frozenset[tuple[str, int, int, int]]:
        """What the checkpoint's files were when it settled: (path, size, mtime_ns, inode)."""
        with self._engine.connect() as connection:
            text = connection.execute(
                sa.select(_checkpoint.c.content).where(_checkpoint.c.id == checkpoint_id)
            ).scalar()
        return frozenset((row[0], row[1], row[2], row[3]) for row in json.loads(text or "[]"))

    def digests(self, checkpoint_id: int) -> dict[str, str]:
        """By path, what was first read of each file since the checkpoint settled."""
        with self._engine.connect() as connection:
            return _digests(connection, checkpoint_id)

    def read_before_boot(self, boot: str, since: datetime) -> list[int]:
        """Ids of what was verified after `since` under another boot of this machine: its bytes may not have lasted."""
        query = sa.select(_checkpoint.c.id).where(
            _checkpoint.c.state == State.VERIFIED.value,
            _checkpoint.c.boot != boot,
            _checkpoint.c.verified_at >= since.timestamp(),
        )
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    # --- checkpoints: writing, by the worker alone ---

    def add_checkpoint(  # noqa: PLR0913 - a row's first columns
        self,
        run_id: int,
        *,
        name: str,
        relative_path: str,
        number: int,
        copy: bool,
        before_us: bool,
        branch: int | None,
        seen: Sighting,
        now: datetime,
    ) -> int:
        """A new generation, landing. Its id."""
        with self._revising() as connection:
            same = sa.and_(_checkpoint.c.run_id == run_id, _checkpoint.c.name == name)
            last = connection.execute(sa.select(sa.func.max(_checkpoint.c.generation)).where(same)).scalar()
            return _new_id(
                connection.execute(
                    _checkpoint.insert().values(
                        run_id=run_id,
                        name=name,
                        relative_path=relative_path,
                        number=number,
                        generation=(last or 0) + 1,
                        copy=copy,
                        before_us=before_us,
                        branch=branch,
                        state=State.LANDING.value,
                        first_seen_at=now.timestamp(),
                        **_sighting_columns(seen),
                    )
                )
            )

    def stirred(self, checkpoint_id: int, seen: Sighting) -> None:
        """Somebody wrote, or what it waits for changed: it is landing, again."""
        self._move(checkpoint_id, Happening.STIRRED, **_sighting_columns(seen))

    def settled(
        self,
        checkpoint_id: int,
        *,
        seen: Sighting,
        content: Iterable[tuple[str, int, int, int]],
        evidence: Evidence,
        now: datetime,
    ) -> None:
        """The save is finished."""
        with self._revising() as connection:
            sequence = connection.execute(sa.select(sa.func.max(_checkpoint.c.landing_seq))).scalar()
            connection.execute(_file.delete().where(_file.c.checkpoint_id == checkpoint_id))
            _move_row(
                connection,
                checkpoint_id,
                Happening.SETTLED,
                **_sighting_columns(seen),
                content=json.dumps(sorted(content)),
                evidence=evidence.value,
                landing_seq=(sequence or 0) + 1,
                settled_at=now.timestamp(),
            )

    def metadata_changed(self, checkpoint_id: int, seen: Sighting) -> None:
        """Only metadata moved (a hard link, a chmod): it keeps its verdict under the new fingerprint."""
        with self._revising() as connection:
            row = _checkpoint.c.id == checkpoint_id
            connection.execute(_checkpoint.update().where(row).values(**_sighting_columns(seen)))

    def judged(self, checkpoint_id: int, report: Report, *, boot: str, now: datetime) -> None:
        """Verification concluded."""
        with self._revising() as connection:
            _move_row(
                connection,
                checkpoint_id,
                Happening.JUDGED,
                **_report_columns(report),
                boot=boot,
                verified_at=now.timestamp(),
                active=False,
                waiting_for=None,
            )
            _keep_digests(connection, checkpoint_id, report)

    def recheck(self, checkpoint_id: int, reason: str) -> None:
        """It has to be read again before it counts."""
        self._move(checkpoint_id, Happening.RECHECK, waiting_for=reason)

    def waits(self, checkpoint_id: int, reason: str) -> None:
        """Why it is not judged yet."""
        with self._revising() as connection:
            row = _checkpoint.c.id == checkpoint_id
            connection.execute(_checkpoint.update().where(row).values(waiting_for=reason))

    def vanished(self, checkpoint_id: int) -> None:
        self._move(checkpoint_id, Happening.VANISHED, active=False, waiting_for=None)

    def rewritten(self, checkpoint_id: int) -> None:
        self._move(checkpoint_id, Happening.REWRITTEN, active=False, waiting_for=None)

    # --- events ---

    def log(
        self,
        kind: str,
        message: str,
        *,
        now: datetime,
        severity: Severity = Severity.INFO,
        run: str | None = None,
        checkpoint_id: int | None = None,
        name: str | None = None,
    ) -> None:
        with self._writing() as connection:
            connection.execute(
                _event.insert().values(
                    at=now.timestamp(),
                    kind=kind,
                    severity=severity.value,
                    run=run,
                    checkpoint_id=checkpoint_id,
                    name=name,
                    message=_text(message),
                )
            )

    def events(self, *, since: int = 0, limit: int = 100) -> list[Event]:
        """Events with an id above `since`, oldest first."""
        query = sa.select(_event).where(_event.c.id > since).order_by(_event.c.id).limit(limit)
        with self._engine.connect() as connection:
            return [_event_from(row) for row in connection.execute(query)]

    def last_events(self, limit: int) -> list[Event]:
        """The newest events, oldest first."""
        query = sa.select(_event).order_by(_event.c.id.desc()).limit(limit)
        with self._engine.connect() as connection:
            return [_event_from(row) for row in reversed(connection.execute(query).all())]

    # --- requests ---

    def add_request(self, kind: str, *, run: str, name: str, now: datetime) -> Request:
        with self._writing() as connection:
            values = {"kind": kind, "run": run, "name": name, "state": "open", "created_at": now.timestamp()}
            made = _new_id(connection.execute(_request.insert().values(values)))
        return self.request(made)

    def request(self, request_id: int) -> Request:
        """Unknown where there is no such id."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(_request).where(_request.c.id == request_id)).first()
        if row is None:
            raise Unknown(f"there is no request with the id {request_id}")
        return _request_from(row)

    def open_requests(self) -> list[Request]:
        query = sa.select(_request).where(_request.c.state == "open").order_by(_request.c.id)
        with self._engine.connect() as connection:
            return [_request_from(row) for row in connection.execute(query)]

    def close_request(self, request_id: int, *, done: bool, result: str, now: datetime) -> None:
        with self._writing() as connection:
            connection.execute(
                _request.update()
                .where(_request.c.id == request_id)
                .values(state="done" if done else "refused", result=result, finished_at=now.timestamp())
            )

    # --- the worker's own row ---

    def worker(self) -> WorkerStatus | None:
        """What the worker last said of itself; None where none ever ran."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(_worker)).first()
        if row is None:
            return None
        return WorkerStatus(
            pid=row.pid,
            started_at=_utc(row.started_at),
            heartbeat_at=_utc(row.heartbeat_at),
            first_scan_done=row.first_scan_done,
            watch=json.loads(row.watch),
            progress=json.loads(row.progress),
        )

    def heartbeat(self, status: WorkerStatus) -> None:
        values = {
            "id": 1,
            "pid": status.pid,
            "started_at": status.started_at.timestamp(),
            "heartbeat_at": status.heartbeat_at.timestamp(),
            "first_scan_done": status.first_scan_done,
            "watch": json.dumps(status.watch),
            "progress": json.dumps(status.progress),
        }
        with self._writing() as connection:
            connection.execute(_worker.delete())
            connection.execute(_worker.insert().values(values))

    # --- inside ---

    def _writing(self) -> AbstractContextManager[sa.Connection]:
        return self._engine.execution_options(writing=True).begin()

    @contextmanager
    def _revising(self) -> Iterator[sa.Connection]:
        """As `_writing`, for what answers depend on."""
        with self._writing() as connection:
            connection.execute(_revision.update().values(value=_revision.c.value + 1))
            yield connection

    def _move(self, checkpoint_id: int, happening: Happening, **columns: Any) -> None:
        with self._revising() as connection:
            _move_row(connection, checkpoint_id, happening, **columns)


def _rename(connection: sa.Connection, run_id: int, name: str) -> None:
    run = sa.and_(_run.c.id == run_id, _run.c.name != name)
    if connection.execute(_run.update().where(run).values(name=name)).rowcount:
        # Records carry the run's name: each of them counts as written.
        connection.execute(_checkpoint.update().where(_checkpoint.c.run_id == run_id).values(run_id=run_id))


def _move_row(connection: sa.Connection, checkpoint_id: int, happening: Happening, **columns: Any) -> None:
    row = _checkpoint.c.id == checkpoint_id
    state = State(connection.execute(sa.select(_checkpoint.c.state).where(row)).scalar_one())
    connection.execute(_checkpoint.update().where(row).values(state=move(state, happening).value, **columns))


def _digests(connection: sa.Connection, checkpoint_id: int) -> dict[str, str]:
    here = sa.and_(_file.c.checkpoint_id == checkpoint_id, _file.c.digest.is_not(None))
    return {row.path: row.digest for row in connection.execute(sa.select(_file).where(here))}


def _keep_digests(connection: sa.Connection, checkpoint_id: int, report: Report) -> None:
    """Those of the first reading stay until it settles anew: a later one that differs must not become the truth."""
    first = _digests(connection, checkpoint_id)
    connection.execute(_file.delete().where(_file.c.checkpoint_id == checkpoint_id))
    files = [
        {"checkpoint_id": checkpoint_id, "path": path, "bytes": f.bytes, "digest": first.get(path, f.digest)}
        for path, f in ((_text(file.path), file) for file in report.files)
    ]
    if files:
        connection.execute(_file.insert(), files)


def _prepare(state_dir: str) -> None:
    try:
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
    except OSError as error:
        raise CatalogError(
            f"the state folder {state_dir} cannot be made: {error.strerror}; choose another with LASTGOOD_STATE_DIR"
        ) from error
    if not os.access(state_dir, os.W_OK):
        raise CatalogError(
            f"the state folder {state_dir} cannot be written by uid {os.getuid()}; "
            "give it to that user, or choose another with LASTGOOD_STATE_DIR"
        )
    if writers.is_network(filesystem := writers.filesystem_of(state_dir)):
        raise CatalogError(
            f"the state folder {state_dir} lies on {filesystem}: SQLite loses data on network filesystems; "
            "choose a local disk with LASTGOOD_STATE_DIR"
        )


def _check_version(connection: sa.Connection, path: str) -> None:
    found = connection.execute(sa.text("PRAGMA user_version")).scalar_one()
    if found not in (0, SCHEMA_VERSION):
        raise CatalogError(
            f"{path} was written by another version of lastgood (schema {found}, this one is {SCHEMA_VERSION}); "
            "move it away, and all but the history is found again on disk"
        )
    connection.execute(sa.text(f"PRAGMA user_version = {SCHEMA_VERSION}"))


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by _on_begin alone
    for pragma in (
        f"busy_timeout = {_BUSY_SECONDS * 1000}",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection: sa.Connection) -> None:
    # A writer takes its lock at once: one that began by reading could not wait for another writer later.
    writing = connection.get_execution_options().get("writing")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _new_id(result: sa.CursorResult[Any]) -> int:
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])


_NOT_IN_RECORDS: Final = ("run_id", "content", "report", "boot", "revision")


def _records_query() -> sa.Select[Any]:
    columns = [column for column in _checkpoint.c if column.name not in _NOT_IN_RECORDS]
    return sa.select(*columns, _run.c.name.label("run"), _run.c.root.label("root")).join(_run)


def _record(row: Any) -> Record:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented name
    for name in ("first_seen_at", "saved_at", "settled_at", "verified_at"):
        values[name] = _utc(values[name]) if values[name] is not None else None
    values["state"] = State(values["state"])
    values["evidence"] = Evidence(values["evidence"]) if values["evidence"] else None
    values["verdict"] = Verdict(values["verdict"]) if values["verdict"] else None
    values["components"] = {Component(c): Presence(p) for c, p in json.loads(values["components"]).items()}
    values["warnings"] = tuple(json.loads(values["warnings"]))
    return Record(**values)


def _sighting_columns(seen: Sighting) -> dict[str, Any]:
    return {
        "fingerprint": seen.fingerprint,
        "bytes": seen.bytes,
        "saved_at": seen.saved_at.timestamp(),
        "active": seen.active,
        "waiting_for": _text(seen.waiting_for) if seen.waiting_for else None,
    }


def _report_columns(report: Report) -> dict[str, Any]:
    return {
        "verdict": report.verdict.value,
        "step_in_state": report.step,
        "epoch": report.epoch,
        "world_size": report.world_size,
        "exact_resume": report.exact_resume,
        "components": json.dumps({c.value: p.value for c, p in report.components.items()}),
        "warnings": json.dumps([finding_as_json(finding) for finding in report.warnings]),
        "report": json.dumps(report_as_json(report)),
        "fingerprint": report.fingerprint,
    }


def _event_from(row: Any) -> Event:
    return Event(
        row.id,
        _utc(row.at),
        row.kind,
        Severity(row.severity),
        row.run,
        row.checkpoint_id,
        row.name,
        row.message,
    )


def _request_from(row: Any) -> Request:
    finished = _utc(row.finished_at) if row.finished_at is not None else None
    return Request(row.id, row.kind, row.run, row.name, row.state, row.result, _utc(row.created_at), finished)


def _text(text: str) -> str:
    r"""A file's name may be any bytes; SQLite takes text alone: those that are none become `\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode()


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
