"""HEAD: what GET says, without its body (RFC 9110, 9.3.2)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from service_process import serving

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from service_world import World

_PLAIN = (
    "/",
    "/page.js",
    "/checkpoints/latest",
    "/checkpoints",
    "/checkpoints/1",
    "/runs",
    "/runs/llama",
    "/retention",
    "/copies",
    "/status",
    "/events",
    "/livez",
    "/readyz",
    "/metrics",
    "/openapi.json",
)
_REFUSED = ("/checkpoints/latest?run=nobody", "/checkpoints/999", "/status?accept=perhaps", "/nowhere", "/leases")


@pytest.mark.parametrize("address", [*_PLAIN, *_REFUSED])
def test_head_answers_as_get_does_but_for_the_body(world: World, client: TestClient, address: str) -> None:
    world.save(100)
    told, whole = client.head(address), client.get(address)
    assert (told.status_code, told.content) == (whole.status_code, b"")
    assert dict(told.headers) == dict(whole.headers)


def test_head_of_what_is_had_already_is_not_changed(world: World, client: TestClient) -> None:
    world.save(100)
    etag = client.head("/checkpoints/latest").headers["etag"]
    answer = client.head("/checkpoints/latest", headers={"If-None-Match": etag})
    assert (answer.status_code, answer.headers["etag"]) == (304, etag)


def test_head_needs_the_token_where_get_does(world: World) -> None:
    with world.client(host="0.0.0.0") as client:
        assert client.head("/status").status_code == 401
        assert client.head("/status", headers=world.authorized).status_code == 200


def test_after_head_the_connection_answers_the_next_question(world: World) -> None:
    with serving(world) as service:
        host, port = service.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            for method in ("HEAD", "GET"):
                connection.sendall(f"{method} /livez HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            received = b""
            while b'{"alive":true}' not in received:
                received += connection.recv(4096)
        assert received.count(b"HTTP/1.1 200 OK") == 2
        assert received.count(b"content-length: 14") == 2
        assert received.count(b'{"alive":true}') == 1
