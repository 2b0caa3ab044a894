"""Records as the catalog would give them: the smallest good one, changed fact by fact."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lastgood.facts import Component, Presence
from lastgood.findings import Verdict
from lastgood.life import State
from lastgood.records import Evidence, Record

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
WHOLE = dict.fromkeys((Component.WEIGHTS, Component.OPTIMIZER, Component.SCHEDULER, Component.RNG), Presence.PRESENT)


def record(step: int, number: int = 0, **facts: Any) -> Record:
    """A complete one, saved by a marker; `number` is its place in the order in which they were seen."""
    at = NOON + timedelta(minutes=number)
    made = Record(
        id=number + 1,
        run="llama",
        root="/out",
        relative_path=f"checkpoint-{step}",
        name=f"checkpoint-{step}",
        number=step,
        generation=1,
        state=State.VERIFIED,
        first_seen_at=at,
        saved_at=at,
        bytes=1,
        fingerprint="f",
        branch=1,
        evidence=Evidence.MARKER,
        verdict=Verdict.COMPLETE,
        settled_at=at,
        verified_at=at,
        components=WHOLE,
    )
    return replace(made, **facts)
