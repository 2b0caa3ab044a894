"""`python -m lastgood_worker` as a process: it ends when asked, whatever it does; it says why it cannot start."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from builders import make_hf_checkpoint
from lastgood.catalog import WorkerCatalog
from lastgood_worker import __main__ as worker_program
from running import SHORT, Program, environ, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lastgood.catalog import WorkerStatus

_BIG = 1 << 36  # of holes: it costs no disk, and reading it takes long enough


def worker(place: Path, **settings: str) -> Program:
    arguments = [sys.executable, "-m", "lastgood_worker"]
    return Program("worker", arguments, environ(place, **settings), place / "worker.log")


@contextmanager
def running(root: Path, place: Path, **settings: str) -> Iterator[Program]:
    """A worker that has looked once."""
    place.mkdir(exist_ok=True)
    program = worker(place, LASTGOOD_ROOTS=str(root), **SHORT, **settings)
    program.start()
    try:
        wait_for(
            "its first look", lambda: has_looked(place, program), 60, lambda: program.said() if program.ended else None
        )
        yield program
    finally:
        program.kill()


def heard_from(place: Path) -> WorkerStatus | None:
    """What the worker last said of itself."""
    if not (place / "state/catalog.db").exists():
        return None
    catalog = WorkerCatalog(str(place / "state"))
    try:
        return catalog.worker()
    finally:
        catalog.close()


def has_looked(place: Path, program: Program) -> bool:
    status = heard_from(place)
    return status is not None and status.first_scan_done and status.pid == program.pid


def exit_code(program: Program) -> int | None:
    wait_for("it to end", lambda: program.ended, 60)
    assert program._process is not None
    return program._process.returncode


def children_of(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def is_there(pid: int) -> bool:
    """Whether the process lives; one that nobody has waited for is dead all the same."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "output").mkdir()
    return tmp_path / "output"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_while_nothing_happens(number: int, root: Path, tmp_path: Path) -> None:
    with running(root, tmp_path / "place") as program:
        began = time.monotonic()
        assert program.end(number) == 0
        assert time.monotonic() - began < 5


def test_it_ends_at_once_while_it_reads_and_takes_the_reader_along(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    with running(root, place) as program:
        make_hf_checkpoint(root / "checkpoint-100", 100)
        with (root / "checkpoint-100/training_args.bin").open("ab") as file:
            file.truncate(_BIG)
        os.utime(root / "checkpoint-100/trainer_state.json")
        wait_for("it to read", lambda: (found := heard_from(place)) and found.progress.get("bytes_done"), 60)
        # Of the files that are read before the big one nothing is said: it is in the middle of that.
        children = children_of(program.pid)
        began = time.monotonic()
        assert program.end() == 0
        assert time.monotonic() - began < 5
        wait_for("its readers to end", lambda: not any(map(is_there, children)), 10)


def test_it_publishes_what_it_finds(root: Path, tmp_path: Path) -> None:
    with running(root, tmp_path / "place"):
        make_hf_checkpoint(root / "checkpoint-100", 100)
        latest = root / ".lastgood/latest.json"
        wait_for("the answer", lambda: latest.exists() and json.loads(latest.read_text()).get("name"), 60)


def test_a_second_one_on_the_same_catalog_is_refused(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    with running(root, place):
        second = worker(tmp_path, LASTGOOD_ROOTS=str(root), LASTGOOD_STATE_DIR=str(place / "state"))
        second.start()
        assert exit_code(second) == 2
        assert second.said() == (
            f"lastgood worker: another worker already runs on {place / 'state'}; "
            "stop it, or choose another folder with LASTGOOD_STATE_DIR\n"
        )


def test_who_asks_for_an_instant_whether_one_lives_keeps_none_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "worker.lock").open("w") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        monkeypatch.setattr(time, "sleep", lambda _seconds: fcntl.flock(asking, fcntl.LOCK_UN))
        worker_program._lock(str(tmp_path)).close()


def test_one_that_was_killed_stands_in_nobodys_way(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    with running(root, place) as program:
        children = children_of(program.pid)
        program.kill()
        wait_for("its readers to end", lambda: not any(map(is_there, children)), 10)
    with running(root, place) as program:
        assert program.end() == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param({}, "no folder to watch: set LASTGOOD_ROOTS", id="no roots"),
        pytest.param({"LASTGOOD_ROTOS": "/out"}, "LASTGOOD_ROTOS in the environment is not a setting", id="misspelt"),
        pytest.param(
            {"LASTGOOD_QUIET_SECONDS": "soon"}, "LASTGOOD_QUIET_SECONDS in the environment is 'soon'", id="no number"
        ),
        pytest.param(
            {"LASTGOOD_STATE_DIR": "/proc/nowhere"}, "the state folder /proc/nowhere cannot be made", id="no such place"
        ),
        pytest.param({"LASTGOOD_STATE_DIR": "/proc"}, "/proc", id="not writable"),
        pytest.param({"LASTGOOD_STATE_DIR": "/dev/null"}, "the state folder /dev/null cannot be made", id="no folder"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line_and_exit_code_2(
    settings: dict[str, str], said: str, root: Path, tmp_path: Path
) -> None:
    roots = {"LASTGOOD_ROOTS": str(root)} if settings else {}
    program = worker(tmp_path, **{**roots, **settings})
    program.start()
    assert exit_code(program) == 2
    assert re.fullmatch(rf"lastgood worker: .*{re.escape(said)}.*\n", program.said())


def test_it_says_at_start_which_file_it_reads_settings_from(root: Path, tmp_path: Path) -> None:
    (tmp_path / "lastgood.toml").write_text("quiet = 3\n")
    program = worker(tmp_path, LASTGOOD_ROOTS=str(root))
    program.start()
    assert exit_code(program) == 2
    assert "quiet in lastgood.toml is not a setting" in program.said()
