"""Whose a folder is, and as whom one would have to run: real folders, and real other users."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lastgood.ownership import can_write_in, why_closed
from users import as_user

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNER, OTHER = 12001, 12002
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs to be root, to become others")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Of OWNER, where everybody gets to; pytest's own folders are for whoever runs it alone."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    made = place / "output"
    made.mkdir(mode=0o755)
    os.chown(made, OWNER, OWNER)
    yield made
    shutil.rmtree(place)


def told(folder: Path, uid: int, *, write: bool) -> str | None:
    found: str | None = as_user(uid, lambda: why_closed("the watched folder", str(folder), write=write))
    return found


def test_its_owner_and_root_get_in(folder: Path) -> None:
    folder.chmod(0o700)
    assert told(folder, OWNER, write=True) is None
    assert why_closed("the watched folder", str(folder), write=True) is None


def test_another_user_is_told_the_user_line_that_fits_and_the_other_way_out(folder: Path) -> None:
    assert told(folder, OTHER, write=False) is None
    assert told(folder, OTHER, write=True) == (
        f"the watched folder {folder} belongs to 12001:12001 and cannot be written by us, 12002:12002; "
        'run as its owner, in compose.yaml user: "12001:12001" (UID=12001 and GID=12001 in .env), '
        f"or give it to us with: chown -R 12002:12002 {folder}"
    )


def test_root_without_capabilities_is_another_user_like_any(folder: Path) -> None:
    assert told(folder, 0, write=False) is None
    said = told(folder, 0, write=True)
    assert said is not None
    assert "cannot be written by us, 0:0 without the capabilities to pass over owners; run as its owner" in said


def test_what_cannot_even_be_read_is_said_so(folder: Path) -> None:
    folder.chmod(0o700)
    said = told(folder, OTHER, write=True)
    assert said is not None
    assert "cannot be read by us" in said


def test_the_folder_above_that_lets_nobody_through_is_named(folder: Path) -> None:
    folder.chmod(0o700)
    (folder / "deep").mkdir()
    said = told(folder / "deep/deeper", OTHER, write=False)
    assert said is not None
    assert said.startswith(
        f"the watched folder {folder}/deep/deeper cannot be reached: {folder} belongs to 12001:12001 "
    )
    assert "cannot be entered by us" in said


@pytest.mark.parametrize(
    ("uid", "advice"),
    [
        pytest.param(OWNER, "it is ours, and lacks the right: chmod u+rwX ", id="the owner"),
        pytest.param(OTHER, "its owner may not either: give it to us with: chown -R 12002:12002 ", id="another"),
    ],
)
def test_no_user_line_is_named_where_none_would_fit(folder: Path, uid: int, advice: str) -> None:
    folder.chmod(0o500)
    said = told(folder, uid, write=True)
    assert said is not None
    assert advice in said
    assert "user:" not in said


def test_a_file_need_not_be_executable(folder: Path) -> None:
    file = folder / "catalog.db"
    file.touch(mode=0o600)
    os.chown(file, OWNER, OWNER)
    assert told(file, OWNER, write=True) is None
    assert told(file, OTHER, write=True) is not None


def test_what_is_not_there_is_for_others_to_tell(folder: Path) -> None:
    assert told(folder / "nowhere", OTHER, write=True) is None


def test_what_is_mounted_read_only_is_nobodys_mistake(folder: Path) -> None:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        assert not os.access(folder, os.W_OK)
        assert told(folder, OTHER, write=True) is None
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_one_may_write_in_a_folder_of_others_that_holds_ones_own(folder: Path) -> None:
    own = folder / "mine"
    own.mkdir()
    os.chown(own, OTHER, OTHER)
    assert as_user(OTHER, lambda: can_write_in(str(folder)))
    assert not as_user(0, lambda: can_write_in(str(folder)))
    assert as_user(OWNER, lambda: can_write_in(str(folder)))
    assert not can_write_in(str(folder / "nowhere"))
