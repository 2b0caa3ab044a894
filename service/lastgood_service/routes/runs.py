"""The runs, and the one object for a dashboard."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI looks the annotations up
from starlette.responses import Response  # noqa: TC002

from lastgood import naming
from lastgood_service import status
from lastgood_service.desk import desk_of
from lastgood_service.openapi import polled
from lastgood_service.responses import render
from lastgood_service.schemas import Runs, RunShape, StatusShape

router = APIRouter(tags=["runs"])


@router.get("/runs", operation_id="list_runs", summary="Runs with their resume points", responses=polled(Runs))
async def list_runs(request: Request) -> Response:
    """Every run that has saved something, with its resume point or why there is none."""
    desk = desk_of(request)
    listed = await status.runs(desk, await desk.knowledge.now())
    return render({"items": listed}).response(request)


@router.get(
    "/runs/{name:path}",
    operation_id="get_run",
    summary="One run",
    responses=polled(RunShape, 404, 503),
)
async def get_run(request: Request, name: str) -> Response:
    """As in the list. Clients drop the dot of `/runs/.`: no name means the run that is the watched folder itself."""
    return render(await status.run(desk_of(request), name or naming.ROOT_FOLDER)).response(request)


@router.get("/status", operation_id="get_status", summary="Everything for a dashboard", responses=polled(StatusShape))
async def get_status(request: Request) -> Response:
    """One object to poll: while nothing happens it stays the same, and its ETag answers 304."""
    return render(await status.status(desk_of(request))).response(request)
