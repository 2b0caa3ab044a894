"""What is kept, what is removed, and why; and a person's word on it."""

from __future__ import annotations

import getpass
import time
from typing import TYPE_CHECKING, Any, Final

import click

from lastgood import rendering
from lastgood.cli.base import GOOD, WANTING, answer, commands, json_option, service_with, settings_with
from lastgood.cli.finding import checkpoint_meant, in_place, to_undo
from lastgood.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from lastgood.calling import Service

_PATIENCE_SECONDS: Final = 15.0
_LOOK_EVERY: Final = 0.1

_run = click.option("--run", help="Which run, where there are several.")
_json = json_option("The service's answer, as JSON.")


def names_one(command: Callable[..., int]) -> Callable[..., int]:
    """A command about WHAT, one checkpoint, with --run and --json."""
    return click.argument("what", metavar="WHAT")(_run(_json(command)))


@commands.command()
@names_one
def pin(what: str, *, run: str | None, as_json: bool) -> int:
    """Keep WHAT, a name, id or path, until it is unpinned."""
    settings = settings_with()
    service = service_with(settings)
    found = checkpoint_meant(service, settings, what, run, in_place)
    hold = service.put(f"/checkpoints/{found['id']}/pin", {"holder": _this_person()})
    answer(hold, f"{found['name']} of run {found['run']} is pinned by {hold['holder']}", as_json=as_json)
    return GOOD


@commands.command()
@names_one
def unpin(what: str, *, run: str | None, as_json: bool) -> int:
    """Leave WHAT, a name, id or path, to the rules again."""
    settings = settings_with()
    service = service_with(settings)
    found = checkpoint_meant(service, settings, what, run, in_place)
    service.delete(f"/checkpoints/{found['id']}/pin")
    answer(None, f"{found['name']} of run {found['run']} is not pinned", as_json=as_json)
    return GOOD


@commands.command()
@names_one
def remove(what: str, *, run: str | None, as_json: bool) -> int:
    """Move WHAT, a name, id or path, to the trash."""
    settings = settings_with()
    service = service_with(settings)
    found = checkpoint_meant(service, settings, what, run, in_place)
    return _told(service, service.delete(f"/checkpoints/{found['id']}"), as_json=as_json)


@commands.command()
@names_one
def undo(what: str, *, run: str | None, as_json: bool) -> int:
    """Bring WHAT, a name, id or path, back from the trash; or hand it out again, after jobs failed to start from it."""
    settings = settings_with()
    service = service_with(settings)
    found = checkpoint_meant(service, settings, what, run, to_undo)
    return _told(service, service.post(f"/checkpoints/{found['id']}/undo"), as_json=as_json)


@commands.command()
@_run
@click.option("--apply", is_flag=True, help="Carry the plan out now.")
@click.option("--confirm", metavar="PLAN", help="The plan that is meant; refused where it is another one by now.")
@_json
def retention(*, run: str | None, apply: bool, confirm: str | None, as_json: bool) -> int:
    """What would be removed now, and why everything else is kept."""
    if confirm and not apply:
        raise click.UsageError("--confirm says which plan --apply is to carry out: give both")
    service = service_with(settings_with())
    if apply:
        return _told(service, service.post("/retention/apply", {"run": run, "confirm": confirm}), as_json=as_json)
    found = service.get("/retention", {"run": run})
    answer(found, rendering.retention(found, colour=True), as_json=as_json)
    return GOOD


def _told(service: Service, request: dict[str, Any], *, as_json: bool) -> int:
    """Prints how the worker carried the request out. Unreachable where it does not come to it."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while request["state"] == "open":
        if time.monotonic() >= until:
            raise Unreachable(
                f"the worker has not picked it up within {_PATIENCE_SECONDS:g} s: it stays queued, as request "
                f"{request['id']}; `lastgood status` tells whether a worker is running"
            )
        time.sleep(_LOOK_EVERY)
        request = service.get(f"/requests/{request['id']}")
    answer(request, request["result"], as_json=as_json)
    return GOOD if request["state"] == "done" else WANTING


def _this_person() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # in a container nobody may have a name
        return None
