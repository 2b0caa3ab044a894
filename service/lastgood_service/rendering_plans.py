"""Leases, pins and plans as they go over the wire. Pure; the shapes are declared in `schemas`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lastgood.cloud import CopiesPlan, Remote
    from lastgood.records import Hold, Record
    from lastgood.retention import Decision, Wait
    from lastgood_service.plans import Planned


def hold_as_json(hold: Hold) -> dict[str, Any]:
    return {
        "id": hold.id,
        "checkpoint_id": hold.checkpoint_id,
        "holder": hold.holder,
        "until": hold.until.isoformat() if hold.until else None,
        "pin": hold.pin,
    }


def plan_as_json(planned: Planned) -> dict[str, Any]:
    return {
        "run": planned.run,
        "policy": str(planned.plan.policy),
        "plan": planned.plan.id,
        "waits_for": _wait_as_json(planned.wait) if planned.wait else None,
        "bytes_freed": planned.plan.bytes_freed,
        "decisions": [_decision_as_json(decision) for decision in planned.plan.decisions],
        "trash": [_trash_as_json(record) for record in planned.trash],
        "copies": _copies_as_json(planned.of_copies, planned.remote) if planned.of_copies and planned.remote else None,
    }


def _copies_as_json(planned: CopiesPlan, remote: Remote) -> dict[str, Any]:
    return {
        "policy": str(planned.plan.policy),
        "plan": planned.plan.id,
        "waits_for": _wait_as_json(planned.wait) if planned.wait else None,
        "decisions": [
            {"name": copy.name, "step": copy.step, "url": remote.url(copy.key), **retention_as_json(decision)}
            for copy, decision in planned.decisions
        ],
    }


def retention_as_json(decision: Decision) -> dict[str, Any]:
    """What becomes of one checkpoint, with every reason."""
    return {
        "action": "keep" if decision.keep else "remove",
        "reasons": [{"why": reason.why.value, "message": reason.message} for reason in decision.reasons],
    }


def _decision_as_json(decision: Decision) -> dict[str, Any]:
    record = decision.record
    return {
        "id": record.id,
        "name": record.name,
        "step": record.step,
        "branch": record.branch,
        "verdict": record.verdict.value if record.verdict else None,
        "bytes": record.bytes,
        "saved_at": record.saved_at.isoformat(),
        "metrics": dict(record.metrics),
        **retention_as_json(decision),
    }


def _trash_as_json(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "step": record.step,
        "bytes": record.bytes,
        "until": record.until.isoformat() if record.until else None,
    }


def _wait_as_json(wait: Wait) -> dict[str, Any]:
    return {"code": wait.code, "message": wait.message, "until": wait.until.isoformat() if wait.until else None}
