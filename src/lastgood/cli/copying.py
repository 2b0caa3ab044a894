"""Copies in the cloud: fetched here and now, looked at, and asked for."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from lastgood.cli.base import (
    GOOD,
    NOT_DONE,
    PLACE,
    WANTING,
    answer,
    commands,
    complain,
    json_option,
    say,
    service_with,
    settings_with,
)
from lastgood.cli.finding import checkpoint_meant, in_place
from lastgood.cli.keeping import names_one
from lastgood.errors import NoneAcceptable, RemoteError, RunAmbiguous, Unknown, Unreachable
from lastgood.findings import Verdict
from lastgood.progress import progress_bar
from lastgood.wording import none_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastgood.calling import Service
    from lastgood.cloud import CloudCopy, Found
    from lastgood.remote import Store
    from lastgood.settings import Settings

_LOOK_EVERY: Final = 0.3

_run = click.argument("run", required=False, metavar="[RUN]")


# --- here and now ---


@commands.command()
@_run
@click.option("--step", type=click.IntRange(0), help="The copy of this step, not the one to start from.")
@click.option("--accept", type=click.Choice(["complete", "partial"]), help="The least verdict to take.")
@click.option(
    "--into", type=PLACE, metavar="DIR", help="The run's folder. Otherwise RUN below the watched folder, or here."
)
@json_option("The copy and its path, as JSON.")
def pull(run: str | None, *, step: int | None, accept: str | None, into: str | None, as_json: bool) -> int:
    """Fetch a proven copy of RUN from the cloud, and print its path here. No service is needed.

    RUN may be left out where there are copies of one alone. In a script: CKPT=$(lastgood pull my_model) || exit 1
    """
    from lastgood import rendering_copies, returning
    from lastgood.cloud import Remote
    from lastgood.pulling import opened
    from lastgood.pulling import pull as fetched

    settings = settings_with()
    with opened(Remote.needed_of(settings)) as store:
        from lastgood.remote import find_copies

        name = _run_in(store, run) if run else _only_run(store)
        found = find_copies(store, name)
        for why in found.broken.values():
            complain(f"warning: {why}")
        copy = _of_step(found, step) if step is not None else _to_start_from(found, name, accept, settings)
        how: dict[str, Any] = {"by": returning.PERSON, "threads": settings.verify_threads}
        with progress_bar(copy.name, sys.stderr, copy.bytes) as hears:
            path = fetched(store, copy, os.path.abspath(into or _folder_of(name, settings)), hears=hears, **how)
        about = {"path": path, **rendering_copies.copy_as_json(copy, store.remote)}
    click.echo(json.dumps(about) if as_json else path)
    return GOOD


def _run_in(store: Store, run: str) -> str:
    """Unknown, with those that there are, where there are no copies of it."""
    from lastgood.remote import find_runs

    runs = find_runs(store)
    if run not in runs:
        known = f"it holds those of {', '.join(runs)}" if runs else "it holds none at all"
        raise Unknown(f"{store.remote.url()} holds no copies of run {run}; {known}", runs=runs)
    return run


def _only_run(store: Store) -> str:
    """RunAmbiguous, with those that there are, where there are several."""
    from lastgood.remote import find_runs

    runs, where = find_runs(store), store.remote.url()
    if not runs:
        raise Unknown(f"there are no copies in {where}", runs=runs)
    if len(runs) > 1:
        raise RunAmbiguous(f"{where} holds copies of several runs: {', '.join(runs)}; name one of them", runs=runs)
    return runs[0]


def _of_step(found: Found, step: int) -> CloudCopy:
    """The newest proven one. Unknown with the steps that there are."""
    proven = [copy for copy in found.copies if copy.proof is not None]
    of_step = [copy for copy in proven if copy.step == step]
    if not of_step:
        steps = ", ".join(str(step) for step in sorted({copy.step for copy in proven})) or "no step"
        raise Unknown(f"there is no proven copy of step {step}; there are those of {steps}")
    return max(of_step, key=lambda copy: copy.saved_at)


def _to_start_from(found: Found, run: str, accept: str | None, settings: Settings) -> CloudCopy:
    """NoneAcceptable where none will do."""
    from lastgood.cloud import newest_copy
    from lastgood.resume import Wishes

    wishes = Wishes(Verdict(accept or settings.of_run(run).accept), order=settings.order)
    copy = newest_copy(found.copies, wishes)
    if copy is not None:
        return copy
    message = f"{none_of(len(found.copies), 'copy', 'copies')} of run {run} can be started from"
    if partial := newest_copy(found.copies, replace(wishes, accept=Verdict.PARTIAL)):
        message += f"; {partial.name} could be with --accept partial"
    raise NoneAcceptable(message)


def _folder_of(run: str, settings: Settings) -> str:
    from lastgood.placing import folder_of_run

    roots = (settings.root,) if settings.root else settings.roots
    return folder_of_run(run, roots) or run


# --- what lies there ---


@commands.group("remote")
def remote_commands() -> None:
    """The copies in the cloud: list them, and see that they are what they were. No service is needed."""


@remote_commands.command("ls")
@_run
@json_option("One JSON object a line.")
def ls(run: str | None, *, as_json: bool) -> int:
    """List the copies of RUN, or of all runs."""
    from lastgood import rendering_copies
    from lastgood.cloud import Remote
    from lastgood.pulling import opened

    with opened(Remote.needed_of(settings_with())) as store:
        found, remote = _found(store, run), store.remote
    if as_json:
        lines = rendering_copies.found_as_json(found, remote)
        click.echo("\n".join(map(json.dumps, lines)), nl=bool(lines))
    elif found.copies or found.broken:
        say(rendering_copies.listed(found, remote, terminal=sys.stdout.isatty()))
    else:
        complain(f"there are no copies in {remote.url()}")
    return GOOD


@remote_commands.command("verify")
@_run
@click.option("--step", type=click.IntRange(0), help="Only the copies of this step.")
@click.option("--read", is_flag=True, help="Read every byte, also where the store keeps a digest.")
@json_option("One JSON object a line and copy.")
def verify(run: str | None, *, step: int | None, read: bool, as_json: bool) -> int:
    """See whether the copies of RUN, or of all runs, still are what they were."""
    from lastgood import rendering_copies
    from lastgood.cloud import Remote
    from lastgood.pulling import opened

    with opened(Remote.needed_of(settings_with())) as store:
        found = _of_steps(_found(store, run), step, store)
        if not found.copies and not found.broken:
            complain(f"there are no copies in {store.remote.url()}")
        for key, why in found.broken.items():
            told = {"url": store.remote.url(key), "good": False, "problems": [why], "unread": 0}
            answer(told, rendering_copies.checked(told), as_json=as_json)
        codes = [_verified(store, copy, read=read, as_json=as_json) for copy in found.copies]
    return max([*codes, WANTING if found.broken else GOOD])


def _found(store: Store, run: str | None) -> Found:
    from lastgood.remote import find_copies

    return find_copies(store, _run_in(store, run) if run else None)


def _of_steps(found: Found, step: int | None, store: Store) -> Found:
    """Unknown where there is none of this step."""
    from lastgood.cloud import Found
    from lastgood.naming import step_in_name

    if step is None:
        return found
    copies = tuple(copy for copy in found.copies if copy.step == step)
    places = {key: store.remote.place_of(key) for key in found.broken}
    broken = {key: found.broken[key] for key, place in places.items() if place and step_in_name(place[1]) == step}
    if not copies and not broken:
        raise Unknown(f"there is no copy of step {step} in {store.remote.url()}")
    return Found(copies, broken)


def _verified(store: Store, copy: CloudCopy, *, read: bool, as_json: bool) -> int:
    from lastgood import rendering_copies
    from lastgood.remote import verify_copy

    try:
        with progress_bar(copy.name, sys.stderr, copy.bytes) as hears:
            checked = verify_copy(store, copy, read=read, hears=hears)
    except RemoteError as error:
        if error.transient:
            raise  # the next one would fare no better
        complain(str(error))
        if as_json:
            click.echo(json.dumps({"url": store.remote.url(copy.key), "error": str(error)}))
        return NOT_DONE
    told = rendering_copies.checked_as_json(checked, store.remote.url(copy.key))
    answer(told, rendering_copies.checked(told), as_json=as_json)
    return GOOD if checked.good else WANTING


# --- asked for ---


@commands.command()
@names_one
def push(what: str, *, run: str | None, as_json: bool) -> int:
    """Copy WHAT, a name, id or path, to the cloud now, and wait until the copy is proven."""
    settings = settings_with()
    service = service_with(settings)
    found = checkpoint_meant(service, settings, what, run, in_place)
    request = _followed(service, service.post(f"/checkpoints/{found['id']}/push"), found)
    answer(request, request["result"], as_json=as_json)
    return GOOD if request["state"] == "done" else WANTING


def _followed(service: Service, request: dict[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """The request once it is closed, however long that takes. Unreachable where no worker is alive."""
    sent, told = 0, None
    with progress_bar(about["name"], sys.stderr, about["bytes"]) as hears:
        while request["state"] == "open":
            status = service.get("/status")
            if not status["worker"]["alive"]:
                raise Unreachable(f"no worker is alive: it stays queued, as request {request['id']}")
            cloud = status.get("cloud") or {}
            done = _bytes_sent(cloud.get("errand") or {}, about, sent)
            hears(done - sent)
            trouble = cloud.get("trouble") or _why_not_yet(service, about)
            if trouble not in (None, told):
                complain(f"{trouble}; the worker tries again")
            sent, told = done, trouble or told
            time.sleep(_LOOK_EVERY)
            request = service.get(f"/requests/{request['id']}")
    return request


def _why_not_yet(service: Service, about: Mapping[str, Any]) -> str | None:
    """Why the last try did not succeed, if there was one."""
    copy = service.get(f"/checkpoints/{about['id']}").get("cloud_copy") or {}
    return copy.get("error") if copy.get("state") == "failed" else None


def _bytes_sent(errand: Mapping[str, Any], about: Mapping[str, Any], before: int) -> int:
    """Of this one: meanwhile another may be under way."""
    return int(errand["bytes_done"]) if errand.get("checkpoint_id") == about["id"] else before
