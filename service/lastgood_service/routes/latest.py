"""Where should the job start from now? And may I wait for the one in work?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import anyio
from fastapi import APIRouter, Query
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request  # noqa: TC002 - FastAPI looks the annotations up
from starlette.responses import Response  # noqa: TC002

from lastgood.facts import Component
from lastgood.findings import Verdict
from lastgood.resume import Wishes
from lastgood_service.desk import Asked, desk_of
from lastgood_service.exception_handlers import malformed
from lastgood_service.openapi import polled
from lastgood_service.schemas import ResumePoint

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from lastgood_service.answers import Held

_LOOK_EVERY: Final = 0.1
_LONGEST_WAIT: Final = 600
_REMEMBERED: Final = 256


class Question(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str | None = Field(None, description="Needed where there are several runs.", examples=["llama"])
    accept: Literal["complete", "partial"] | None = Field(
        None, description="The least verdict that will do. Default: the service's own setting."
    )
    require: str = Field(
        "", description="Components that must be present, separated by commas.", examples=["optimizer,rng"]
    )
    world_size: int | None = Field(None, ge=1, description="Refuse what another number of processes saved.")
    max_step: int | None = Field(None, ge=0, description="Refuse what was saved later.")
    strict: bool = Field(False, description="Refuse what carries warnings.")
    wait: float = Field(
        0, ge=0, le=_LONGEST_WAIT, description="Seconds to hold the answer while a newer one is in work."
    )


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
    asked = Asked(question.run, wishes_of(question, desk.settings.accept), question.wait)
    if len(desk.asked) >= _REMEMBERED:
        desk.asked.clear()
    desk.asked[request.scope["query_string"]] = asked
    return await _answer(request, asked)


async def _answer(request: Request, asked: Asked) -> Response:
    held = await desk_of(request).answers.latest(asked.run, asked.wishes)
    if held.busy and asked.wait:
        held = await _hold(request, held, asked)
    return held.rendered.response(request)


async def _hold(request: Request, held: Held, asked: Asked) -> Held:
    """The answer once nothing newer is in work, or the time is up, or nobody waits for it any more."""
    desk = desk_of(request)
    until = desk.clock.monotonic() + asked.wait
    while held.busy and not desk.closing.is_set() and not await request.is_disconnected():
        left = until - desk.clock.monotonic()
        if left <= 0:
            break
        await anyio.sleep(min(_LOOK_EVERY, left))
        held = await desk.answers.latest(asked.run, asked.wishes)
    return held


def wishes_of(question: Question, accept: Literal["complete", "partial"]) -> Wishes:
    return Wishes(
        accept=Verdict(question.accept or accept),
        require=_components(question.require),
        world_size=question.world_size,
        max_step=question.max_step,
        strict=question.strict,
    )


def _components(text: str) -> frozenset[Component]:
    names = {name.strip() for name in text.split(",")} - {""}
    unknown = sorted(names - set(Component))
    if unknown:
        known = ", ".join(Component)
        message = f"{', '.join(unknown)}: no such component; there are {known}"
        raise malformed([{"where": "query.require", "message": message}])
    return frozenset(Component(name) for name in names)
