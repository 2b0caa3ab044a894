"""What is in the wheel: three packages, the page's files, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).parents[2]
PAGE: Final = Path("service/lastgood_service/page")
_TAKEN: Final = ("src", "worker", "service", "pyproject.toml", "README.md", "LICENSE", ".gitignore")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a wheel that was built from a copy of the sources."""
    pytest.importorskip("hatchling")
    copy = tmp_path_factory.mktemp("sources")
    for name in _TAKEN:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / name, copy / name)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    (made,) = (copy / "dist").glob("*.whl")
    return zipfile.ZipFile(made).namelist()


def test_the_wheel_brings_three_packages_and_no_other_name(wheel: list[str]) -> None:
    top = {name.partition("/")[0] for name in wheel}
    (about,) = (name for name in top if name.endswith(".dist-info"))
    assert top - {about} == {"lastgood", "lastgood_worker", "lastgood_service"}


def test_every_module_and_the_page_are_in_the_wheel(wheel: list[str]) -> None:
    roots = [REPOSITORY / "src", REPOSITORY / "worker", REPOSITORY / "service"]
    modules = {str(path.relative_to(root)) for root in roots for path in root.rglob("*.py")}
    page = {str(path.relative_to(REPOSITORY / "service")) for path in (REPOSITORY / PAGE).iterdir() if path.is_file()}
    assert {"page.js", "page.css", "index.html"} <= {Path(name).name for name in page}
    assert modules | page <= set(wheel)


def test_the_wheel_says_that_its_types_are_there(wheel: list[str]) -> None:
    assert "lastgood/py.typed" in wheel
