"""The page: four files, read once, nothing from elsewhere. It holds no data, so it is always open."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI looks the annotations up

from lastgood_service.responses import Rendered, render_bytes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.responses import Response

router = APIRouter()

_FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}


def _serve(rendered: Rendered) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return rendered.response(request)

    return serve


for _address, (_name, _media_type) in _FILES.items():
    _body = (resources.files("lastgood_service") / "page" / _name).read_bytes()
    router.add_api_route(
        _address, _serve(render_bytes(_body, _media_type)), include_in_schema=False, response_model=None
    )
