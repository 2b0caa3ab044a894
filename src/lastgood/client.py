"""Finding the resume point from a training job: the service, then its file, then our own look.

A refusal is an answer: nothing falls back after one. A watcher that is down never stops a job.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import httpx

from lastgood import naming, resume
from lastgood.discovery import discover
from lastgood.errors import (
    REFUSALS,
    NoCheckpointsYet,
    NotACheckpoint,
    NotReady,
    RunAmbiguous,
    SettingsError,
    Unreachable,
)
from lastgood.facts import Component, Level
from lastgood.findings import Verdict
from lastgood.own_look import own_look
from lastgood.published import answer_in_file, refused_in_file
from lastgood.settings import read_settings
from lastgood.settings_file import settings_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lastgood.errors import LastgoodError
    from lastgood.settings import Settings

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
            # Proxies are for the world outside; the service is a neighbour. Certificates take a while to load.
            certificates = not self.url.startswith("http:")
            with httpx.Client(trust_env=False, timeout=timeout, headers=headers, verify=certificates) as client:
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


def resume_point(  # noqa: PLR0913 - one name for each wish
    folder: str | os.PathLike[str],
    *,
    run: str | None = None,
    accept: Literal["complete", "partial"] | None = None,
    require: Iterable[str] = (),
    world_size: int | None = None,
    max_step: int | None = None,
    strict: bool = False,
    wait: float = 0.0,
    quick: bool = False,
) -> str | None:
    """The path of the last good checkpoint below `folder`. None: nothing was saved there yet.

    Settings are those of `lastgood latest`. `wait`: seconds that a newer one in work is waited for. `quick`: where
    nobody watches, to take what is there by its headers alone. A refusal is raised, as LastgoodError: that none of
    those that are there can be handed out is no reason to start from scratch.
    """
    settings = read_settings(os.environ, settings_text())
    wishes = resume.Wishes(
        accept=Verdict(accept or settings.accept),
        require=components_named(require),
        world_size=world_size,
        max_step=max_step,
        strict=strict,
    )
    level = Level.QUICK if quick else Level.FULL
    try:
        found = latest_in(
            os.fspath(folder), service_of(settings), wishes, run=run, wait=wait, root=settings.root, level=level
        )
    except NoCheckpointsYet:
        return None
    for warning in found["warnings"]:
        _log.warning("%s: %s", found["name"], warning["message"])
    return rebased(found, settings.root)


def components_named(names: Iterable[str]) -> frozenset[Component]:
    """The components of these names. SettingsError names those that there are."""
    try:
        return frozenset(Component(name.strip()) for name in names if name.strip())
    except ValueError as error:
        known = ", ".join(component.value for component in Component)
        raise SettingsError(f"{error}; the components are {known}") from None


def service_of(settings: Settings, url: str | None = None) -> Service:
    """The service at `url`, or where the settings say."""
    return Service((url or settings.service_url).rstrip("/"), token_from(settings.token_path))


def latest_in(
    folder: str,
    service: Service,
    wishes: resume.Wishes,
    *,
    run: str | None = None,
    wait: float = 0.0,
    root: str = "",
    level: Level = Level.FULL,
) -> dict[str, Any]:
    """The resume point below `folder`, from whoever can tell. The answer as JSON; `source` names who gave it.

    `root`: where the watched folder lies here, if at another path than there. `level`: of our own look.
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
    answer = answer_in_file(run_folder, wishes)
    if answer is not None:
        return {**answer, "source": "file"}
    if level is Level.QUICK:
        _log.warning("what is found in %s is taken by its headers alone: damaged bytes go unnoticed", run_folder)
    return {**own_look(run_folder, wishes, level, refused=refused_in_file(run_folder)), "source": "own look"}


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
