"""Copies in the cloud, and the place where they lie, as they go over the wire. Pure; the shapes are in `schemas`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lastgood.cloud import CopyState
from lastgood_service.knowledge import seconds_left

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from lastgood.cloud import Capabilities, Upload
    from lastgood.records import Record
    from lastgood.resume import Wishes
    from lastgood_service.copies import Copies


def copy_as_json(copies: Copies, upload: Upload) -> dict[str, Any]:
    """One row of the list of copies."""
    return {
        **copies.as_answer(upload),
        "checkpoint_id": upload.checkpoint_id,
        "checked_at": _time(upload.checked_at),
    }


def copies_of_run_as_json(copies: Copies, run: str, waiting: Sequence[Record], wishes: Wishes) -> dict[str, Any]:
    """`wishes`: what the newest one of the run is among."""
    proven, newest = copies.proven(run), copies.newest(run, wishes)
    return {
        "copies": len(proven),
        "bytes": sum(copy.bytes for copy in proven),
        "newest": copies.as_answer(newest) if newest is not None else None,
        "waiting": [record.name for record in waiting],
        "conflicts": [upload.copy.name for upload in copies.of_run(run) if upload.state is CopyState.CONFLICT],
    }


def cloud_as_json(copies: Copies, errand: Mapping[str, Any] | None) -> dict[str, Any]:
    """`errand`: what the worker does there at the moment."""
    place = copies.place
    return {
        "url": copies.remote.url(),
        "trouble": place.trouble if place else None,
        "listed_at": _time(place.listed_at) if place else None,
        "probed_at": _time(place.probed_at) if place else None,
        "drilled_at": _time(place.drilled_at) if place else None,
        "proof": _proof_as_json(place.able) if place and place.able else None,
        "conditional": place.able.conditional if place and place.able else None,
        "errand": {**errand, "seconds_left": seconds_left(errand)} if errand else None,
    }


def _proof_as_json(able: Capabilities) -> dict[str, str]:
    return {"whole": able.proof(parts=False).value, "parts": able.proof(parts=True).value}


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
