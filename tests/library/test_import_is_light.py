"""`import lastgood` costs a training job nothing that it has not loaded itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = ["torch", "numpy", "boto3", "sqlalchemy", "fastapi"]


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("import lastgood", id="the import itself"),
        pytest.param("import lastgood; assert lastgood.__all__", id="looking at what it offers"),
        pytest.param("import lastgood.verify", id="the judge"),
    ],
)
def test_importing_loads_nothing_heavy(program: str) -> None:
    look = f"import sys; {program}; print(*(name for name in {HEAVY} if name in sys.modules))"
    child = subprocess.run(
        [sys.executable, "-c", look],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.stdout.strip(), child.stderr) == ("", "")
