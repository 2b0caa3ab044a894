"""Rows as values, and values as columns."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastgood.catalog import tables
from lastgood.cloud.committing import copy_as_json, copy_from_json
from lastgood.cloud.words import CopyState, Upload, capabilities_as_json, capabilities_from_json
from lastgood.findings import Severity, Verdict
from lastgood.life import State
from lastgood.records import Evidence, Hold, Record
from lastgood.report_json import components_as_json, components_from_json, finding_as_json, report_as_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastgood.cloud import Capabilities
    from lastgood.facts import Report

HEARTBEAT_ALLOWANCE: Final = timedelta(seconds=15)
_TIMES_OF_PLACE: Final = ("known_since", "probed_at", "listed_at", "swept_at", "drilled_at")
_NOT_IN_RECORDS: Final = ("run_id", "content", "report", "boot", "revision")


@dataclass(frozen=True, slots=True)
class Run:
    id: int
    name: str
    root: str
    relative: str
    first_seen_at: datetime
    policy: str | None = None  #: the last one that was carried out, in words
    remote_policy: str | None = None  #: the same of its copies in the cloud

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
    known_since: datetime | None = None


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
    checkpoint_id: int | None = None  #: where it concerns one
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """A place for copies, as we know it."""

    identity: str
    owner: str  #: who we are to others that send there
    known_since: datetime
    able: Capabilities | None = None  #: None before it was probed
    probed_at: datetime | None = None
    listed_at: datetime | None = None  #: when all copies there were last looked for
    swept_at: datetime | None = None
    drilled_at: datetime | None = None  #: when a copy last came back whole
    trouble: str | None = None  #: why nothing goes there at the moment


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    pid: int
    started_at: datetime
    heartbeat_at: datetime
    first_scan_done: bool
    watch: Mapping[str, Any]
    progress: Mapping[str, Any]
    cloud: Mapping[str, Any] = field(default_factory=dict)  #: what is sent or fetched, and how far it is

    def is_alive(self, now: datetime) -> bool:
        """Whether it said so a short while ago."""
        return now - self.heartbeat_at <= HEARTBEAT_ALLOWANCE


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the worker saw of a checkpoint when it wrote the row."""

    fingerprint: str
    bytes: int
    saved_at: datetime
    active: bool
    waiting_for: str | None


def records_query() -> sa.Select[Any]:
    columns = [column for column in tables.checkpoint.c if column.name not in _NOT_IN_RECORDS]
    return sa.select(*columns, tables.run.c.name.label("run"), tables.run.c.root.label("root")).join(tables.run)


def record_from(row: Any) -> Record:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented name
    for name in ("first_seen_at", "saved_at", "settled_at", "verified_at", "until"):
        values[name] = as_utc(values[name]) if values[name] is not None else None
    values["state"] = State(values["state"])
    values["evidence"] = Evidence(values["evidence"]) if values["evidence"] else None
    values["verdict"] = Verdict(values["verdict"]) if values["verdict"] else None
    values["components"] = components_from_json(json.loads(values["components"]))
    values["warnings"] = tuple(json.loads(values["warnings"]))
    values["metrics"] = json.loads(values["metrics"])
    return Record(**values)


def worker_from(row: Any) -> WorkerStatus:
    return WorkerStatus(
        pid=row.pid,
        started_at=as_utc(row.started_at),
        heartbeat_at=as_utc(row.heartbeat_at),
        first_scan_done=row.first_scan_done,
        watch=json.loads(row.watch),
        progress=json.loads(row.progress),
        cloud=json.loads(row.cloud),
    )


def sighting_columns(seen: Sighting) -> dict[str, Any]:
    return {
        "fingerprint": seen.fingerprint,
        "bytes": seen.bytes,
        "saved_at": seen.saved_at.timestamp(),
        "active": seen.active,
        "waiting_for": as_text(seen.waiting_for) if seen.waiting_for else None,
    }


def report_columns(report: Report) -> dict[str, Any]:
    return {
        "verdict": report.verdict.value,
        "step_in_state": report.step,
        "epoch": report.epoch,
        "world_size": report.world_size,
        "exact_resume": report.exact_resume,
        "components": json.dumps(components_as_json(report.components)),
        "warnings": json.dumps([finding_as_json(finding) for finding in report.warnings]),
        "metrics": json.dumps(dict(report.metrics)),
        "best": as_text(report.best) if report.best else None,
        "report": json.dumps(report_as_json(report)),
        "fingerprint": report.fingerprint,
    }


def event_from(row: Any) -> Event:
    return Event(
        row.id,
        as_utc(row.at),
        row.kind,
        Severity(row.severity),
        row.run,
        row.checkpoint_id,
        row.name,
        row.message,
    )


def request_from(row: Any) -> Request:
    finished = as_utc(row.finished_at) if row.finished_at is not None else None
    return Request(
        id=row.id,
        kind=row.kind,
        run=row.run,
        name=row.name,
        state=row.state,
        result=row.result,
        created_at=as_utc(row.created_at),
        finished_at=finished,
        checkpoint_id=row.checkpoint_id,
        arguments=json.loads(row.arguments),
    )


def hold_from(row: Any) -> Hold:
    return Hold(row.id, row.checkpoint_id, row.holder, as_utc(row.until) if row.until is not None else None)


def upload_from(row: Any) -> Upload:
    return Upload(
        id=row.id,
        copy=copy_from_json(json.loads(row.copy), row.key),
        state=CopyState(row.state),
        checkpoint_id=row.checkpoint_id,
        error=row.error,
        attempts=row.attempts,
        checked_at=as_utc(row.checked_at) if row.checked_at is not None else None,
    )


def upload_columns(upload: Upload) -> dict[str, Any]:
    """All but the id."""
    return {
        "key": upload.copy.key,
        "copy": json.dumps(copy_as_json(upload.copy)),
        "state": upload.state.value,
        "checkpoint_id": upload.checkpoint_id,
        "error": as_text(upload.error) if upload.error else None,
        "attempts": upload.attempts,
        "checked_at": upload.checked_at.timestamp() if upload.checked_at else None,
    }


def place_from(row: Any) -> Place:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented name
    for name in _TIMES_OF_PLACE:
        values[name] = as_utc(values[name]) if values[name] is not None else None
    values["able"] = capabilities_from_json(json.loads(values["able"])) if values["able"] else None
    return Place(**values)


def place_columns(place: Place) -> dict[str, Any]:
    values = {name: getattr(place, name) for name in Place.__dataclass_fields__}
    for name in _TIMES_OF_PLACE:
        values[name] = values[name].timestamp() if values[name] else None
    values["able"] = json.dumps(capabilities_as_json(place.able)) if place.able else None
    values["trouble"] = as_text(place.trouble) if place.trouble else None
    return values


def root_from(row: Any) -> Root:
    since = as_utc(row.known_since) if row.known_since is not None else None
    return Root(row.path, row.marker, row.device, row.frozen, since)


def as_text(text: str) -> str:
    r"""A file's name may be any bytes; SQLite takes text alone: those that are none become `\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode()


def as_utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
