"""Ways to have a checkpoint judged: one file alone, or by somebody who may not read everything."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from lastgood.facts import FileFacts, Level, Report
from lastgood.formats import read_file
from lastgood.inventory import take_inventory
from lastgood.report_json import report_from_json

if TYPE_CHECKING:
    from pathlib import Path

_DROP_FROM_BOUNDING_SET: Final = 24  # PR_CAPBSET_DROP, prctl(2)
_RIGHTS_TO_READ_ALL: Final = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, capabilities(7)
_VERIFY: Final = """
import json, sys
from lastgood.report_json import report_as_json
from lastgood.verify import verify
print(json.dumps(report_as_json(verify(sys.argv[1]))))
"""


def facts_of(file: Path, level: Level = Level.FULL) -> FileFacts:
    """What reading this file tells; it must be alone in its folder."""
    (entry,) = take_inventory(str(file.parent)).entries
    return read_file(str(file.parent), entry, level)


def verify_as_ordinary_user(checkpoint: Path) -> Report:
    """What somebody sees who may read only what the modes of the files allow: root reads everything."""
    try:
        child = subprocess.run(
            [sys.executable, "-c", _VERIFY, str(checkpoint)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            preexec_fn=_give_up_reading_all if os.geteuid() == 0 else None,
            capture_output=True,
            check=False,
        )
    except subprocess.SubprocessError:
        pytest.skip("root is not allowed to give up CAP_DAC_OVERRIDE here")
    assert child.returncode == 0, child.stderr.decode()
    return report_from_json(json.loads(child.stdout))


def _give_up_reading_all() -> None:
    """Between fork and exec: what follows is root still, without the right to read what its mode forbids."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for right in _RIGHTS_TO_READ_ALL:
        if prctl(_DROP_FROM_BOUNDING_SET, right, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
