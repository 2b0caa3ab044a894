"""What every command works with."""

from __future__ import annotations

import functools
import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from lastgood import __version__, rendering
from lastgood.errors import LastgoodError
from lastgood.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lastgood.calling import Service
    from lastgood.settings import Settings

GOOD, WANTING, NOT_DONE = 0, 1, 2


class _Place(click.ParamType[str]):
    """A path. An empty one would be the folder that one happens to stand in."""

    name = "path"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.strip():
            self.fail("it is empty: is the variable set?", param, ctx)
        return value


PLACE = _Place()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def commands() -> None:
    """Watches the folder a training job saves into, and answers: which is the last good checkpoint?"""


def settings_with(**flags: Any) -> Settings:
    # pydantic takes a fifth of a second to import: whoever only verifies does not wait for it.
    from lastgood.settings import read_settings
    from lastgood.settings_file import settings_text

    given = {name: value for name, value in flags.items() if value is not None}
    return read_settings(os.environ, settings_text(), given)


def service_with(settings: Settings, url: str | None = None) -> Service:
    from lastgood.calling import service_of

    return service_of(settings, url)


def complain(message: str) -> None:
    mention(f"lastgood: {message}")


def mention(text: str) -> None:
    """On standard error, beside the output."""
    click.echo(printable(text), err=True)


def answer(found: Any, words: str, *, as_json: bool) -> None:
    """As JSON, where that is asked for; else in words."""
    if as_json:
        click.echo(json.dumps(found))
    else:
        say(words)


@contextmanager
def errors_as_json(*about: Mapping[str, Any], as_json: bool) -> Iterator[None]:
    """What goes wrong is raised all the same; where JSON is asked for, it is an object for each of these as well."""
    try:
        yield
    except LastgoodError as error:
        for each in about if as_json else ():
            click.echo(json.dumps({**each, "error": str(error)}))
        raise


def json_option(words: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """--json, for a command about nothing that an error could be told of: it is `{"error": …}`."""

    def with_option(command: Callable[..., int]) -> Callable[..., int]:
        @click.option("--json", "as_json", is_flag=True, help=words)
        @functools.wraps(command)
        def told(*, as_json: bool, **given: Any) -> int:
            with errors_as_json({}, as_json=as_json):
                return command(as_json=as_json, **given)

        return told

    return with_option


def say(text: str) -> None:
    """On standard output; in colour where that takes it."""
    shown = printable(text)
    click.echo(shown if rendering.takes_colour(sys.stdout, os.environ) else click.unstyle(shown))
