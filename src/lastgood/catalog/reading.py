"""What both sides may do: read, and ask the worker for work."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import sqlalchemy as sa

from lastgood.catalog import rows, tables
from lastgood.catalog.store import Store
from lastgood.errors import CatalogError, Conflict, Unknown
from lastgood.life import IN_PLACE, State
from lastgood.records import Hold

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from lastgood.cloud import Upload
    from lastgood.findings import Verdict
    from lastgood.records import Record


class Catalog(Store):
    """The catalog as the service holds it."""

    def roots(self) -> list[rows.Root]:
        with self._reading() as connection:
            return [rows.root_from(row) for row in connection.execute(sa.select(tables.root))]

    def runs(self) -> list[rows.Run]:
        with self._reading() as connection:
            found = connection.execute(sa.select(tables.run).order_by(tables.run.c.name)).all()
        return [
            rows.Run(r.id, r.name, r.root, r.relative, rows.as_utc(r.first_seen_at), r.policy, r.remote_policy)
            for r in found
        ]

    def records(self, run: str | None = None, *, gone: bool = True) -> list[Record]:
        """Every generation of every checkpoint, of one run or of all, in the order in which they were seen."""
        query = rows.records_query()
        if run is not None:
            query = query.where(tables.run.c.name == run)
        if not gone:
            query = query.where(tables.checkpoint.c.state != State.GONE.value)
        with self._reading() as connection:
            return [rows.record_from(row) for row in connection.execute(query.order_by(tables.checkpoint.c.id))]

    def records_since(self, revision: int) -> list[Record]:
        """Records written after `revision`, those that are gone among them."""
        query = rows.records_query().where(tables.checkpoint.c.revision > revision).order_by(tables.checkpoint.c.id)
        with self._reading() as connection:
            return [rows.record_from(row) for row in connection.execute(query)]

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
        query = rows.records_query()
        if run is not None:
            query = query.where(tables.run.c.name == run)
        if verdict is not None:
            query = query.where(tables.checkpoint.c.verdict == verdict.value)
        here = tables.checkpoint.c.state
        query = query.where(here == state.value if state else here != State.GONE.value)
        if before is not None:
            query = query.where(tables.checkpoint.c.id < before)
        query = query.order_by(tables.checkpoint.c.id.desc()).limit(limit)
        with self._reading() as connection:
            return [rows.record_from(row) for row in connection.execute(query)]

    def record(self, checkpoint_id: int) -> tuple[Record, dict[str, Any] | None]:
        """One record with its report as JSON, None before it was judged. Unknown where there is no such id."""
        query = rows.records_query().where(tables.checkpoint.c.id == checkpoint_id)
        with self._reading() as connection:
            row = connection.execute(query).first()
            if row is None:
                raise Unknown(f"there is no checkpoint with the id {checkpoint_id}")
            report = connection.execute(
                sa.select(tables.checkpoint.c.report).where(tables.checkpoint.c.id == checkpoint_id)
            ).scalar()
        return rows.record_from(row), json.loads(report) if report else None

    def settled_content(self, checkpoint_id: int) -> frozenset[tuple[str, int, int, int]]:
        """What the checkpoint's files were when it settled: (path, size, mtime_ns, inode)."""
        with self._reading() as connection:
            text = connection.execute(
                sa.select(tables.checkpoint.c.content).where(tables.checkpoint.c.id == checkpoint_id)
            ).scalar()
        return frozenset((row[0], row[1], row[2], row[3]) for row in json.loads(text or "[]"))

    def digests(self, checkpoint_id: int) -> dict[str, str]:
        """By path, what was first read of each file since the checkpoint settled."""
        with self._reading() as connection:
            return digests_of(connection, checkpoint_id)

    def read_before_boot(self, boot: str, since: datetime) -> list[int]:
        """Ids of what was verified after `since` under another boot of this machine: its bytes may not have lasted."""
        query = sa.select(tables.checkpoint.c.id).where(
            tables.checkpoint.c.state == State.VERIFIED.value,
            tables.checkpoint.c.boot != boot,
            tables.checkpoint.c.verified_at >= since.timestamp(),
        )
        with self._reading() as connection:
            return list(connection.execute(query).scalars())

    def events(self, *, since: int = 0, limit: int = 100) -> list[rows.Event]:
        """Events with an id above `since`, oldest first."""
        query = sa.select(tables.event).where(tables.event.c.id > since).order_by(tables.event.c.id).limit(limit)
        with self._reading() as connection:
            return [rows.event_from(row) for row in connection.execute(query)]

    def last_events(self, limit: int) -> list[rows.Event]:
        """The newest events, oldest first."""
        query = sa.select(tables.event).order_by(tables.event.c.id.desc()).limit(limit)
        with self._reading() as connection:
            return [rows.event_from(row) for row in reversed(connection.execute(query).all())]

    def add_request(
        self,
        kind: str,
        *,
        run: str,
        name: str,
        now: datetime,
        checkpoint_id: int | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> rows.Request:
        """Work for the worker. `arguments`: what JSON can hold."""
        with self._writing() as connection:
            values = {
                "kind": kind,
                "run": run,
                "name": name,
                "checkpoint_id": checkpoint_id,
                "arguments": json.dumps(dict(arguments or {})),
                "state": "open",
                "created_at": now.timestamp(),
            }
            made = new_id(connection.execute(tables.request.insert().values(values)))
        return self.request(made)

    def request(self, request_id: int) -> rows.Request:
        """Unknown where there is no such id."""
        with self._reading() as connection:
            row = connection.execute(sa.select(tables.request).where(tables.request.c.id == request_id)).first()
        if row is None:
            raise Unknown(f"there is no request with the id {request_id}")
        return rows.request_from(row)

    def open_requests(self) -> list[rows.Request]:
        query = sa.select(tables.request).where(tables.request.c.state == "open").order_by(tables.request.c.id)
        with self._reading() as connection:
            return [rows.request_from(row) for row in connection.execute(query)]

    # --- copies in the cloud ---

    def uploads(self, identity: str) -> list[Upload]:
        """The copies in one store, as `Remote.identity` tells it, in the order in which we came to know of them."""
        query = sa.select(tables.upload).where(tables.upload.c.store == identity).order_by(tables.upload.c.id)
        with self._reading() as connection:
            return [rows.upload_from(row) for row in connection.execute(query)]

    def place(self, identity: str) -> rows.Place | None:
        """What is known of a store; None where nothing was ever sent there."""
        query = sa.select(tables.store).where(tables.store.c.identity == identity)
        with self._reading() as connection:
            row = connection.execute(query).first()
        return rows.place_from(row) if row is not None else None

    # --- leases and pins ---

    def holds(self, now: datetime) -> dict[int, list[Hold]]:
        """Those in force, by the id of the checkpoint."""
        in_force = sa.or_(tables.hold.c.until.is_(None), tables.hold.c.until > now.timestamp())
        found: dict[int, list[Hold]] = {}
        with self._reading() as connection:
            for row in connection.execute(sa.select(tables.hold).where(in_force).order_by(tables.hold.c.id)):
                found.setdefault(row.checkpoint_id, []).append(rows.hold_from(row))
        return found

    def take_lease(self, checkpoint_id: int, *, holder: str, until: datetime, now: datetime) -> Hold:
        """From now on the checkpoint stays until then. Conflict where it is on its way out already."""
        return self._take(checkpoint_id, holder, until, now)

    def pin(self, checkpoint_id: int, *, holder: str, now: datetime) -> Hold:
        """From now on it stays, until somebody unpins it. Once is enough: a second pin is the first one."""
        pins = [hold for hold in self.holds(now).get(checkpoint_id, ()) if hold.pin]
        return pins[0] if pins else self._take(checkpoint_id, holder, None, now)

    def unpin(self, checkpoint_id: int) -> None:
        """Nothing happens where it was not pinned. Unknown where there is no such checkpoint."""
        self.record(checkpoint_id)
        pins = sa.and_(tables.hold.c.checkpoint_id == checkpoint_id, tables.hold.c.until.is_(None))
        with self._writing() as connection:
            connection.execute(tables.hold.delete().where(pins))

    def renew_lease(self, lease_id: int, *, until: datetime, now: datetime) -> Hold:
        """Unknown where there is no such lease, or it has ended: what it held may be gone."""
        mine = sa.and_(tables.hold.c.id == lease_id, tables.hold.c.until > now.timestamp())
        with self._writing() as connection:
            if not connection.execute(tables.hold.update().where(mine).values(until=until.timestamp())).rowcount:
                raise Unknown(f"there is no lease with the id {lease_id}, or it has ended")
            return rows.hold_from(connection.execute(sa.select(tables.hold).where(tables.hold.c.id == lease_id)).one())

    def end_lease(self, lease_id: int) -> None:
        """Unknown where there is no such lease."""
        mine = sa.and_(tables.hold.c.id == lease_id, tables.hold.c.until.is_not(None))
        with self._writing() as connection:
            if not connection.execute(tables.hold.delete().where(mine)).rowcount:
                raise Unknown(f"there is no lease with the id {lease_id}")

    def _take(self, checkpoint_id: int, holder: str, until: datetime | None, now: datetime) -> Hold:
        columns = {"checkpoint_id": checkpoint_id, "holder": rows.as_text(holder), "created_at": now.timestamp()}
        row = sa.select(tables.checkpoint.c.state).where(tables.checkpoint.c.id == checkpoint_id)
        with self._writing() as connection:  # holds the write lock: whoever enters `removing` sees it, or was first
            state = connection.execute(row).scalar()
            if state is None:
                raise Unknown(f"there is no checkpoint with the id {checkpoint_id}")
            if State(state) not in IN_PLACE:
                raise Conflict(f"the checkpoint is {state}: it cannot be held any more")
            ends = until.timestamp() if until else None
            made = new_id(connection.execute(tables.hold.insert().values(**columns, until=ends)))
        return Hold(made, checkpoint_id, holder, until)

    def worker(self) -> rows.WorkerStatus | None:
        """What the worker last said of itself; None where none ever ran."""
        with self._reading() as connection:
            row = connection.execute(sa.select(tables.worker)).first()
        return rows.worker_from(row) if row is not None else None


def worker_in(state_dir: str) -> rows.WorkerStatus | None:
    """What the worker last said of itself; nothing is made or written. CatalogError where it cannot be read."""
    path = os.path.abspath(os.path.join(state_dir, "catalog.db"))
    if not os.path.exists(path):
        return None
    engine = sa.create_engine(f"sqlite:///file:{quote(path)}?mode=rw&uri=true", poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            row = connection.execute(sa.select(tables.worker)).first()
    except sa.exc.DatabaseError as error:
        raise CatalogError(f"{path} cannot be read: {error.orig}") from error
    return rows.worker_from(row) if row is not None else None


def digests_of(connection: sa.Connection, checkpoint_id: int) -> dict[str, str]:
    here = sa.and_(tables.file.c.checkpoint_id == checkpoint_id, tables.file.c.digest.is_not(None))
    return {row.path: row.digest for row in connection.execute(sa.select(tables.file).where(here))}


def new_id(result: sa.CursorResult[Any]) -> int:
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])
