"""What our images are built from, for an engine that reaches no network.

What takes long is made once, and kept: some 400 MB in ~/.cache/lastgood-tests.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from engine import POLITELY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine import Engine

REPOSITORY: Final = Path(__file__).parents[2]
KEPT: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lastgood-tests"
_TAKEN: Final = ("src", "worker", "service", "examples", "docker")


def sources(folder: Path, engine: Engine) -> None:
    """A clone, as it were, with every wheel in docker/wheels; and the image that ours begin with, in the engine."""
    with ThreadPoolExecutor(2) as both:
        base, fetched = both.submit(_make_base, engine), both.submit(_wheels)
        for name in _TAKEN:
            shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.whl"))
        for path in REPOSITORY.iterdir():
            if path.is_file():
                shutil.copy(path, folder)
        (folder / ".env").unlink(missing_ok=True)
        for wheel in fetched.result().iterdir():
            _link(wheel, folder / "docker/wheels" / wheel.name)
        base.result()


def _make_base(engine: Engine) -> None:
    script = REPOSITORY / "docker/base-from-debian.sh"
    archive = _place_for("base.tar", script.read_text(encoding="utf-8"))
    _run(["sh", str(script), str(archive)], engine.environ)


def _wheels() -> Path:
    """A folder that holds them. Skips the test where torch's build for the CPU alone cannot be had."""
    if not version("torch").endswith("+cpu"):
        pytest.skip("pip has no build of torch for the CPU alone here, and with the other an image takes gigabytes")
    needed = [*_requirements(), *_requirements("worker", "s3", "service", "torch"), "hatchling"]
    constraints = REPOSITORY / "constraints.txt"
    place = _place_for("wheels", " ".join([*needed, constraints.read_text(encoding="utf-8")]))
    if not place.exists():
        how = ["--python-version", "3.11", "--only-binary", ":all:", "--constraint", str(constraints)]
        with tempfile.TemporaryDirectory(dir=KEPT) as draft:
            fetched = Path(draft) / "wheels"
            _run([sys.executable, "-m", "pip", "--quiet", "download", *how, "--dest", str(fetched), *needed])
            with contextlib.suppress(OSError):  # somebody else was quicker
                fetched.rename(place)
    return place


def _requirements(*extras: str) -> list[str]:
    command = [sys.executable, str(REPOSITORY / "docker/requirements.py"), *extras]
    return subprocess.run(command, text=True, capture_output=True, check=True).stdout.split()


def _place_for(name: str, recipe: str) -> Path:
    """Where what this recipe makes is kept from one run to the next. What an earlier one made is removed."""
    KEPT.mkdir(parents=True, exist_ok=True)
    place = KEPT / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    for old in set(KEPT.glob(f"{name}-*")) - {place}:
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink()
    return place


def _run(command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
    """Skips the test where it fails: what it fetches cannot be fetched here."""
    done = subprocess.run([*POLITELY, *command], env=environ, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{' '.join(command[:3])} failed: {done.stderr.strip()[-300:]}")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another filesystem
        shutil.copy(source, target)
