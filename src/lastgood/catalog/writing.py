"""What the worker alone may do: write checkpoints, events and its own row."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from lastgood.catalog import rows, tables
from lastgood.catalog.reading import Catalog, digests_of, new_id
from lastgood.findings import Severity
from lastgood.life import Happening, State, move

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from lastgood.cloud import Upload
    from lastgood.facts import Report
    from lastgood.records import Evidence


class WorkerCatalog(Catalog):
    """The catalog as its only writer holds it."""

    def remember_root(self, root: rows.Root) -> None:
        with self._revising() as connection:
            connection.execute(tables.root.delete().where(tables.root.c.path == root.path))
            connection.execute(
                tables.root.insert().values(
                    path=root.path,
                    marker=root.marker,
                    device=root.device,
                    frozen=root.frozen,
                    known_since=root.known_since.timestamp() if root.known_since else None,
                )
            )

    def add_run(self, name: str, root: str, relative: str, now: datetime) -> int:
        """The run's id; its name follows which roots are watched today.

        Where a run of another day's root has the same name, that one is called by its path from now on.
        """
        with self._revising() as connection:
            here = sa.and_(tables.run.c.root == root, tables.run.c.relative == relative)
            found = connection.execute(sa.select(tables.run.c.id).where(here)).scalar()
            for other in connection.execute(sa.select(tables.run).where(tables.run.c.name == name, ~here)).all():
                _rename(connection, other.id, os.path.normpath(os.path.join(other.root, other.relative)))
            if found is not None:
                _rename(connection, int(found), name)
                return int(found)
            values = {"name": name, "root": root, "relative": relative, "first_seen_at": now.timestamp()}
            return new_id(connection.execute(tables.run.insert().values(values)))

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
        seen: rows.Sighting,
        now: datetime,
    ) -> int:
        """A new generation, landing. Its id."""
        with self._revising() as connection:
            same = sa.and_(tables.checkpoint.c.run_id == run_id, tables.checkpoint.c.name == name)
            last = connection.execute(sa.select(sa.func.max(tables.checkpoint.c.generation)).where(same)).scalar()
            return new_id(
                connection.execute(
                    tables.checkpoint.insert().values(
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
                        **rows.sighting_columns(seen),
                    )
                )
            )

    def stirred(self, checkpoint_id: int, seen: rows.Sighting) -> None:
        """Somebody wrote, or what it waits for changed: it is landing, again."""
        self._move(checkpoint_id, Happening.STIRRED, **rows.sighting_columns(seen))

    def settled(
        self,
        checkpoint_id: int,
        *,
        seen: rows.Sighting,
        content: Iterable[tuple[str, int, int, int]],
        evidence: Evidence,
        now: datetime,
        unfinished: str | None = None,
    ) -> None:
        """The save is finished, or was given up: why, tells `unfinished`."""
        with self._revising() as connection:
            sequence = connection.execute(sa.select(sa.func.max(tables.checkpoint.c.landing_seq))).scalar()
            connection.execute(tables.file.delete().where(tables.file.c.checkpoint_id == checkpoint_id))
            _move_row(
                connection,
                checkpoint_id,
                Happening.SETTLED,
                **rows.sighting_columns(seen),
                content=json.dumps(sorted(content)),
                evidence=evidence.value,
                unfinished=rows.as_text(unfinished) if unfinished else None,
                landing_seq=(sequence or 0) + 1,
                settled_at=now.timestamp(),
            )

    def put_in_line(self, checkpoint_id: int, branch: int) -> None:
        """It is no new save: this is the line that it belongs to."""
        with self._revising() as connection:
            row = tables.checkpoint.c.id == checkpoint_id
            connection.execute(tables.checkpoint.update().where(row).values(branch=branch, before_us=True))

    def metadata_changed(self, checkpoint_id: int, seen: rows.Sighting) -> None:
        """Only metadata moved (a hard link, a chmod): it keeps its verdict under the new fingerprint."""
        with self._revising() as connection:
            row = tables.checkpoint.c.id == checkpoint_id
            connection.execute(tables.checkpoint.update().where(row).values(**rows.sighting_columns(seen)))

    def judged(self, checkpoint_id: int, report: Report, *, boot: str, now: datetime) -> None:
        """Verification concluded."""
        with self._revising() as connection:
            _move_row(
                connection,
                checkpoint_id,
                Happening.JUDGED,
                **rows.report_columns(report),
                boot=boot,
                verified_at=now.timestamp(),
                active=False,
                waiting_for=None,
            )
            _keep_digests(connection, checkpoint_id, report)

    def recheck(self, checkpoint_id: int, reason: str) -> None:
        """It has to be read again before it counts."""
        self._move(checkpoint_id, Happening.RECHECK, waiting_for=reason)

    def vanished(self, checkpoint_id: int) -> None:
        self._move(checkpoint_id, Happening.VANISHED, active=False, waiting_for=None)

    def rewritten(self, checkpoint_id: int) -> None:
        self._move(checkpoint_id, Happening.REWRITTEN, active=False, waiting_for=None)

    # --- retention ---

    def choose(self, checkpoint_id: int, *, trash: str, until: datetime, now: datetime) -> bool:
        """It is to go to the trash, under this name. False where somebody holds it."""
        held = sa.and_(
            tables.hold.c.checkpoint_id == checkpoint_id,
            sa.or_(tables.hold.c.until.is_(None), tables.hold.c.until > now.timestamp()),
        )
        with self._revising() as connection:
            if connection.execute(sa.select(tables.hold.c.id).where(held)).first():
                return False
            _move_row(connection, checkpoint_id, Happening.CHOSEN, trash=trash, until=until.timestamp())
        return True

    def spared(self, checkpoint_id: int) -> None:
        """It was to go to the trash, and is still in its place."""
        self._move(checkpoint_id, Happening.SPARED, trash=None, until=None)

    def discarded(self, checkpoint_id: int) -> None:
        """It lies in the trash."""
        self._move(checkpoint_id, Happening.DISCARDED)

    def undone(self, checkpoint_id: int) -> None:
        """It is in its place again."""
        self._move(checkpoint_id, Happening.UNDONE, trash=None, until=None)

    def purged(self, checkpoint_id: int) -> None:
        """It cannot be had back from the trash any more."""
        self._move(checkpoint_id, Happening.PURGED)

    def count_failures(self, checkpoint_id: int, failures: int) -> None:
        """So often in a row a job could not start from it."""
        with self._revising() as connection:
            row = tables.checkpoint.c.id == checkpoint_id
            connection.execute(tables.checkpoint.update().where(row).values(failures=failures))

    def remember_policy(self, run: str, policy: str, *, remote: bool = False) -> None:
        """It was carried out; `remote`: on the run's copies in the cloud."""
        columns = {"remote_policy" if remote else "policy": policy}
        with self._revising() as connection:
            connection.execute(tables.run.update().where(tables.run.c.name == run).values(columns))

    def forget_leases(self, before: datetime) -> None:
        """Those that ended before then."""
        with self._writing() as connection:
            connection.execute(tables.hold.delete().where(tables.hold.c.until < before.timestamp()))

    # --- copies in the cloud ---

    def write_upload(self, identity: str, upload: Upload) -> int:
        """The row of a copy in a store, made where there is none. Its id."""
        columns = rows.upload_columns(upload)
        same = sa.and_(tables.upload.c.store == identity, tables.upload.c.key == upload.copy.key)
        with self._revising() as connection:
            found = connection.execute(sa.select(tables.upload.c.id).where(same)).scalar()
            if found is None:
                return new_id(connection.execute(tables.upload.insert().values(store=identity, **columns)))
            connection.execute(tables.upload.update().where(tables.upload.c.id == found).values(columns))
            return int(found)

    def write_place(self, place: rows.Place) -> None:
        columns = rows.place_columns(place)
        with self._revising() as connection:
            connection.execute(tables.store.delete().where(tables.store.c.identity == place.identity))
            connection.execute(tables.store.insert().values(columns))

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
                tables.event.insert().values(
                    at=now.timestamp(),
                    kind=kind,
                    severity=severity.value,
                    run=run,
                    checkpoint_id=checkpoint_id,
                    name=name,
                    message=rows.as_text(message),
                )
            )

    def close_request(self, request_id: int, *, done: bool, result: str, now: datetime) -> None:
        with self._writing() as connection:
            connection.execute(
                tables.request.update()
                .where(tables.request.c.id == request_id)
                .values(state="done" if done else "refused", result=result, finished_at=now.timestamp())
            )

    def heartbeat(self, status: rows.WorkerStatus) -> None:
        values = {
            "id": 1,
            "pid": status.pid,
            "started_at": status.started_at.timestamp(),
            "heartbeat_at": status.heartbeat_at.timestamp(),
            "first_scan_done": status.first_scan_done,
            "watch": json.dumps(status.watch),
            "progress": json.dumps(status.progress),
            "cloud": json.dumps(status.cloud),
        }
        with self._writing() as connection:
            connection.execute(tables.worker.delete())
            connection.execute(tables.worker.insert().values(values))

    def _move(self, checkpoint_id: int, happening: Happening, **columns: Any) -> None:
        with self._revising() as connection:
            _move_row(connection, checkpoint_id, happening, **columns)


