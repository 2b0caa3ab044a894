"""What every test shares: the longest come first, and programs that are missing are named."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile

import pytest

# Nothing of whoever runs the tests: boto3 finds what a test puts into this file, in every process that we start.
_KEYS = tempfile.NamedTemporaryFile(prefix="lastgood-keys-")  # noqa: SIM115 - as long as the tests run
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[_name]
os.environ.update(AWS_SHARED_CREDENTIALS_FILE=_KEYS.name, AWS_CONFIG_FILE=os.devnull, AWS_EC2_METADATA_DISABLED="true")


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
