"""`python -m lastgood_service` as a process: it starts, it says why it cannot, it ends when asked."""

from __future__ import annotations

import os
import re
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from lastgood_service.__main__ import main
from service_process import running
from service_world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, real_clock=True)
    made.beat()
    yield made
    made.catalog.close()


def test_it_answers_makes_its_token_and_ends_in_time_while_an_answer_is_held(world: World) -> None:
    world.save(100)
    world.land(200)
    with running(world) as service:
        assert httpx.get(f"{service.url}/checkpoints/latest").json()["name"] == "checkpoint-100"
        assert httpx.post(f"{service.url}/checkpoints/landed", json={}).status_code == 401
        token = (world.folder / "state" / "token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        said = {"run": "llama", "name": "checkpoint-200"}
        assert httpx.post(f"{service.url}/checkpoints/landed", json=said, headers=headers).status_code == 202
        with _held_answer(service.url) as connection:
            began = time.monotonic()
            assert service.end() == 0
            assert time.monotonic() - began < 5
            assert b'"name":"checkpoint-100"' in connection.makefile("rb").read()
        assert service.process.stderr is not None
        assert "livez" not in service.process.stderr.read()  # what is read again and again is not logged


@contextmanager
def _held_answer(url: str) -> Iterator[socket.socket]:
    """A connection whose second question is being held: the first one, sent with it, has been answered."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        asked = ("/livez", "/checkpoints/latest?wait=60")
        connection.sendall(b"".join(f"GET {what} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for what in asked))
        received = b""
        while b'{"alive":true}' not in received:
            received += connection.recv(4096)
        yield connection


@pytest.fixture
def environment(world: World, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """What `main` sees of the world, when it is called here instead of in a process of its own."""
    for name in [name for name in os.environ if name.startswith("LASTGOOD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LASTGOOD_STATE_DIR", world.settings.state_dir)
    monkeypatch.chdir(world.folder)
    return monkeypatch


def test_a_port_in_use_is_one_line_and_exit_code_2(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        environment.setenv("LASTGOOD_PORT", port)
        assert main() == 2
    assert capsys.readouterr().err == (
        f"lastgood service: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "choose another with LASTGOOD_PORT or LASTGOOD_HOST\n"
    )


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        pytest.param("STATE_DIR", "/proc/nowhere", "state folder", id="a state folder that cannot be made"),
        pytest.param("PROT", "1", "LASTGOOD_PROT", id="a misspelt setting"),
        pytest.param("HOST", "no such host", "no address to listen on", id="a host that is none"),
        pytest.param("TOKEN_FILE", "/proc/nowhere", "token file", id="a token file that cannot be made"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str, said: str
) -> None:
    environment.setenv(f"LASTGOOD_{variable}", value)
    assert main() == 2
    assert re.fullmatch(rf"lastgood service: .*{re.escape(said)}.*\n", capsys.readouterr().err)


def test_the_settings_file_in_the_working_folder_counts(
    world: World, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (world.folder / "lastgood.toml").write_text("prot = 1\n")
    assert main() == 2
    assert "prot in lastgood.toml is not a setting" in capsys.readouterr().err
