"""Worker and service, both or one of them."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import NoReturn

import click

from lastgood.cli.base import GOOD, PLACE, WANTING, commands, complain, settings_with


@commands.command()
@click.argument("folders", nargs=-1, required=True, type=PLACE, metavar="DIR...")
@click.option("--host", help="Address on which the service listens (default 127.0.0.1).")
@click.option("--port", type=int, help="Port on which the service listens (default 8484; 0 takes a free one).")
def up(folders: tuple[str, ...], host: str | None, port: int | None) -> int:
    """Watch DIR... and serve the answer, until Ctrl-C."""
    from lastgood.supervisor import run_both

    flags = {"roots": tuple(os.path.abspath(folder) for folder in folders), "host": host, "port": port}
    return run_both(settings_with(**flags))


@commands.command()
@click.option("--check", is_flag=True, help="Run nothing; tell by the exit code whether one is at work.")
def worker(*, check: bool) -> int:
    """Run the watching process alone."""
    if not check:
        _become("lastgood_worker")
    from lastgood.alive import trouble_of_worker
    from lastgood.catalog import worker_in

    state_dir = settings_with().state_dir
    return _well(trouble_of_worker(worker_in(state_dir), state_dir, datetime.now(UTC)))


@commands.command()
@click.option("--check", is_flag=True, help="Run nothing; tell by the exit code whether one answers.")
def service(*, check: bool) -> int:
    """Run the answering process alone."""
    if not check:
        _become("lastgood_service")
    from lastgood.alive import trouble_of_service

    settings = settings_with()
    return _well(trouble_of_service(settings.host, settings.port))


def _become(module: str) -> NoReturn:
    """The process itself, not a child of ours: signals, and the first process of a container, are its own."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", module])


def _well(trouble: str | None) -> int:
    if trouble is None:
        return GOOD
    complain(trouble)
    return WANTING
