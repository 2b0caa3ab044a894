"""Answers as ready bytes with their ETag, and 304 where the asker has them already."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request


@dataclass(frozen=True, slots=True)
class Rendered:
    """What goes over the wire, made once and sent as often as it is asked for."""

    body: bytes
    headers: Mapping[str, str]
    status: int = 200

    def response(self, request: Request) -> Response:
        etag = self.headers.get("etag")
        if etag is not None and has_it_already(request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers={"etag": etag, "cache-control": "no-cache"})
        return Response(self.body, self.status, self.headers)


def render(data: Any) -> Rendered:
    """`data` as JSON."""
    return render_bytes(json.dumps(data, separators=(",", ":")).encode(), "application/json")


def render_bytes(body: bytes, media_type: str) -> Rendered:
    etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    # no-cache: keep it, but ask each time whether it still holds.
    return Rendered(body, {"content-type": media_type, "etag": etag, "cache-control": "no-cache"})


def has_it_already(if_none_match: str | None, etag: str) -> bool:
    """RFC 9110: the weak comparison, over a list, or `*`."""
    if if_none_match is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in tags or "*" in tags