def _rename(connection: sa.Connection, run_id: int, name: str) -> None:
    run = sa.and_(tables.run.c.id == run_id, tables.run.c.name != name)
    if connection.execute(tables.run.update().where(run).values(name=name)).rowcount:
        # Records carry the run's name: each of them counts as written.
        connection.execute(tables.checkpoint.update().where(tables.checkpoint.c.run_id == run_id).values(run_id=run_id))


def _move_row(connection: sa.Connection, checkpoint_id: int, happening: Happening, **columns: Any) -> None:
    row = tables.checkpoint.c.id == checkpoint_id
    state = State(connection.execute(sa.select(tables.checkpoint.c.state).where(row)).scalar_one())
    connection.execute(tables.checkpoint.update().where(row).values(state=move(state, happening).value, **columns))


def _keep_digests(connection: sa.Connection, checkpoint_id: int, report: Report) -> None:
    """Those of the first reading stay until it settles anew: a later one that differs must not become the truth."""
    first = digests_of(connection, checkpoint_id)
    connection.execute(tables.file.delete().where(tables.file.c.checkpoint_id == checkpoint_id))
    files = [
        {"checkpoint_id": checkpoint_id, "path": path, "bytes": f.bytes, "digest": first.get(path, f.digest)}
        for path, f in ((rows.as_text(file.path), file) for file in report.files)
    ]
    if files:
        connection.execute(tables.file.insert(), files)
