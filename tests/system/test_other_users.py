"""What worker and service say, before they do anything, where their folders are somebody else's."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lastgood.catalog import WorkerCatalog
from lastgood_service.__main__ import main as service
from lastgood_worker.__main__ import main as worker
from users import as_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

US, OTHER = 12001, 12002
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs to be root, to become others")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """State and output of ours, and the settings that name them."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    for name in ("state", "output"):
        (made / name).mkdir(mode=0o755)
        os.chown(made / name, US, US)
    for name in [name for name in os.environ if name.startswith("LASTGOOD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LASTGOOD_STATE_DIR", str(made / "state"))
    monkeypatch.setenv("LASTGOOD_ROOTS", str(made / "output"))
    monkeypatch.chdir(made)
    yield made
    shutil.rmtree(made)


def ended(uid: int, main: Callable[[], int]) -> tuple[int, str]:
    """Exit code and what it said, of one that `uid` started."""

    def start() -> tuple[int, str]:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            code = main()
        return code, said.getvalue()

    found: tuple[int, str] = as_user(uid, start)
    return found


def make_state(place: Path) -> None:
    """As a worker of ours leaves it."""
    WorkerCatalog(str(place / "state")).close()
    (place / "state/worker.lock").touch()
    for path in (place / "state").iterdir():
        os.chown(path, US, US)


@pytest.mark.parametrize(
    ("main", "name", "what"),
    [
        pytest.param(worker, "output", "lastgood worker: the watched folder", id="worker, output"),
        pytest.param(worker, "state", "lastgood worker: the state folder", id="worker, state"),
        pytest.param(service, "state", "lastgood service: the state folder", id="service, state"),
    ],
)
@pytest.mark.parametrize("uid", [US, 0])
def test_a_folder_of_somebody_elses_is_one_line_and_exit_code_2(
    place: Path, main: Callable[[], int], name: str, what: str, uid: int
) -> None:
    for folder in ("state", "output"):
        os.chown(place / folder, uid, uid)
    os.chown(place / name, OTHER, OTHER)
    code, said = ended(uid, main)
    assert code == 2
    assert said.startswith(f"{what} {place / name} belongs to 12002:12002 and cannot be written by us, {uid}:{uid}")
    assert 'user: "12002:12002"' in said
    assert f"chown -R {uid}:{uid} {place / name}" in said
    assert said.count("\n") == 1


def test_the_service_only_has_to_read_the_checkpoints(place: Path) -> None:
    os.chown(place / "output", OTHER, OTHER)
    (place / "output").chmod(0o700)
    code, said = ended(US, service)
    assert (code, said.count("\n")) == (2, 1)
    assert f"the watched folder {place / 'output'} belongs to 12002:12002 and cannot be read by us" in said


def test_a_root_of_others_in_which_a_run_is_ours_will_do(place: Path) -> None:
    (place / "output/mine").mkdir()
    os.chown(place / "output/mine", US, US)
    os.chown(place / "output", OTHER, OTHER)
    make_state(place)
    os.chown(place / "state/worker.lock", OTHER, OTHER)  # what it comes to next, and ends at
    _code, said = ended(US, worker)
    assert said.startswith("lastgood worker: the lock ")


@pytest.mark.parametrize(
    ("name", "what"),
    [pytest.param("catalog.db", "the catalog", id="catalog"), pytest.param("worker.lock", "the lock", id="lock")],
)
def test_a_file_that_root_left_in_our_state_folder_is_named(place: Path, name: str, what: str) -> None:
    make_state(place)
    os.chown(place / "state" / name, 0, 0)
    code, said = ended(US, worker)
    assert (code, said.count("\n")) == (2, 1)
    assert f"{what} {place / 'state' / name} belongs to 0:0 and cannot be written by us, 12001:12001" in said
