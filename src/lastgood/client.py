"""Finding the resume point from a training job: the service, then its file, then our own look.

A refusal is an answer: nothing falls back after one, but to a copy in the cloud where the job asks for that. A watcher
that is down never stops a job.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from lastgood import naming, resume
from lastgood.calling import Service, service_of, token_from
from lastgood.discovery import require_folder
from lastgood.errors import (
    NoCheckpointsYet,
    NoneAcceptable,
    NotACheckpoint,
    NotAllowed,
    NotReady,
    Refusal,
    SettingsError,
    Unreachable,
)
from lastgood.facts import Component, Level
from lastgood.findings import Verdict
from lastgood.leasing import Lease, give_back, take_lease
from lastgood.own_look import own_look
from lastgood.published import answer_in_file, refused_in_file
from lastgood.pulling import Fetch
from lastgood.remarks import remarks_on, telling_what_was_refused
from lastgood.settings import read_settings
from lastgood.settings_file import settings_text
from lastgood.watched import only_run_folder, roots_above, run_here, run_watched_as

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lastgood.settings import Settings

__all__ = [
    "Fetch",
    "Lease",
    "Question",
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
_LOOK_EVERY: Final = 0.5


@dataclass(frozen=True, slots=True)
class Question:
    """What a job asks for, and how."""

    wishes: resume.Wishes
    run: str | None = None  #: None: the one that there is
    accept_as_set: bool = False  #: nobody said which verdict will do: the service's setting for the run decides
    wait: float = 0.0  #: seconds that a newer one in work is waited for
    lease: Lease | None = None  #: the one that is wanted; in the answer too, where it could be had
    root: str = ""  #: where the watched folder lies here, if at another path than where it is watched
    level: Level = Level.FULL  #: of our own look
    fetch: Fetch | None = None  #: a copy in the cloud is brought here, where nothing that is here will do


def latest_from_service(service: Service, question: Question) -> dict[str, Any]:
    """`GET /checkpoints/latest`, or `POST /leases`. Its refusals are raised; Unreachable where nobody answers."""
    try:
        return _told_by_service(service, question)
    except Refusal as refusal:
        command = refusal.details.get("pull_with")
        if not command or command in refusal.message:
            raise
        message = f"{refusal.message}; a copy in the cloud would do: {command}"
        raise type(refusal)(message, **refusal.details) from refusal


def _told_by_service(service: Service, question: Question) -> dict[str, Any]:
    wishes, wait = question.wishes, question.wait
    require = sorted(component.value for component in wishes.require)
    asked: dict[str, Any] = {
        "run": question.run,
        "accept": None if question.accept_as_set else wishes.accept.value,
        "require": require or None,
        "world_size": wishes.world_size,
        "max_step": wishes.max_step,
        "strict": True if wishes.strict else None,
    }
    if question.lease is not None:
        return take_lease(service, question.lease, asked, wait)
    in_address = {"require": ",".join(require) or None, "strict": "true" if wishes.strict else None}
    found: dict[str, Any] = service.get(
        "/checkpoints/latest", {**asked, **in_address, "wait": wait or None}, patience=wait
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
    fetch: bool = False,
) -> str | None:
    """The path of the last good checkpoint below `folder`. None: nothing was saved there yet.

    Settings are those of `lastgood latest`. `wait`: seconds that a newer one in work is waited for. `quick`: where
    nobody watches, to take what is there by its headers alone. `lease`: it is not removed for so many seconds, or for
    as long as the service's setting says. `fetch`: where nothing there will do, to bring the last good copy from the
    cloud (setting `remote`). A refusal is raised, as LastgoodError: that none of those that are there can be handed
    out is no reason to start from scratch, and neither is a store that does not answer.
    """
    settings = read_settings(os.environ, settings_text())
    wishes = resume.Wishes(
        accept=Verdict(accept or settings.accept),
        order=settings.order,
        require=components_named(require),
        world_size=world_size,
        max_step=max_step,
        strict=strict,
    )
    question = Question(
        wishes,
        run=run,
        accept_as_set=accept is None and is_default_accept(settings),
        wait=wait,
        lease=lease_wanted(lease),
        root=settings.root,
        level=Level.QUICK if quick else Level.FULL,
        fetch=Fetch(settings) if fetch else None,
    )
    try:
        with telling_what_was_refused():
            found = latest_in(os.fspath(folder), service_of(settings), question)
    except NoCheckpointsYet:
        return None
    for remark in remarks_on(found):
        _log.warning("%s", remark)
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


def latest_in(folder: str, service: Service, question: Question) -> dict[str, Any]:
    """The resume point below `folder`, from whoever can tell. The answer as JSON; `source` names who gave it.

    NotACheckpoint where there is no such folder; to be fetched into, it need not be there.
    """
    folder = os.path.abspath(folder)
    if question.fetch is None:
        require_folder(folder)
    if naming.step_in_name(os.path.basename(folder)) is not None:
        # "Nothing saved in it yet" would be true, and would make a job start from scratch.
        raise NotACheckpoint(f"{folder} is a checkpoint: name the folder that holds it, {os.path.dirname(folder)}")
    if question.fetch is None:
        return _latest_once_known(folder, service, question)
    try:
        return _latest_here(folder, service, question)
    except (NoCheckpointsYet, NoneAcceptable, NotACheckpoint) as refusal:
        roots = roots_above(service, folder, question.fetch.settings)
        run = question.run or run_here(folder)
        found = question.fetch.newest(folder, run, roots, question.wishes, refusal)
        if found is None:
            raise
        return found


def _latest_once_known(folder: str, service: Service, question: Question) -> dict[str, Any]:
    """As `_latest_here`; while it is not known which copies there are, that is waited for."""
    until = time.monotonic() + question.wait
    while True:
        try:
            return _latest_here(folder, service, question)
        except NotReady as refusal:
            if not _is_about_copies(refusal) or time.monotonic() >= until:
                raise
        time.sleep(_LOOK_EVERY)


def _latest_here(folder: str, service: Service, question: Question) -> dict[str, Any]:
    """From the service, its file, or our own look. NotACheckpoint where there is no folder of that run."""
    doubt: NotReady | None = None
    try:
        watched = run_watched_as(service, folder, question.run, question.root)
        return {**latest_from_service(service, replace(question, run=watched)), "source": "service"}
    except Unreachable as error:
        _log.info("%s", error)
    except NotReady as refusal:
        if any(obstacle.get("root") for obstacle in refusal.details.get("obstacles", ())):
            raise  # its disk is away: what we would find there now proves nothing
        _log.warning("the watcher cannot tell: %s", refusal.message)
        doubt = refusal if _is_about_copies(refusal) else None
    run_folder = only_run_folder(folder, question.run)
    if question.lease is not None:
        _log.warning("nothing keeps what is found in %s from being removed: only a service can", run_folder)
    try:
        return _by_ourselves(run_folder, question.wishes, question.level)
    except NoCheckpointsYet as refusal:
        if doubt is None or question.fetch is not None:  # which copies there are will be looked up
            raise
        raise doubt from refusal  # a job would start from scratch


def _by_ourselves(run_folder: str, wishes: resume.Wishes, level: Level) -> dict[str, Any]:
    answer = answer_in_file(run_folder, wishes)
    if answer is not None:
        return {**answer, "source": "file"}
    if level is Level.QUICK:
        _log.warning("what is found in %s is taken by its headers alone: damaged bytes go unnoticed", run_folder)
    return {**own_look(run_folder, wishes, level, refused=refused_in_file(run_folder)), "source": "own look"}


def _is_about_copies(refusal: NotReady) -> bool:
    """Whether the service does not know yet what is in the cloud."""
    return any(obstacle.get("code") == "cloud-unknown" for obstacle in refusal.details.get("obstacles", ()))


def latest_held_in(folder: str, service: Service, question: Question) -> dict[str, Any]:
    """As `latest_in`, with the lease where it can be had: that there is none stops no job."""
    try:
        return latest_in(folder, service, question)
    except NotAllowed as refusal:
        _log.warning("nothing keeps the resume point from being removed while it is loaded: %s", refusal)
        return latest_in(folder, service, replace(question, lease=None))


def rebased(answer: Mapping[str, Any], root: str) -> str:
    """The checkpoint's path as this process sees it: below `root`, where the watched folder is mounted elsewhere.

    What we found ourselves, or by the file beside it, lies where we saw it.
    """
    told = answer.get("source", "service") == "service"
    return os.path.join(root, answer["relative_path"]) if root and told else str(answer["path"])
