"""What every test shares: the longest come first, and programs that are missing are named."""

from __future__ import annotations

import shutil

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "system" not in item.path.parts)  # the other processes fill up what these leave
    for item in items:
        for mark in item.iter_markers("needs"):
            (tool,) = mark.args
            if shutil.which(tool) is None:
                item.add_marker(pytest.mark.skip(reason=f"needs the program {tool!r}, which is not installed here"))
