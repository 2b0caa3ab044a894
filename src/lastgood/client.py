"""Finding the resume point from a training job: the service, then its file, then our own look.

A refusal is an answer: nothing falls back after one. A watcher that is down never stops a job.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import httpx

from lastgood import naming, resume, writers
from lastgood.discovery import discover
from lastgood.errors import (
    REFUSALS,
    NoCheckpointsYet,
    NotACheckpoint,
    NotReady,
    RunAmbiguous,
    Unreachable,
)
from lastgood.findings import Verdict
from lastgood.inventory import take_inventory
from lastgood.latest import inodes_are_stable
from lastgood.life import State
from lastgood.records import Component, Evidence, Level, Presence, Record, finding_as_json
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastgood.discovery import Candidate
    from lastgood.records import Report

_log = logging.getLogger("lastgood")
_PATIENCE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Service:
    """The REST service, as a client sees it. `token` is sent where there is one."""

    url: str
    token: str = ""

    def get(self, path: str, params: Mapping[str, Any] | None = None, *, patience: float = 0.0) -> Any:
        """The JSON that the service answers. Its Refusal, or Unreachable; `patience`: seconds it may think besides."""
        return self._call("GET", path, patience, params={k: v for k, v in (params or {}).items() if v is not None})

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._call("POST", path, 0.0, json=body)

    def _call(self, method: str, path: str, patience: float, **content: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        timeout = httpx.Timeout(_PATIENCE_SECONDS, read=_PATIENCE_SECONDS + patience)
        try:
            # Proxies are for the world outside; the service is a neighbour.
            with httpx.Client(trust_env=False, timeout=timeout, headers=headers) as client:
                response = client.request(method, self.url + path, **content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(f"no service answers at {self.url}: {error}") from error
        return _content_of(response, self.url)


def latest_from_service(service: Service, run: str | None, wishes: resume.Wishes, wait: float) -> dict[str, Any]:
    """`GET /checkpoints/latest`. Its refusals are raised as such; Unreachable where nobody answers."""
    params = {
        "run": run,
        "accept": wishes.accept.value,
        "require": ",".join(sorted(component.value for component in wishes.require)) or None,
        "world_size": wishes.world_size,
        "max_step": wishes.max_step,
        "strict": "true" if wishes.strict else None,
        "wait": wait or None,
    }
    found: dict[str, Any] = service.get("/checkpoints/latest", params, patience=wait)
    return found


def latest_in(
    folder: str, service: Service, wishes: resume.Wishes, *, run: str | None = None, wait: float = 0.0
) -> dict[str, Any]:
    """The resume point below `folder`, from whoever can tell. The answer as JSON; `source` names who gave it."""
    folder = os.path.abspath(folder)
    if not os.path.isdir(folder):
        raise NotACheckpoint(f"{folder}: no such folder")
    try:
        watched = _run_watched_as(service, folder, run)
        return {**latest_from_service(service, watched, wishes, wait), "source": "service"}
    except Unreachable as error:
        _log.info("%s", error)
    except NotReady as refusal:
        if any(obstacle.get("root") for obstacle in refusal.details.get("obstacles", ())):
            raise  # its disk is away: what we would find there now proves nothing
        _log.warning("the watcher is not at work: %s", refusal.message)
    run_folder = _only_run_folder(folder, run)
    answer = _from_file(run_folder, wishes)
    if answer is not None:
        return {**answer, "source": "file"}
    return {**own_look(run_folder, wishes), "source": "own look"}


def own_look(run_folder: str, wishes: resume.Wishes, level: Level = Level.FULL) -> dict[str, Any]:
    """Verifies the checkpoints of one run newest first, until one can be handed out. The answer as JSON."""
    candidates = [c for c in discover(run_folder).candidates if c.run == naming.ROOT_FOLDER and not c.copy]
    if not candidates:
        raise NoCheckpointsYet(f"there are no checkpoints in {run_folder}")
    skipped: list[resume.Skipped] = []
    records = _guessed_records(run_folder, candidates)
    for guess in resume.lineage(records):
        record = _judged(guess, level)
        refusal = resume.refusal_of(record, wishes, frozenset())
        if refusal is None:
            return resume.answer_as_json(resume.Answer(record, tuple(skipped)))
        skipped.append(refusal)
    raise resume.none_acceptable([], skipped, wishes, frozenset())


def _content_of(response: httpx.Response, url: str) -> Any:
    try:
        content = response.json()
    except ValueError:
        raise Unreachable(f"what answers at {url} is not lastgood (status {response.status_code})") from None
    if response.is_success:
        return content
    kind = REFUSALS.get(content.get("code", "")) if isinstance(content, dict) else None
    if kind is None:
        detail = content.get("detail") if isinstance(content, dict) else content
        raise Unreachable(f"the service at {url} failed with status {response.status_code}: {detail}")
    details = {k: v for k, v in content.items() if k not in ("type", "title", "status", "detail", "code")}
    raise kind(str(content.get("detail") or content.get("title")), **details)


def _run_watched_as(service: Service, folder: str, run: str | None) -> str | None:
    """The name under which the service watches the folder. Unreachable where it does not watch it at all."""
    status = service.get("/status")
    roots = [str(root) for root in (status["watch"] or {}).get("roots", [])]
    real = os.path.realpath(folder)
    if not any(real == os.path.realpath(r) or real.startswith(os.path.realpath(r) + "/") for r in roots):
        raise Unreachable(f"the service at {service.url} does not watch {folder}")
    below = [
        str(entry["name"])
        for entry in status["runs"]
        if os.path.realpath(entry["path"]) == real or os.path.realpath(entry["path"]).startswith(real + "/")
    ]
    if run is not None:
        return run
    if len(below) > 1:
        raise RunAmbiguous(f"{folder} holds several runs: {', '.join(below)}; name one with --run", runs=below)
    if not below:
        raise NoCheckpointsYet(f"nothing has been saved in {folder} yet")
    return below[0]


def _only_run_folder(folder: str, run: str | None) -> str:
    if run is not None:
        return os.path.normpath(os.path.join(folder, run))
    runs = sorted({candidate.run for candidate in discover(folder).candidates})
    if len(runs) > 1:
        raise RunAmbiguous(f"{folder} holds several runs: {', '.join(runs)}; name one with --run", runs=runs)
    return os.path.normpath(os.path.join(folder, runs[0])) if runs else folder


def _from_file(run_folder: str, wishes: resume.Wishes) -> dict[str, Any] | None:
    """The answer in latest.json, if it still holds, fits the wishes, and nothing newer came since it was written."""
    try:
        with open(os.path.join(run_folder, naming.OWN_FOLDER, "latest.json"), encoding="utf-8") as file:
            answer: dict[str, Any] = json.load(file)
        path = os.path.join(run_folder, answer["name"])
        inventory = take_inventory(path, inodes=inodes_are_stable(run_folder))
        refused = {skipped["name"] for skipped in answer["skipped"]}
        fits = resume.refusal_of(_record_from(answer), wishes, frozenset()) is None
    except (OSError, ValueError, KeyError, TypeError, NotACheckpoint):
        return None
    newest = max((c.number for c in discover(run_folder).candidates if c.name not in refused), default=0)
    same = inventory.fingerprint == answer["fingerprint"] and newest <= _number(answer["name"])
    return {**answer, "path": path} if same and fits else None


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
        components={Component(c): Presence(p) for c, p in answer["components"].items()},
        warnings=tuple(answer["warnings"]),
    )


def _guessed_records(run_folder: str, candidates: list[Candidate]) -> list[Record]:
    """Records of folders that nobody watched while they landed, in the order in which they likely did."""
    inodes = inodes_are_stable(run_folder)
    inventories = [take_inventory(os.path.join(run_folder, c.relative_path), inodes=inodes) for c in candidates]
    saved = [(inventory.newest_mtime_ns / 1e9, c.number) for inventory, c in zip(inventories, candidates, strict=True)]
    records: list[Record] = []
    for place in resume.first_look_order(saved):
        candidate, inventory = candidates[place], inventories[place]
        at = datetime.fromtimestamp(saved[place][0], tz=UTC)
        records.append(
            Record(
                id=len(records) + 1,
                run=os.path.basename(run_folder),
                root=run_folder,
                relative_path=candidate.relative_path,
                name=candidate.name,
                number=candidate.number,
                generation=1,
                state=State.SETTLED,
                first_seen_at=at,
                saved_at=at,
                bytes=inventory.bytes,
                fingerprint=inventory.fingerprint,
                before_us=True,
                branch=resume.branch_for(records, candidate.number),
                evidence=Evidence.STRUCTURAL,
            )
        )
    return records


def _judged(guess: Record, level: Level) -> Record:
    inodes = inodes_are_stable(guess.root)
    report = verify(guess.path, level, inodes=inodes)
    return replace(
        guess,
        state=State.VERIFIED,
        verdict=report.verdict,
        verified_at=datetime.now(UTC),
        evidence=Evidence.QUIET if _is_being_written(guess, report) else Evidence.STRUCTURAL,
        step_in_state=report.step,
        epoch=report.epoch,
        world_size=report.world_size,
        exact_resume=report.exact_resume,
        components=report.components,
        warnings=tuple(finding_as_json(finding) for finding in report.warnings),
    )


def _is_being_written(record: Record, report: Report) -> bool:
    paths = (os.path.join(record.path, file.path) for file in report.files)
    return any(writers.is_open_for_writing(path) for path in paths)


def token_from(path: str) -> str:
    """The token in the file; "" where it cannot be read: reads on loopback need none."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def rebased(answer: Mapping[str, Any], root: str) -> str:
    """The checkpoint's path as this process sees it: below `root`, where the watched folder is mounted elsewhere."""
    return os.path.join(root, answer["relative_path"]) if root else str(answer["path"])
