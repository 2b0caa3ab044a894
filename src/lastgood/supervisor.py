"""`lastgood up`: worker and service as two children; both end when one does, or when we are told to."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Final

import click

from lastgood.addresses import asked_at, url_of
from lastgood.discovery import is_checkpoint
from lastgood.errors import SettingsError
from lastgood.settings import setting_as_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastgood.settings import Settings

_SET_PARENT_DEATH_SIGNAL: Final = 1  # prctl(2)
_GRACE_SECONDS: Final = 5.0
_LOOK_EVERY: Final = 0.2


def run_both(settings: Settings) -> int:
    """Runs until a signal (exit code 0) or until a child ends by itself (exit code 2)."""
    _make_folders(settings.roots)
    settings = settings.model_copy(update={"port": settings.port or _free_port(settings.host)})
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    environ = _environ(settings)
    children = {name: _start(f"lastgood_{name}", environ) for name in ("worker", "service")}
    _greet(settings)
    died = None
    while not stop.wait(_LOOK_EVERY) and died is None:
        died = next((name for name, child in children.items() if child.poll() is not None), None)
    _end(list(children.values()))
    if died is None or stop.is_set():  # Ctrl-C reaches the children too: they may have ended before we noticed
        click.echo("lastgood: stopped", err=True)
        return 0
    click.echo(f"lastgood: the {died} ended with code {children[died].returncode}; its last lines say why", err=True)
    return 2


def _make_folders(roots: Sequence[str]) -> None:
    for root in roots:
        if ":" in root:
            raise SettingsError(
                f"{root} has a colon in its name: watch its parent, or set LASTGOOD_ROOTS to a link to it"
            )
        if is_checkpoint(root):  # that nothing was saved in it would be true, and would make a job start from scratch
            raise SettingsError(f"{root} is a checkpoint: watch the folder that holds it, {os.path.dirname(root)}")
        if os.path.isdir(root):
            continue
        if os.path.lexists(root):
            raise SettingsError(f"{root} is not a folder")
        try:
            os.mkdir(root)
        except OSError as error:
            raise SettingsError(f"{root} is not there, and cannot be made: {error.strerror}") from None
        click.echo(f"lastgood: made {root}, which was not there", err=True)


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _environ(settings: Settings) -> dict[str, str]:
    chosen = (setting_as_environment(name, getattr(settings, name)) for name in settings.model_fields_set | {"port"})
    return {**os.environ, **dict(chosen)}


def _start(module: str, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module],  # -P: whatever lies in the working folder is not ours to import
        env=environ,
        preexec_fn=_end_with_parent,  # noqa: PLW1509 - no thread runs yet
    )


def _end_with_parent() -> None:
    """A supervisor that is killed outright takes its children along, so that no second pair fights over the catalog."""
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _greet(settings: Settings) -> None:
    for root in settings.roots:
        click.echo(f"lastgood: watching {root}", err=True)
    click.echo(f"lastgood: page at {url_of(asked_at(settings.host), settings.port)}/; Ctrl-C ends both", err=True)


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    for child in children:
        if child.poll() is None:
            child.terminate()
    for child in children:
        try:
            child.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
