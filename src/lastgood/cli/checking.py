"""Whether everything is in place: each check is one line."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from lastgood import ownership
from lastgood.cli.base import GOOD, WANTING, commands, json_option, say, service_with, settings_with
from lastgood.errors import LastgoodError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lastgood.cloud import Capabilities
    from lastgood.remote import Store
    from lastgood.settings import Settings

_PATIENCE: Final = 0.1  #: a person waits, and sees what is wrong


class Found(NamedTuple):
    """What one check found."""

    check: str
    ok: bool
    message: str


@commands.command()
@click.argument("what", required=False, type=click.Choice(["s3"]), metavar="[s3]")
@json_option("One JSON object a line and check.")
def doctor(what: str | None, *, as_json: bool) -> int:
    """See whether everything is in place; `doctor s3` tells what the place for copies is able to do.

    Exit code of `doctor s3`: 1 where copies there are less safe than they could be, 2 where there can be none.
    """
    settings = settings_with()
    if what == "s3":
        return _doctor_s3(settings, as_json=as_json)
    ok = True
    for found in (found for check in _CHECKS for found in check(settings)):
        ok = ok and found.ok
        mark = click.style("✓", fg="green") if found.ok else click.style("✗", fg="red")
        say(json.dumps(found._asdict()) if as_json else f"{mark} {found.check}: {found.message}")
    return GOOD if ok else WANTING


# --- the checks ---


def _state_folder(settings: Settings) -> Iterator[Found]:
    closed = ownership.why_closed("the state folder", settings.state_dir, write=True)
    there = os.path.isdir(settings.state_dir)
    well = settings.state_dir if there else f"{settings.state_dir} is not there yet; the worker makes it"
    yield Found("state folder", closed is None, closed or well)


def _watched_folders(settings: Settings) -> Iterator[Found]:
    for root in settings.roots:
        missing = None if os.path.isdir(root) else f"{root} is not there"
        trouble = ownership.why_closed("the watched folder", root, write=False) or missing
        yield Found("watched folder", trouble is None, trouble or root)


def _service(settings: Settings) -> Iterator[Found]:
    service = service_with(settings)
    try:
        status = service.get("/status")
        obstacles = [f"{obstacle['message']}: {obstacle['advice']}" for obstacle in status["obstacles"]]
        yield Found("service", not obstacles, "; ".join(obstacles) or f"it answers at {service.url}, and is ready")
    except LastgoodError as error:
        yield Found("service", ok=False, message=str(error))
    except (KeyError, TypeError):
        yield Found("service", ok=False, message=f"what answers at {service.url} is not lastgood")


def _s3(settings: Settings) -> Iterator[Found]:
    from lastgood import rendering_copies

    if not settings.remote:
        return
    try:
        with _near(settings) as store:
            able = _probed(store)
        weak = "; ".join(words for good, words in rendering_copies.consequences(able) if not good)
        well = f"copies in {settings.remote} can be proven, and fetched; `lastgood doctor s3` tells more"
        strong = rendering_copies.is_strong(able)
        yield Found("s3", strong, well if strong else weak)
    except LastgoodError as error:
        yield Found("s3", ok=False, message=str(error))


_CHECKS: Final[tuple[Callable[[Settings], Iterator[Found]], ...]] = (_state_folder, _watched_folders, _service, _s3)


# --- the place for copies ---


def _doctor_s3(settings: Settings, *, as_json: bool) -> int:
    from lastgood import rendering_copies

    with _near(settings) as store:
        able, url, address = _probed(store), store.remote.url(), store.address
    found = rendering_copies.store_as_json(able, url, address)
    say(json.dumps(found) if as_json else rendering_copies.store(able, url, address))
    with contextlib.suppress(LastgoodError):  # nobody may be there, or we may not ask: then it finds out by itself
        service_with(settings).post("/copies/probe")
    return GOOD if rendering_copies.is_strong(able) else WANTING


@contextlib.contextmanager
def _near(settings: Settings) -> Iterator[Store]:
    from lastgood.cloud import Remote
    from lastgood.pulling import opened

    remote = Remote.needed_of(settings)
    with opened(replace(remote, patience=_PATIENCE, connect_timeout=min(remote.connect_timeout, 5.0))) as store:
        yield store


def _probed(store: Store) -> Capabilities:
    """RemoteError where it cannot be reached, at once: `probe` would try for a while."""
    from lastgood.remote import probe

    next(store.listed(store.remote.prefix), None)
    return probe(store)
