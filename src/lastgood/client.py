"""Finding the resume point from a training job: the service, then its file, then our own look.

A refusal is an answer: nothing falls back after one. A watcher that is down never stops a job.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import httpx

from lastgood import naming, resume
from lastgood.discovery import discover
from lastgood.errors import (
    REFUSALS,
    CannotTell,
    NoCheckpointsYet,
    NotACheckpoint,
    NotReady,
    RunAmbiguous,
    Unreachable,
)
from lastgood.facts import Component, Presence
from lastgood.findings import Verdict
from lastgood.inventory import take_inventory
from lastgood.latest import inodes_are_stable
from lastgood.life import State
from lastgood.own_look import own_look
from lastgood.records import Evidence, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastgood.errors import LastgoodError


_log = logging.getLogger("lastgood")
_PATIENCE_SECONDS: Final = 2.0
_DAMAGED: Final = frozenset({"incomplete", "corrupt", "unhealthy", "evidence"})  # reasons that hold for every asker


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
    folder: str, service: Service, wishes: resume.Wishes, *, run: str | None = None, wait: float = 0.0, root: str = ""
) -> dict[str, Any]:
    """The resume point below `folder`, from whoever can tell. The answer as JSON; `source` names who gave it.

    `root`: where the watched folder lies here, if at another path than there.
    """
    folder = os.path.abspath(folder)
    if not os.path.isdir(folder):
        raise NotACheckpoint(f"{folder}: no such folder")
    if naming.step_in_name(os.path.basename(folder)) is not None:
        # "Nothing saved in it yet" would be true, and would make a job start from scratch.
        raise NotACheckpoint(f"{folder} is a checkpoint: name the folder that holds it, {os.path.dirname(folder)}")
    try:
        watched = _run_watched_as(service, folder, run, root)
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
    return {**own_look(run_folder, wishes, refused=_refused_by_file(run_folder)), "source": "own look"}


def _content_of(response: httpx.Response, url: str) -> Any:
    try:
        content = response.json()
    except ValueError:
        raise Unreachable(f"what answers at {url} is not lastgood (status {response.status_code})") from None
    if response.is_success:
        return content
    kind = REFUSALS.get(str(content.get("code"))) if isinstance(content, dict) else None
    if kind is None:
        detail = content.get("detail") if isinstance(content, dict) else content
        raise Unreachable(f"the service at {url} failed with status {response.status_code}: {detail}")
    details = {k: v for k, v in content.items() if k not in ("type", "title", "status", "detail", "code")}
    raise kind(str(content.get("detail") or content.get("title")), **details)


def _run_watched_as(service: Service, folder: str, run: str | None, root: str) -> str:
    """The name under which the service watches the folder's run. Unreachable where it does not watch it at all."""
    status = service.get("/status")
    try:
        roots = [str(path) for path in (status["watch"] or {}).get("roots", ())]
        paths = {str(entry["name"]): str(entry["path"]) for entry in status["runs"]}
        obstacles = [obstacle for obstacle in status["obstacles"] if obstacle["message"]]
    except (AttributeError, KeyError, TypeError):
        raise Unreachable(f"what answers at {service.url} is not lastgood") from None
    there = _as_watched(folder, root, roots)
    if not any(_is_below(there, path) for path in roots):
        raise Unreachable(f"the service at {service.url} does not watch {folder}")
    below = sorted(name for name, path in paths.items() if _is_below(path, there))
    if run is not None and run not in below:
        wanted = os.path.realpath(os.path.join(there, run))
        below = [name for name in below if os.path.realpath(paths[name]) == wanted]
    elif run is not None:
        return run
    if len(below) > 1:
        raise RunAmbiguous(f"{folder} holds several runs: {', '.join(below)}; name one with --run", runs=below)
    if not below:
        own = [obstacle for obstacle in obstacles if not obstacle.get("root") or _is_below(there, obstacle["root"])]
        raise _not_seen(service, _only_run_folder(folder, run), own)
    return below[0]


def _not_seen(service: Service, run_folder: str, obstacles: list[Mapping[str, Any]]) -> LastgoodError:
    """Why the service lists nothing there. That nothing was saved must be true: a job would start from scratch."""
    if obstacles:
        return NotReady("; ".join(str(obstacle["message"]) for obstacle in obstacles), obstacles=obstacles)
    if discover(run_folder).candidates:
        return Unreachable(f"the service at {service.url} has not seen yet what lies in {run_folder}")
    return NoCheckpointsYet(f"nothing has been saved in {run_folder} yet")


def _as_watched(folder: str, root: str, roots: list[str]) -> str:
    """Where the watcher sees the folder."""
    if root and len(roots) == 1 and _is_below(folder, root):
        return os.path.normpath(os.path.join(roots[0], os.path.relpath(folder, root)))
    return folder


def _is_below(path: str, folder: str) -> bool:
    path, folder = os.path.realpath(path), os.path.realpath(folder)
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _only_run_folder(folder: str, run: str | None) -> str:
    if run is not None:
        named = os.path.normpath(os.path.join(folder, run))
        if not os.path.isdir(named):
            raise NotACheckpoint(f"{named}: no such folder")
        return named
    runs = sorted({candidate.run for candidate in discover(folder).candidates})
    if len(runs) > 1:
        raise RunAmbiguous(f"{folder} holds several runs: {', '.join(runs)}; name one with --run", runs=runs)
    return os.path.normpath(os.path.join(folder, runs[0])) if runs else folder


def _from_file(run_folder: str, wishes: resume.Wishes) -> dict[str, Any] | None:
    """The answer in latest.json, if it still holds, fits the wishes, and nothing newer came since it was written."""
    try:
        answer, written_at = _read_latest(run_folder)
        path = os.path.join(run_folder, answer["name"])
        inventory = take_inventory(path, inodes=inodes_are_stable(run_folder))
        # Refused for a reason that these wishes share; where the file was written for stricter ones, we look ourselves.
        refused = {s["name"] for s in answer["skipped"] if s["reason"] in _DAMAGED}
        fits = resume.refusal_of(_record_from(answer), wishes, frozenset()) is None
    except (OSError, ValueError, KeyError, TypeError, NotACheckpoint, CannotTell):
        return None
    others = [c for c in discover(run_folder).candidates if c.run == naming.ROOT_FOLDER and c.name != answer["name"]]
    newer = [
        c
        for c in others
        if c.mtime_ns > written_at or (c.number > _number(answer["name"]) and c.name not in refused and not c.copy)
    ]
    same = inventory.fingerprint == answer["fingerprint"]
    return {**answer, "path": path} if same and fits and not newer else None


def _refused_by_file(run_folder: str) -> dict[str, resume.Reason]:
    """What latest.json refuses, whatever anybody wishes, and nobody has touched since it was written."""
    try:
        answer, written_at = _read_latest(run_folder)
        told = answer["refusal"].get("refused", ()) if "refusal" in answer else answer["skipped"]
        reasons = {s["name"]: (str(s["reason"]), str(s["message"])) for s in told if s["reason"] in _DAMAGED}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
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
        components={Component(c): Presence(p) for c, p in answer["components"].items()},
        warnings=tuple(answer["warnings"]),
    )


def token_from(path: str) -> str:
    """The token in the file; "" where it cannot be read: reads on loopback need none."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def rebased(answer: Mapping[str, Any], root: str) -> str:
    """The checkpoint's path as this process sees it: below `root`, where the watched folder is mounted elsewhere.

    What we found ourselves, or by the file beside it, lies where we saw it.
    """
    told = answer.get("source", "service") == "service"
    return os.path.join(root, answer["relative_path"]) if root and told else str(answer["path"])
