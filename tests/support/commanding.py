"""The commands, by the program's own entry, in an environment in which nobody's settings lie."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from lastgood import cli
from running import free_port

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def settle_in(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which nobody's settings lie, and no service answers."""
    for name in list(os.environ):
        if name.startswith("LASTGOOD_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LASTGOOD_STATE_DIR", str(place / "state"))
    monkeypatch.setenv("LASTGOOD_PORT", str(free_port()))
    monkeypatch.chdir(place)
    return place


def run(*arguments: object) -> tuple[int, str, str]:
    """The exit code, what was printed, and what was complained of."""

    class Entry:
        """`main` ends the process: under CliRunner that is an exit code like any other."""

        name = "lastgood"

        @staticmethod
        def main(args: list[str], **_: Any) -> None:
            before, sys.argv = sys.argv, ["lastgood", *args]
            try:
                cli.main()
            finally:
                sys.argv = before

    result = CliRunner().invoke(Entry, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr
