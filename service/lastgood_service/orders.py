"""Work for the worker: written down here, carried out there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from starlette.responses import Response

from lastgood_service import rendering
from lastgood_service.desk import desk_of
from lastgood_service.responses import render

if TYPE_CHECKING:
    from starlette.requests import Request

    from lastgood_service.desk import Desk


async def order(request: Request, kind: str, *, run: str, name: str = "", **arguments: Any) -> Response:
    """Accepted, with the request, and where to follow it."""
    add = partial(_add, desk_of(request), kind, run=run, name=name, arguments=arguments)
    return _accepted(await to_thread.run_sync(add))


async def order_for(request: Request, kind: str, checkpoint_id: int, **arguments: Any) -> Response:
    """The same, about one checkpoint. Unknown where there is no such id."""
    return _accepted(await to_thread.run_sync(_add_for, desk_of(request), kind, checkpoint_id, arguments))


def _add_for(desk: Desk, kind: str, checkpoint_id: int, arguments: dict[str, Any]) -> dict[str, Any]:
    record, _ = desk.catalog.record(checkpoint_id)
    return _add(desk, kind, run=record.run, name=record.name, checkpoint_id=checkpoint_id, arguments=arguments)


def _add(desk: Desk, kind: str, **about: Any) -> dict[str, Any]:
    return rendering.request_as_json(desk.catalog.add_request(kind, now=desk.clock.now(), **about))


def _accepted(made: dict[str, Any]) -> Response:
    headers = {"location": f"/requests/{made['id']}"}
    return Response(render(made).body, 202, headers, "application/json")
