"""What every test shares: the longest come first, and programs that are missing are named."""

from __future__ import annotations

import functools
import shutil
import subprocess

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "system" not in item.path.parts)  # the other processes fill up what these leave
    for item in items:
        for mark in item.iter_markers("needs"):
            (tool,) = mark.args
            if not is_installed(tool):
                item.add_marker(pytest.mark.skip(reason=f"needs the program {tool!r}, which is not installed here"))


@functools.cache
def is_installed(tool: str) -> bool:
    """A program, or a plugin of one: "docker compose"."""
    program, *plugin = tool.split()
    if shutil.which(program) is None:
        return False
    return not plugin or subprocess.run([program, *plugin, "version"], capture_output=True, check=False).returncode == 0
