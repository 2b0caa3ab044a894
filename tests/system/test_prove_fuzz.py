"""Whatever bytes a checkpoint is made of: an answer, soon, in bounded memory. Led by coverage, time-boxed, seeded."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from builders import hf_files, make_hf_checkpoint, plain_files

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.prove, pytest.mark.timeout(0)]

TARGETS: Final = ("pickle", "torch", "safetensors", "json", "folder")
SECONDS: Final = float(os.environ.get("PROVE_MINUTES", "1")) * 60 / len(TARGETS)
SEED: Final = os.environ.get("PROVE_SEED", "1")
FUZZING: Final = Path(__file__).parents[1] / "support" / "fuzzing.py"


def seeds(target: str) -> Iterator[bytes]:
    """Small real files to begin with."""
    files = [*hf_files(100), *plain_files(100)]
    if target == "folder":
        yield from (f"{name}\n".encode() + content for name, content in files)
    endings = {"torch": (".pt", ".pth", ".bin"), "pickle": (".pt", ".pth", ".bin")}.get(target, f".{target}")
    for content in (content for name, content in files if name.endswith(endings)):
        yield zipfile.ZipFile(io.BytesIO(content)).read("archive/data.pkl") if target == "pickle" else content


@pytest.mark.parametrize("target", TARGETS)
def test_no_bytes_make_the_readers_fail_hang_or_swell(target: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for place, content in enumerate(seeds(target)):
        (corpus / f"{place:03}").write_bytes(content)
    make_hf_checkpoint(tmp_path / "checkpoint", 100)
    child = subprocess.run(
        [sys.executable, str(FUZZING), target, str(max(int(SECONDS), 1)), SEED, str(corpus)],
        capture_output=True,
        check=False,
        text=True,
        errors="replace",
    )
    ran = re.search(r"number_of_executed_units: (\d+)", child.stderr)
    print(f"{target}: {ran[1] if ran else 'no'} inputs in {SECONDS:.0f} s, seed {SEED}")
    assert child.returncode == 0, child.stderr[-8000:]
    assert ran is not None
