"""The token, the host names, and the headers of every answer."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from lastgood.errors import SettingsError
from lastgood_service.security import obtain_token
from service_world import World, problem

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.testclient import TestClient

LANDED = {"run": "llama", "name": "checkpoint-1"}
READS = ["/checkpoints/latest", "/checkpoints", "/runs", "/status", "/events", "/copies", "/metrics", "/openapi.json"]
OPEN = ["/livez", "/readyz", "/", "/page.js", "/page.css", "/favicon.svg"]


def test_the_token_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "token")
    token = obtain_token(path)
    assert len(token) >= 32
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert obtain_token(path) == token
    assert os.listdir(tmp_path) == ["token"]


def test_those_who_start_at_once_agree_on_one_token(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        tokens = set(pool.map(obtain_token, [str(tmp_path / "token")] * 64))
    assert len(tokens) == 1
    assert os.listdir(tmp_path) == ["token"]


@pytest.mark.parametrize("content", [b"", b"  \n", b"\xff\xfe"])
def test_a_token_file_that_holds_none_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(SettingsError, match="token file"):
        obtain_token(str(tmp_path / "token"))


def test_a_token_file_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        obtain_token(str(tmp_path / "nowhere" / "token"))


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Bearer ", "Basic {token}", "{token}", "Bearer {token}x"])
def test_nothing_is_changed_without_the_token(world: World, client: TestClient, given: str | None) -> None:
    headers = {"Authorization": given.format(token=world.token)} if given is not None else {}
    answer = client.post("/checkpoints/landed", json=LANDED, headers=headers)
    assert (problem(answer)["status"], problem(answer)["code"]) == (401, "not-allowed")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert world.catalog.open_requests() == []


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_token_opens_whatever_the_case_of_the_scheme(world: World, client: TestClient, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {world.token}"}
    assert client.post("/checkpoints/landed", json=LANDED, headers=headers).status_code == 202


@pytest.mark.parametrize("address", READS)
def test_reads_need_the_token_where_the_service_listens_beyond_loopback(world: World, address: str) -> None:
    with world.client(host="0.0.0.0") as client:
        assert problem(client.get(address))["status"] == 401
        assert client.get(address, headers=world.authorized).status_code != 401
    with world.client(host="0.0.0.0", open_reads=True) as client:
        assert client.get(address).status_code != 401


@pytest.mark.parametrize("address", OPEN)
def test_probes_and_the_empty_page_are_always_open(world: World, address: str) -> None:
    with world.client(host="0.0.0.0") as client:
        assert client.get(address).status_code == 200


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("localhost:9999", True),
        ("LOCALHOST:1", True),
        ("127.0.0.1:8484", True),
        ("[::1]:8484", True),
        ("[::1]", True),
        ("trainer.local:8484", True),
        ("10.1.2.3", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("evil.example:localhost", False),
        ("::1", False),
        ("0.0.0.0:8484", False),
        ("", False),
    ],
)
def test_the_service_answers_to_its_own_names_alone(world: World, host: str, *, allowed: bool) -> None:
    with world.client(host="10.1.2.3", open_reads=True, allowed_hosts=("Trainer.local",)) as client:
        answer = client.get("/livez", headers={"Host": host})
    if allowed:
        assert answer.status_code == 200
    else:
        assert (problem(answer)["status"], problem(answer)["code"]) == (403, "not-allowed")
        assert "LASTGOOD_ALLOWED_HOSTS" in problem(answer)["detail"]


def test_another_host_name_is_refused_before_anything_is_changed(world: World, client: TestClient) -> None:
    headers = {**world.authorized, "Host": "evil.example"}
    assert client.post("/checkpoints/landed", json=LANDED, headers=headers).status_code == 403
    assert world.catalog.open_requests() == []


@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_every_answer_carries_the_headers(client: TestClient, host: str) -> None:
    for address in (*READS, *OPEN, "/nowhere", "/checkpoints/0"):
        headers = client.get(address, headers={"Host": host}).headers
        assert headers["content-security-policy"].startswith("default-src 'self';"), address
        assert "unsafe" not in headers["content-security-policy"], address
        assert "frame-ancestors 'none'" in headers["content-security-policy"], address
        assert headers["x-content-type-options"] == "nosniff", address
        assert headers["referrer-policy"] == "no-referrer", address
        assert not [name for name in headers if name.startswith("access-control")], address


def test_a_304_carries_them_too(world: World, client: TestClient) -> None:
    etag = client.get("/runs").headers["etag"]
    assert "content-security-policy" in client.get("/runs", headers={"If-None-Match": etag}).headers
