"""Finding the resume point from a training job: the service, then its file, then our own look.

A refusal is an answer: nothing falls back after one. A watcher that is down never stops a job.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Literal

from lastgood import naming, resume
from lastgood.calling import Service, service_of, token_from
from lastgood.discovery import discover
from lastgood.errors import (
    NoCheckpointsYet,
    NotACheckpoint,
    NotAllowed,
    NotReady,
    RunAmbiguous,
    SettingsError,
    Unreachable,
)
from lastgood.facts import Component, Level
from lastgood.findings import Verdict
from lastgood.leasing import Lease, give_back, take_lease
from lastgood.own_look import own_look
from lastgood.published import answer_in_file, refused_in_file
from lastgood.settings import read_settings
from lastgood.settings_file import settings_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lastgood.errors import LastgoodError
    from lastgood.settings import Settings

__all__ = [
    "Lease",
    "Service",
    "components_named",
    "give_back",
    "is_default_accept",
    "latest_from_service",
    "latest_held_in",
    "latest_in",
    "lease_wanted",
    "rebased",
    "resume_point",
    "service_of",
    "take_lease",
    "token_from",
]

_log = logging.getLogger("lastgood")


def latest_from_service(
    service: Service,
    run: str | None,
    wishes: resume.Wishes,
    wait: float,
    *,
    lease: Lease | None = None,
    accept_as_set: bool = False,
) -> dict[str, Any]:
    """`GET /checkpoints/latest`, or `POST /leases`. Its refusals are raised as such; Unreachable where nobody answers.

    `accept_as_set`: nobody said which verdict will do, so that the service's setting for the run decides.
    """
    require = sorted(component.value for component in wishes.require)
    question: dict[str, Any] = {
        "run": run,
        "accept": None if accept_as_set else wishes.accept.value,
        "require": require or None,
        "world_size": wishes.world_size,
        "max_step": wishes.max_step,
        "strict": True if wishes.strict else None,
    }
    if lease is not None:
        return take_lease(service, lease, question, wait)
    in_address = {"require": ",".join(require) or None, "strict": "true" if wishes.strict else None}
    found: dict[str, Any] = service.get(
        "/checkpoints/latest", {**question, **in_address, "wait": wait or None}, patience=wait
    )
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
    lease: bool | float = False,
) -> str | None:
    """The path of the last good checkpoint below `folder`. None: nothing was saved there yet.

    Settings are those of `lastgood latest`. `wait`: seconds that a newer one in work is waited for. `quick`: where
    nobody watches, to take what is there by its headers alone. `lease`: it is not removed for so many seconds, or for
    as long as the service's setting says. A refusal is raised, as LastgoodError: that none of those that are there can
    be handed out is no reason to start from scratch.
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
            os.fspath(folder),
            service_of(settings),
            wishes,
            run=run,
            wait=wait,
            root=settings.root,
            level=level,
            lease=lease_wanted(lease),
            accept_as_set=accept is None and is_default_accept(settings),
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


def is_default_accept(settings: Settings) -> bool:
    """Whether nobody here said which verdict will do."""
    return "accept" not in settings.model_fields_set


def lease_wanted(lease: bool | float) -> Lease | None:
    """True: for as long as the service's setting says; a number: for so many seconds."""
    if lease is False:
        return None
    return Lease() if lease is True else Lease(seconds=lease)


def latest_in(  # noqa: PLR0913 - one name for each wish
    folder: str,
    service: Service,
    wishes: resume.Wishes,
    *,
    run: str | None = None,
    wait: float = 0.0,
    root: str = "",
    level: Level = Level.FULL,
    lease: Lease | None = None,
    accept_as_set: bool = False,
) -> dict[str, Any]:
    """The resume point below `folder`, from whoever can tell. The answer as JSON; `source` names who gave it.

    `root`: where the watched folder lies here, if at another path than there. `level`: of our own look. `lease`: the
    one that is wanted; in the answer too, where it could be had.
    """
    folder = os.path.abspath(folder)
    if not os.path.isdir(folder):
        raise NotACheckpoint(f"{folder}: no such folder")
    if naming.step_in_name(os.path.basename(folder)) is not None:
        # "Nothing saved in it yet" would be true, and would make a job start from scratch.
        raise NotACheckpoint(f"{folder} is a checkpoint: name the folder that holds it, {os.path.dirname(folder)}")
    try:
        watched = _run_watched_as(service, folder, run, root)
        return {
            **latest_from_service(service, watched, wishes, wait, lease=lease, accept_as_set=accept_as_set),
            "source": "service",
        }
    except Unreachable as error:
        _log.info("%s", error)
    except NotReady as refusal:
        if any(obstacle.get("root") for obstacle in refusal.details.get("obstacles", ())):
            raise  # its disk is away: what we would find there now proves nothing
        _log.warning("the watcher is not at work: %s", refusal.message)
    run_folder = _only_run_folder(folder, run)
    if lease is not None:
        _log.warning("nothing holds what is found in %s: only a service can do that", run_folder)
    answer = answer_in_file(run_folder, wishes)
    if answer is not None:
        return {**answer, "source": "file"}
    if level is Level.QUICK:
        _log.warning("what is found in %s is taken by its headers alone: damaged bytes go unnoticed", run_folder)
    return {**own_look(run_folder, wishes, level, refused=refused_in_file(run_folder)), "source": "own look"}


def latest_held_in(folder: str, service: Service, wishes: resume.Wishes, *, lease: Lease, **how: Any) -> dict[str, Any]:
    """As `latest_in`, with a lease where one can be had: that there is none stops no job."""
    try:
        return latest_in(folder, service, wishes, lease=lease, **how)
    except NotAllowed as refusal:
        _log.warning("nothing holds the resume point while it is loaded: %s", refusal)
        return latest_in(folder, service, wishes, **how)


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
    if any(not candidate.copy for candidate in discover(run_folder).candidates):
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


def rebased(answer: Mapping[str, Any], root: str) -> str:
    """The checkpoint's path as this process sees it: below `root`, where the watched folder is mounted elsewhere.

    What we found ourselves, or by the file beside it, lies where we saw it.
    """
    told = answer.get("source", "service") == "service"
    return os.path.join(root, answer["relative_path"]) if root and told else str(answer["path"])
