"""Where should the job start from now? And may I wait for the one in work?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Query
from fastapi.routing import APIRoute
from starlette.requests import Request  # noqa: TC002 - FastAPI looks the annotations up
from starlette.responses import Response  # noqa: TC002

from lastgood_service.asking import Question  # noqa: TC001
from lastgood_service.desk import desk_of
from lastgood_service.openapi import polled
from lastgood_service.schemas import ResumePoint
from lastgood_service.waiting import latest_once_judged

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from lastgood_service.asking import Asked

_REMEMBERED: Final = 256


class _Remembering(APIRoute):
    """Parses a question once: jobs ask the same ones all day, and parsing costs more than answering."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        parse_and_answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            asked = desk_of(request).asked.get(request.scope["query_string"])
            return await (parse_and_answer(request) if asked is None else _answer(request, asked))

        return handle


router = APIRouter(route_class=_Remembering)


@router.get(
    "/checkpoints/latest",
    operation_id="latest_checkpoint",
    summary="The resume point",
    responses=polled(ResumePoint, 404, 409, 503),
    tags=["checkpoints"],
)
async def latest_checkpoint(request: Request, question: Annotated[Question, Query()]) -> Response:
    """The newest checkpoint that was read to the last byte, found good, and is still as it was read."""
    desk = desk_of(request)
    asked = question.asked
    if len(desk.asked) >= _REMEMBERED:
        desk.asked.clear()
    desk.asked[request.scope["query_string"]] = asked
    return await _answer(request, asked)


async def _answer(request: Request, asked: Asked) -> Response:
    return (await latest_once_judged(request, asked)).rendered.response(request)
