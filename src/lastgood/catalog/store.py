"""The open database: one writer at a time, and whether anybody wrote."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from lastgood import ownership, writers
from lastgood.catalog import tables
from lastgood.errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA_VERSION: Final = 4
_BUSY_SECONDS: Final = 10


class Store:
    """Safe to use from several threads."""

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
                tables.metadata.create_all(connection)
                _add_columns(connection)
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
            return int(connection.execute(sa.select(tables.revision.c.value)).scalar_one())

    def _reading(self) -> sa.Connection:
        return self._engine.connect()

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction that holds the write lock. CatalogError where nothing can be written: the disk is full, say."""
        try:
            with self._engine.execution_options(writing=True).begin() as connection:
                yield connection
        except sa.exc.OperationalError as error:
            raise CatalogError(f"{self.path} cannot be written: {error.orig}") from error

    @contextmanager
    def _revising(self) -> Iterator[sa.Connection]:
        """As `_writing`, for what answers depend on."""
        with self._writing() as connection:
            connection.execute(tables.revision.update().values(value=tables.revision.c.value + 1))
            yield connection


def _prepare(state_dir: str) -> None:
    try:
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
    except OSError as error:
        raise CatalogError(
            f"the state folder {state_dir} cannot be made: {error.strerror}; choose another with LASTGOOD_STATE_DIR"
        ) from error
    for what, path in (("the state folder", state_dir), ("the catalog", os.path.join(state_dir, "catalog.db"))):
        if why := ownership.why_closed(what, path, write=True):
            raise CatalogError(f"{why}; or choose another folder with LASTGOOD_STATE_DIR")
    if not os.access(state_dir, os.W_OK):
        raise CatalogError(f"the state folder {state_dir} is mounted read-only; choose another with LASTGOOD_STATE_DIR")
    if writers.is_network(filesystem := writers.filesystem_of(state_dir)):
        raise CatalogError(
            f"the state folder {state_dir} lies on {filesystem}: SQLite loses data on network filesystems; "
            "choose a local disk with LASTGOOD_STATE_DIR"
        )


def _check_version(connection: sa.Connection, path: str) -> None:
    found = connection.execute(sa.text("PRAGMA user_version")).scalar_one()
    if found > SCHEMA_VERSION:
        raise CatalogError(
            f"{path} was written by a later version of lastgood (schema {found}, this one is {SCHEMA_VERSION}); "
            "move it away, and all but the history is found again on disk"
        )
    connection.execute(sa.text(f"PRAGMA user_version = {SCHEMA_VERSION}"))


def _add_columns(connection: sa.Connection) -> None:
    """Those that earlier versions did not have. Each of them has a default, or may be empty."""
    for table in tables.metadata.sorted_tables:
        there = {row.name for row in connection.execute(sa.text(f"PRAGMA table_info({table.name})"))}
        for column in table.columns:
            if column.name not in there:
                wording = sa.schema.CreateColumn(column).compile(connection)
                connection.execute(sa.text(f"ALTER TABLE {table.name} ADD COLUMN {wording}"))


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
