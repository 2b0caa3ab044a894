"""What the service is asked: the resume point, how things stand, what happened."""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from lastgood import rendering
from lastgood.cli.base import (
    GOOD,
    PLACE,
    WANTING,
    answer,
    commands,
    complain,
    json_option,
    mention,
    service_with,
    settings_with,
)
from lastgood.errors import LastgoodError, NoCheckpointsYet, NoneAcceptable, Unreachable
from lastgood.facts import Level
from lastgood.findings import Verdict

if TYPE_CHECKING:
    from lastgood.calling import Service
    from lastgood.client import Fetch, Question
    from lastgood.resume import Wishes
    from lastgood.settings import Settings

_FOLLOW_EVERY: Final = 1.0
_MOST_REASONS: Final = 10


class _WithLease(click.Command):
    """Seconds follow `--lease=` alone: the word after `--lease` is the folder."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [arg.replace("--lease=", "--lease-for=", 1) for arg in args])


class _Seconds(click.FloatRange):
    """Not a number is neither below nor above any bound, and would pass."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return found


@commands.command(cls=_WithLease)
@click.argument("where", required=False, type=PLACE, metavar="[DIR|URL]")
@click.option("--run", help="Which run, where there are several.")
@click.option("--accept", type=click.Choice(["complete", "partial"]), help="The least verdict to take.")
@click.option("--require", default="", help="Components that must be there, such as optimizer,rng.")
@click.option("--world-size", type=click.IntRange(1), help="Only what was saved by this many processes.")
@click.option("--max-step", type=click.IntRange(0), help="Nothing later than this step.")
@click.option("--strict", is_flag=True, help="Refuse warnings as well.")
@click.option("--wait", type=_Seconds(0, 600), default=0.0, help="Seconds to wait for a newer one in work.")
@click.option("--quick", is_flag=True, help="Where nobody watches DIR: by headers alone, not every byte.")
@click.option("--fetch", is_flag=True, help="Where nothing in DIR will do, bring the last good copy from the cloud.")
@click.option("--lease", is_flag=True, help="It is not removed for a while; --lease=2h says how long.")
@click.option("--lease-for", hidden=True)
@click.option("--or-none", is_flag=True, help="Print nothing, and succeed, where nothing has been saved yet.")
@click.option("--json", "as_json", is_flag=True, help="The whole answer, as JSON.")
def latest(
    where: str | None,
    *,
    run: str | None,
    wait: float,
    quick: bool,
    fetch: bool,
    or_none: bool,
    as_json: bool,
    **wishes: Any,
) -> int:
    """Print the path of the last good checkpoint.

    In a script: CKPT=$(lastgood latest ./output --or-none) || exit 1
    """
    from lastgood import client

    try:
        settings = settings_with()
        service, question = _asked(settings, where, run=run, wait=wait, **wishes)
        if where and not _is_url(where):
            level = Level.QUICK if quick else Level.FULL
            here = replace(question, root=settings.root, level=level, fetch=_fetch(settings) if fetch else None)
            found = client.latest_in(where, service, here)
        elif fetch:
            raise click.UsageError("--fetch brings a copy into a folder: name it, as in: lastgood latest DIR --fetch")
        else:
            found = _from_service(service, question)
    except LastgoodError as error:
        if or_none and isinstance(error, NoCheckpointsYet):
            return GOOD
        if as_json:
            click.echo(json.dumps({"detail": str(error), **getattr(error, "details", {})}))
        if isinstance(error, NoneAcceptable):
            return _refused(error)
        raise
    return _answered({**found, "path": client.rebased(found, settings.root)}, as_json=as_json)


@commands.command()
@json_option("The whole object, as JSON.")
def status(*, as_json: bool) -> int:
    """What is watched, what is handed out, what is in work."""
    found = service_with(settings_with()).get("/status")
    answer(found, rendering.status(found), as_json=as_json)
    return GOOD if found["ready"] else WANTING


@commands.command()
@click.option("-f", "--follow", is_flag=True, help="Go on printing what happens.")
@click.option("--since", type=click.IntRange(0), default=0, help="Only events after this id.")
@json_option("One JSON object a line.")
def events(*, follow: bool, since: int, as_json: bool) -> int:
    """What happened, oldest first."""
    service = service_with(settings_with())
    while True:
        found = service.get("/events", {"since": since, "limit": 500})
        for event in found["items"]:
            answer(event, rendering.event(event), as_json=as_json)
            since = event["id"]
        if found["items"]:
            continue
        if not follow:
            return GOOD
        time.sleep(_FOLLOW_EVERY)


def _asked(
    settings: Settings,
    where: str | None,
    *,
    run: str | None,
    wait: float,
    lease: bool,
    lease_for: str | None,
    **wishes: Any,
) -> tuple[Service, Question]:
    """Whom to ask, and what."""
    from lastgood import client

    question = client.Question(
        _wishes(settings, **wishes),
        run=run,
        accept_as_set=wishes["accept"] is None and client.is_default_accept(settings),
        wait=wait,
        lease=client.lease_wanted(_seconds(lease_for) if lease_for is not None else lease),
    )
    return service_with(settings, where if where and _is_url(where) else None), question


def _from_service(service: Service, question: Question) -> dict[str, Any]:
    from lastgood import client

    try:
        return client.latest_from_service(service, question)
    except Unreachable as error:
        raise Unreachable(
            f"{error}; start one with `lastgood up DIR`, or ask about a folder: lastgood latest DIR"
        ) from error


def _answered(found: dict[str, Any], *, as_json: bool) -> int:
    from lastgood.remarks import remarks_on

    click.echo(json.dumps(found) if as_json else found["path"])
    for remark in remarks_on(found):
        complain(f"warning: {remark}")
    return GOOD


def _refused(refusal: NoneAcceptable) -> int:
    """With every reason, and the way to use one anyway."""
    complain(str(refusal))
    refused = refusal.details.get("refused", ())
    for skipped in refused[:_MOST_REASONS]:
        mention(f"  {skipped['name']}: {skipped['message']}")
    if len(refused) > _MOST_REASONS:
        mention(f"  and {len(refused) - _MOST_REASONS} older ones; --json tells all")
    if command := refusal.details.get("accept_with"):
        mention(f"  to use {refusal.details['best_partial']['name']} anyway: {command}")
    return WANTING


def _fetch(settings: Settings) -> Fetch:
    """SettingsError where there is no place to fetch from: that nothing was saved would not be true."""
    from lastgood.client import Fetch
    from lastgood.cloud import Remote
    from lastgood.progress import progress_bar

    Remote.needed_of(settings)
    return Fetch(settings, lambda name, total: progress_bar(name, sys.stderr, total))


def _is_url(where: str) -> bool:
    return where.startswith(("http://", "https://"))


def _seconds(text: str) -> float:
    from lastgood.settings_values import seconds_in

    try:
        return float(seconds_in(text))
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}", param_hint="--lease") from None


def _wishes(settings: Settings, *, require: str, accept: str | None, **others: Any) -> Wishes:
    from lastgood.client import components_named
    from lastgood.resume import Wishes

    components = components_named(require.split(","))
    return Wishes(accept=Verdict(accept or settings.accept), order=settings.order, require=components, **others)
