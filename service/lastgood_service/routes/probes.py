"""Whether the process lives, and whether its answers can be vouched for. Always open."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI looks the annotations up
from starlette.responses import Response  # noqa: TC002

from lastgood_service.desk import desk_of
from lastgood_service.openapi import problems
from lastgood_service.readiness import all_obstacles, not_ready
from lastgood_service.responses import render
from lastgood_service.schemas import Alive, Ready

router = APIRouter(tags=["probes"])


@router.get(
    "/livez", operation_id="is_alive", summary="The service runs", responses={200: {"model": Alive}, **problems()}
)
async def is_alive(request: Request) -> Response:
    return render({"alive": True}).response(request)


@router.get(
    "/readyz",
    operation_id="is_ready",
    summary="The worker runs, has looked at everything, and its folders are there",
    responses={200: {"model": Ready}, **problems(503)},
)
async def is_ready(request: Request) -> Response:
    desk = desk_of(request)
    known = await desk.knowledge.now()
    if obstacles := all_obstacles(known, desk.clock.now()):
        raise not_ready(obstacles)
    return render({"ready": True}).response(request)
