"""The page as files: nothing from elsewhere, nothing inline."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from starlette.testclient import TestClient

FILES = {"/": "text/html", "/page.js": "text/javascript", "/page.css": "text/css", "/favicon.svg": "image/svg+xml"}


@pytest.mark.parametrize(("address", "media_type"), FILES.items())
def test_each_file_is_served_as_what_it_is(client: TestClient, address: str, media_type: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 200
    assert answer.content
    assert answer.headers["content-type"].startswith(media_type)
    assert client.get(address, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("address", FILES)
def test_nothing_comes_from_elsewhere(client: TestClient, address: str) -> None:
    elsewhere = re.findall(r"(?:https?:)?//[a-z0-9.]+", re.sub(r"(?m)^\s*//.*$", "", client.get(address).text))
    assert set(elsewhere) <= {"http://www.w3.org"}


def test_the_page_holds_nothing_that_its_policy_forbids(client: TestClient) -> None:
    text = client.get("/").text
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=", text)


def test_the_script_puts_text_in_as_text(client: TestClient) -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", client.get("/page.js").text)
