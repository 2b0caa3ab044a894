"""`lastgood up`: both processes live and die together, and whatever goes wrong is said."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from builders import make_hf_checkpoint
from running import LASTGOOD, SHORT, Program, Watcher, environ, free_port, up, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def children_of(watcher: Watcher) -> dict[str, int]:
    """The two processes by name."""
    pid = watcher.programs["up"].pid
    found = {}
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        for child in file.read().split():
            with open(f"/proc/{child}/cmdline", encoding="ascii") as line:
                found[line.read().rstrip("\0").rpartition("lastgood_")[2]] = int(child)
    return found


def lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def exit_code(program: Program) -> int | None:
    wait_for("it to end", lambda: program.ended, 60)
    assert program._process is not None
    return program._process.returncode


@contextmanager
def both_up(tmp_path: Path) -> Iterator[tuple[Watcher, dict[str, int]]]:
    settings: dict[str, Any] = dict(SHORT)
    with up(tmp_path / "output", tmp_path / "place", **settings) as watcher:
        yield watcher, children_of(watcher)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_makes_the_folder_answers_and_ends_both_when_told(number: int, tmp_path: Path) -> None:
    with both_up(tmp_path) as (watcher, children):
        assert sorted(children) == ["service", "worker"]
        assert "which was not there" in watcher.programs["up"].said()
        make_hf_checkpoint(tmp_path / "output/checkpoint-100", 100)
        watcher.wait("the answer", lambda: watcher.latest_name() == "checkpoint-100")
        assert watcher.programs["up"].end(number) == 0
        assert not any(lives(child) for child in children.values())


@pytest.mark.parametrize("name", ["worker", "service"])
def test_when_one_is_killed_both_end_and_it_is_said(name: str, tmp_path: Path) -> None:
    with both_up(tmp_path) as (watcher, children):
        os.kill(children[name], signal.SIGKILL)
        assert exit_code(watcher.programs["up"]) == 2
        assert f"lastgood: the {name} ended with code -9" in watcher.programs["up"].said()
        assert not any(lives(child) for child in children.values())


def test_when_it_is_killed_itself_both_end(tmp_path: Path) -> None:
    with both_up(tmp_path) as (watcher, children):
        watcher.programs["up"].kill()
        wait_for("both to end", lambda: not any(lives(child) for child in children.values()), 30)


def program(tmp_path: Path, *arguments: str) -> Program:
    return Program("up", [*LASTGOOD, "up", *arguments], environ(tmp_path), tmp_path / "log")


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        started = program(tmp_path, str(tmp_path), "--port", port)
        started.start()
        assert exit_code(started) == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in started.said()


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        pytest.param("no/such/parent", "cannot be made: No such file", id="a folder without a parent"),
        pytest.param("a:b", "has a colon in its name", id="a name that cannot be handed on"),
        pytest.param("file", "is not a folder", id="a file"),
        pytest.param("run/checkpoint-5", "is a checkpoint: watch the folder that holds it", id="a checkpoint"),
    ],
)
def test_a_folder_that_will_not_do_is_said(folder: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    make_hf_checkpoint(tmp_path / "run" / "checkpoint-5", 5)
    started = program(tmp_path, str(tmp_path / folder), "--port", str(free_port()))
    started.start()
    assert exit_code(started) == 2
    assert said in started.said()
    assert "Traceback" not in started.said()
