"""What made a checkpoint: the job's commit, and the versions of what it runs on."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from typing import Final

from lastgood import __version__

_TOLD: Final = ("torch", "numpy", "safetensors", "transformers", "accelerate", "tokenizers")
_SECONDS: Final = 5.0


@cache
def git_commit() -> str | None:
    """The commit of the working folder; None where there is none, or no git to ask. Asked once."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - whichever git the person uses
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip() or None


def versions() -> dict[str, str]:
    """Of Python, lastgood, and those of the usual libraries that the job has loaded."""
    found = {"python": platform.python_version(), "lastgood": __version__}
    for name in _TOLD:
        if name in sys.modules:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:  # loaded from where it was not installed
                continue
    return found
