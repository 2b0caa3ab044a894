"""Records, events, requests and runs as they go over the wire. Pure; the shapes are declared in `schemas`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from lastgood.errors import Refusal
from lastgood.forecast import forecast
from lastgood.life import IN_PLACE, State
from lastgood.report_json import components_as_json
from lastgood_service.exception_handlers import code_of
from lastgood_service.rendering_plans import hold_as_json, retention_as_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from lastgood.catalog import Event, Request, WorkerStatus
    from lastgood.errors import LastgoodError
    from lastgood.records import Hold, Record
    from lastgood.retention import Decision
    from lastgood_service.choosing import Where


def record_as_json(record: Record, cloud_copy: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "id": record.id,
        "run": record.run,
        "name": record.name,
        "step": record.step,
        "epoch": record.epoch,
        "generation": record.generation,
        "branch": record.branch,
        "copy": record.copy,
        "state": record.state.value,
        "active": record.active,
        "waiting_for": record.waiting_for,
        "verdict": record.verdict.value if record.verdict else None,
        "exact_resume": record.exact_resume,
        "evidence": record.evidence.value if record.evidence else None,
        "path": record.path,
        "root": record.root,
        "relative_path": record.relative_path,
        "fingerprint": record.fingerprint,
        "world_size": record.world_size,
        "bytes": record.bytes,
        "components": components_as_json(record.components),
        "warnings": [dict(warning) for warning in record.warnings],
        "metrics": dict(record.metrics),
        "failures": record.failures,
        "failed": record.failed,
        "until": _time(record.until),
        "first_seen_at": _time(record.first_seen_at),
        "saved_at": _time(record.saved_at),
        "settled_at": _time(record.settled_at),
        "verified_at": _time(record.verified_at),
        "cloud_copy": cloud_copy,
    }


def detail_as_json(
    record: Record,
    cloud_copy: Mapping[str, Any] | None,
    report: Mapping[str, Any] | None,
    holds: Iterable[Hold],
    decision: Decision | None,
) -> dict[str, Any]:
    """One checkpoint with what verification said. The files stand beside the report, not in it."""
    said = {key: value for key, value in report.items() if key != "files"} if report else None
    return {
        **record_as_json(record, cloud_copy),
        "report": said,
        "files": list(report["files"]) if report else [],
        "holds": [hold_as_json(hold) for hold in holds],
        "retention": retention_as_json(decision) if decision else None,
    }


def event_as_json(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "at": _time(event.at),
        "kind": event.kind,
        "severity": event.severity.value,
        "run": event.run,
        "checkpoint_id": event.checkpoint_id,
        "name": event.name,
        "message": event.message,
    }


def request_as_json(request: Request) -> dict[str, Any]:
    return {
        "id": request.id,
        "kind": request.kind,
        "run": request.run,
        "name": request.name,
        "checkpoint_id": request.checkpoint_id,
        "arguments": dict(request.arguments),
        "state": request.state,
        "result": request.result,
        "created_at": _time(request.created_at),
        "finished_at": _time(request.finished_at),
    }


def run_as_json(
    name: str,
    place: Where,
    records: Sequence[Record],
    *,
    answer: Mapping[str, Any] | None,
    refusal: LastgoodError | None,
    free_bytes: int | None,
    cloud: Mapping[str, Any] | None,
) -> dict[str, Any]:
    return {
        "name": name,
        "root": place.root,
        "path": place.path,
        "resume_point": answer,
        "refusal": refusal_as_json(refusal) if refusal else None,
        "branches": branches_as_json(records),
        "counts": counts_as_json(records),
        "space": space_as_json(records, free_bytes),
        "cloud": cloud,
    }


def space_as_json(records: Sequence[Record], free_bytes: int | None) -> dict[str, Any] | None:
    """As of the newest save: what is full at some time from now would be another answer at each moment."""
    found = forecast(records, free_bytes, records[-1].first_seen_at) if records and free_bytes is not None else None
    if found is None:
        return None
    return {
        "free_bytes": free_bytes,
        "bytes_per_save": found.bytes_per_save,
        "room_for": found.room_for,
        "seconds_per_save": found.seconds_per_save,
        "full_at": _time(found.full_at),
    }


def refusal_as_json(refusal: LastgoodError) -> dict[str, Any]:
    details = refusal.details if isinstance(refusal, Refusal) else {}
    return {"code": code_of(refusal), "detail": str(refusal), "details": dict(details)}


def branches_as_json(records: Iterable[Record]) -> list[dict[str, Any]]:
    branches: dict[int, list[Record]] = {}
    for record in records:
        if record.branch is not None and not record.copy:
            branches.setdefault(record.branch, []).append(record)
    return [_branch_as_json(number, saves) for number, saves in sorted(branches.items())]


def _branch_as_json(number: int, saves: Sequence[Record]) -> dict[str, Any]:
    present = [save for save in saves if save.state in IN_PLACE]
    return {
        "branch": number,
        "first_step": min(save.step for save in saves),
        "last_step": max(save.step for save in saves),
        "checkpoints": len(present),
        "bytes": sum(save.bytes for save in present),
    }


def counts_as_json(records: Iterable[Record]) -> dict[str, Any]:
    """How many there are, of which verdict and in which state, and their size. Those that are gone do not count."""
    present = [record for record in records if record.state in IN_PLACE]
    return {
        "checkpoints": len(present),
        "bytes": sum(record.bytes for record in present if not record.copy),
        "verdicts": _count(r.verdict.value for r in present if r.verdict and r.state is State.VERIFIED),
        "states": _count(record.state.value for record in present),
    }


def worker_as_json(worker: WorkerStatus | None, *, alive: bool) -> dict[str, Any]:
    """Without the heartbeat's time while it is within its allowance: it would make every answer a new one."""
    if worker is None:
        return {"alive": False, "pid": None, "started_at": None, "first_scan_done": False, "silent_since": None}
    return {
        "alive": alive,
        "pid": worker.pid,
        "started_at": _time(worker.started_at),
        "first_scan_done": worker.first_scan_done,
        "silent_since": None if alive else _time(worker.heartbeat_at),
    }


def progress_as_json(worker: WorkerStatus | None, seconds_left: Mapping[int, float]) -> dict[str, Any] | None:
    if worker is None or not worker.progress:
        return None
    return {**worker.progress, "seconds_left": seconds_left.get(worker.progress["checkpoint_id"])}


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
