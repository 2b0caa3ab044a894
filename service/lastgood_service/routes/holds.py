"""Leases, which end, and pins, which a person takes away: what they hold is not removed."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from anyio import to_thread
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request  # noqa: TC002 - FastAPI looks the annotations up
from starlette.responses import Response

from lastgood.errors import Conflict, NotReady
from lastgood.latest import is_as_verified
from lastgood.life import State
from lastgood_service.asking import Holder, LeaseQuestion, Seconds, within_bounds
from lastgood_service.desk import desk_of
from lastgood_service.openapi import problems
from lastgood_service.rendering_plans import hold_as_json
from lastgood_service.responses import render
from lastgood_service.routes.addressing import Id  # noqa: TC001
from lastgood_service.schemas import HoldShape, Leased
from lastgood_service.sharing import in_thread
from lastgood_service.waiting import latest_once_judged

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from lastgood.records import Hold
    from lastgood_service.desk import Desk

router = APIRouter(tags=["holds"])

_TRIES: Final = 5
_NO_CONTENT: Final[dict[int | str, dict[str, Any]]] = {204: {"description": "It holds no longer."}}


class Pin(BaseModel):
    model_config = ConfigDict(extra="forbid")

    holder: Holder = "a person"


class Renewal(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seconds: Seconds | None = None


@router.put(
    "/checkpoints/{id}/pin",
    operation_id="pin_checkpoint",
    summary="Keep it until somebody unpins it",
    responses={200: {"model": HoldShape}, **problems(404, 409)},
)
async def pin_checkpoint(request: Request, id: Id, pin: Pin | None = None) -> Response:  # noqa: A002 - as in the address
    """A second pin is the first one. What is in the trash, or gone, cannot be pinned."""
    desk = desk_of(request)
    take = partial(desk.catalog.pin, id, holder=(pin or Pin()).holder, now=desk.clock.now())
    return _as_it_is(hold_as_json(await to_thread.run_sync(take)))


@router.delete(
    "/checkpoints/{id}/pin",
    operation_id="unpin_checkpoint",
    summary="Leave it to the rules again",
    status_code=204,
    responses=_NO_CONTENT | problems(404),
)
async def unpin_checkpoint(request: Request, id: Id) -> Response:  # noqa: A002
    """Nothing happens where it was not pinned."""
    await to_thread.run_sync(desk_of(request).catalog.unpin, id)
    return Response(status_code=204)


@router.post(
    "/leases",
    operation_id="take_lease",
    summary="The resume point, and the promise that it stays",
    status_code=201,
    responses={201: {"model": Leased}, **problems(404, 409, 503)},
)
async def take_lease(request: Request, question: LeaseQuestion) -> Response:
    """As `GET /checkpoints/latest`; and for so many seconds, or until it is given back, it is not removed."""
    for _ in range(_TRIES):
        held = await latest_once_judged(request, question.asked)
        if held.refusal is not None or await request.is_disconnected():  # a lease for nobody would hold it for nothing
            return held.rendered.response(request)
        assert held.answer is not None
        if lease := await _take(desk_of(request), held.answer, question):
            found = {"lease": hold_as_json(lease), "resume_point": held.answer}
            return _as_it_is(found, 201, {"location": f"/leases/{lease.id}"})
    raise NotReady("the checkpoints change as fast as they are named; ask again", obstacles=[])


async def _take(desk: Desk, answer: Mapping[str, Any], question: LeaseQuestion) -> Hold | None:
    """None where it was chosen for removal, or written to, since it was named."""
    until = _until(desk, question.seconds)
    lease = await in_thread(partial(_take_if_unchanged, desk, answer["id"], question.holder, until), answer["path"])
    if lease is None:
        desk.answers.forget(answer["run"])
    return lease


def _take_if_unchanged(desk: Desk, checkpoint_id: int, holder: str, until: datetime) -> Hold | None:
    catalog = desk.catalog
    try:
        lease = catalog.take_lease(checkpoint_id, holder=holder, until=until, now=desk.clock.now())
    except Conflict:
        return None
    record, _ = catalog.record(checkpoint_id)
    if record.state is State.VERIFIED and is_as_verified(record):
        return lease
    catalog.end_lease(lease.id)
    return None


@router.put(
    "/leases/{id}",
    operation_id="renew_lease",
    summary="Hold it for longer",
    responses={200: {"model": HoldShape}, **problems(404)},
)
async def renew_lease(request: Request, id: Id, renewal: Renewal | None = None) -> Response:  # noqa: A002
    """So many seconds from now. A lease that has ended cannot be renewed: what it held may be gone."""
    desk = desk_of(request)
    until = _until(desk, (renewal or Renewal()).seconds)
    renew = partial(desk.catalog.renew_lease, id, until=until, now=desk.clock.now())
    return _as_it_is(hold_as_json(await to_thread.run_sync(renew)))


@router.delete(
    "/leases/{id}",
    operation_id="end_lease",
    summary="Give it back",
    status_code=204,
    responses=_NO_CONTENT | problems(404),
)
async def end_lease(request: Request, id: Id) -> Response:  # noqa: A002
    await to_thread.run_sync(desk_of(request).catalog.end_lease, id)
    return Response(status_code=204)


def _until(desk: Desk, seconds: float | None) -> datetime:
    return desk.clock.now() + timedelta(seconds=seconds or within_bounds(desk.settings.lease_for))


def _as_it_is(found: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer to a change: nobody polls it."""
    return Response(render(found).body, status, dict(headers or {}), "application/json")
