"""The worker's answer in `RUN/.lastgood/latest.json`, as a client takes it where no service answers."""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from lastgood import naming, resume
from lastgood.discovery import discover
from lastgood.errors import CannotTell, NotACheckpoint
from lastgood.findings import Verdict
from lastgood.inventory import take_inventory
from lastgood.latest import inodes_are_stable
from lastgood.life import State
from lastgood.records import Evidence, Record
from lastgood.report_json import components_from_json

if TYPE_CHECKING:
    from collections.abc import Mapping

_REFUSED_FOR_ALL: Final = frozenset(
    {"incomplete", "corrupt", "unhealthy", "evidence", "failed"}
)  # reasons that hold for every asker
# Whatever a disk makes of the file, no job ends because of it. Of lists within lists JSON's reader gives up.
_NOT_AS_WRITTEN: Final = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def answer_in_file(run_folder: str, wishes: resume.Wishes) -> dict[str, Any] | None:
    """The answer in latest.json, if it still holds, fits the wishes, and nothing newer came since it was written."""
    try:
        answer, written_at = _read_latest(run_folder)
        path = os.path.join(run_folder, answer["name"])
        inventory = take_inventory(path, inodes=inodes_are_stable(run_folder))
        # Refused for a reason that these wishes share; where the file was written for stricter ones, we look ourselves.
        refused = {s["name"] for s in answer["skipped"] if s["reason"] in _REFUSED_FOR_ALL}
        fits = resume.refusal_of(_record_from(answer), wishes, frozenset()) is None
    except (*_NOT_AS_WRITTEN, NotACheckpoint, CannotTell):
        return None
    others = [found for found in discover(run_folder).saves if found.name != answer["name"]]
    newer = [
        c for c in others if c.mtime_ns > written_at or (c.number > _number(answer["name"]) and c.name not in refused)
    ]
    same = inventory.fingerprint == answer["fingerprint"]
    return {**answer, "path": path} if same and fits and not newer else None


def refused_in_file(run_folder: str) -> dict[str, resume.Reason]:
    """What latest.json refuses, whatever anybody wishes, and nobody has touched since it was written."""
    try:
        answer, written_at = _read_latest(run_folder)
        told = answer["refusal"].get("refused", ()) if "refusal" in answer else answer["skipped"]
        reasons = {s["name"]: (str(s["reason"]), str(s["message"])) for s in told if s["reason"] in _REFUSED_FOR_ALL}
    except _NOT_AS_WRITTEN:
        return {}
    return {name: reason for name, reason in reasons.items() if _is_older(os.path.join(run_folder, name), written_at)}


def _is_older(path: str, moment: int) -> bool:
    try:
        return all(entry.ctime_ns < moment for entry in take_inventory(path).entries)
    except (NotACheckpoint, CannotTell):
        return False


def _read_latest(run_folder: str) -> tuple[dict[str, Any], int]:
    """What latest.json says, and when it was written, in nanoseconds."""
    with open(os.path.join(run_folder, naming.OWN_FOLDER, "latest.json"), encoding="utf-8") as file:
        answer: dict[str, Any] = json.load(file)
        return answer, os.fstat(file.fileno()).st_mtime_ns


def _number(name: str) -> int:
    return naming.step_in_name(name) or 0


def _record_from(answer: Mapping[str, Any]) -> Record:
    """As much of the record behind an answer as the wishes look at."""
    saved = datetime.fromisoformat(answer["saved_at"])
    return Record(
        id=answer["id"],
        run=answer["run"],
        root=answer["root"],
        relative_path=answer["relative_path"],
        name=answer["name"],
        number=_number(answer["name"]),
        generation=1,
        state=State.VERIFIED,
        first_seen_at=saved,
        saved_at=saved,
        bytes=answer["bytes"],
        fingerprint=answer["fingerprint"],
        evidence=Evidence(answer["evidence"]),
        verdict=Verdict(answer["verdict"]),
        step_in_state=answer["step"],
        world_size=answer["world_size"],
        components=components_from_json(answer["components"]),
        warnings=tuple(answer["warnings"]),
    )
