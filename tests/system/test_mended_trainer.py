"""Trainer itself goes on from a checkpoint of its own that was broken and mended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mended_job


@pytest.mark.timeout(300)
def test_trainer_goes_on_from_what_was_mended(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(Path(mended_job.__file__).parent)
    job = subprocess.run(
        [sys.executable, mended_job.__file__, str(tmp_path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=280,
        check=False,
    )
    assert job.returncode == 0, job.stdout.decode()[-4000:]
    told = json.loads((tmp_path / "told.json").read_text())
    assert told == {"broken": "incomplete", "mended": "complete", "same": True, "step": 6}
