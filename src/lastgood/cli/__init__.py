"""Every command. Exit codes: 0 good, 1 judged and found wanting, 2 could not be done."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

import click

from lastgood.cli import asking, checking, copying, judging, keeping, mending, running
from lastgood.cli.base import GOOD, NOT_DONE, WANTING, commands, complain
from lastgood.errors import CannotMend, Conflict, LastgoodError, NoCheckpointsYet, NoneAcceptable, NotACopy

__all__ = ["asking", "checking", "commands", "copying", "judging", "keeping", "main", "mending", "running"]


def main() -> None:
    """The program's entry: errors of ours become one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):  # a file may be called by bytes that no encoding knows
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = commands(standalone_mode=False)
        sys.stdout.flush()
    except LastgoodError as error:
        complain(str(error))
        code = (
            WANTING
            if isinstance(error, NoneAcceptable | NoCheckpointsYet | Conflict | NotACopy | CannotMend)
            else NOT_DONE
        )
    except click.ClickException as error:
        error.show()
        code = NOT_DONE
    except (click.Abort, KeyboardInterrupt):
        code = NOT_DONE
    except BrokenPipeError:  # whoever read our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = GOOD
    except OSError as error:  # a disk that is full, say, where the output goes
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        complain(f"the output cannot be written: {error.strerror or error}")
        code = NOT_DONE
    sys.exit(code)
