"""The resume point, held back while a newer checkpoint is in work, for whoever wants to wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from lastgood_service.desk import desk_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from lastgood_service.answers import Held
    from lastgood_service.asking import Asked

_LOOK_EVERY: Final = 0.1


async def latest_once_judged(request: Request, asked: Asked) -> Held:
    """The answer once nothing newer is in work, or the time is up, or nobody waits for it any more."""
    desk = desk_of(request)
    held = await desk.answers.latest(asked)
    if not held.busy or not asked.wait:
        return held
    until = desk.clock.monotonic() + asked.wait
    while held.busy and not desk.closing.is_set() and not await request.is_disconnected():
        left = until - desk.clock.monotonic()
        if left <= 0:
            break
        await anyio.sleep(min(_LOOK_EVERY, left))
        held = await desk.answers.latest(asked)
    return held
