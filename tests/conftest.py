"""What every test shares: programs that pip cannot install are skipped by name where they are missing."""

from __future__ import annotations

import shutil

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("needs"):
            (tool,) = mark.args
            if shutil.which(tool) is None:
                item.add_marker(pytest.mark.skip(reason=f"needs the program {tool!r}, which is not installed here"))
