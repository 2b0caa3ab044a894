"""What jobs and people ask of the worker. It is written down at once, and carried out when the worker next looks."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.requests import Request  # noqa: TC002 - FastAPI looks the annotations up
from starlette.responses import Response  # noqa: TC002

from lastgood import naming
from lastgood_service.asking import is_printable
from lastgood_service.openapi import accepted
from lastgood_service.orders import order, order_for
from lastgood_service.routes.addressing import Id  # noqa: TC001

router = APIRouter(tags=["checkpoints"])


def _is_run_name(run: str) -> str:
    if run != naming.ROOT_FOLDER and any(part in ("", ".", "..") for part in run.split("/")):
        raise ValueError("not the name of a run, as `GET /runs` lists them")
    return is_printable(run)


def _is_checkpoint_name(name: str) -> str:
    if naming.step_in_name(name) is None:
        raise ValueError("not the name of a checkpoint, as `checkpoint-500` is")
    return is_printable(name)


class Landed(BaseModel):
    """The job says that it has finished a save."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"run": "llama", "name": "checkpoint-500"}]}
    )

    run: Annotated[str, Field(max_length=1024), AfterValidator(_is_run_name)]
    name: Annotated[str, Field(max_length=255), AfterValidator(_is_checkpoint_name)]


class Outcome(BaseModel):
    """How a job fared that started from it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"outcome": "failed", "error": "size mismatch for wte.weight"}]}
    )

    outcome: Literal["ok", "failed"]
    error: str | None = Field(None, max_length=2000, description="Why it failed, for people.")


@router.post(
    "/checkpoints/landed",
    operation_id="declare_landed",
    summary="Say that a save is finished",
    status_code=202,
    responses=accepted(),
)
async def declare_landed(request: Request, landed: Landed) -> Response:
    """Nothing has to be said: it only shortens the wait. The worker judges the files as it does any others."""
    return await order(request, "landed", run=landed.run, name=landed.name)


@router.post(
    "/checkpoints/{id}/verify",
    operation_id="verify_checkpoint",
    summary="Have it read again",
    status_code=202,
    responses=accepted(404),
)
async def verify_checkpoint(request: Request, id: Id) -> Response:  # noqa: A002 - the name in the address
    """Every byte, and against the manifest of the last reading. Meanwhile its verdict stands."""
    return await order_for(request, "verify", id)


@router.post(
    "/checkpoints/{id}/outcome",
    operation_id="report_outcome",
    summary="Say whether a job could start from it",
    status_code=202,
    responses=accepted(404),
)
async def report_outcome(request: Request, id: Id, said: Outcome) -> Response:  # noqa: A002
    """After two failures in a row it is no longer handed out, until somebody undoes that."""
    return await order_for(request, "outcome", id, outcome=said.outcome, error=said.error)


@router.post(
    "/checkpoints/{id}/undo",
    operation_id="undo_checkpoint",
    summary="Have it back from the trash, or handed out again",
    status_code=202,
    responses=accepted(404),
)
async def undo_checkpoint(request: Request, id: Id) -> Response:  # noqa: A002
    """From the trash it comes back pinned. One that jobs could not start from has its failures forgotten."""
    return await order_for(request, "undo", id)


@router.delete(
    "/checkpoints/{id}",
    operation_id="remove_checkpoint",
    summary="Move it to the trash",
    status_code=202,
    responses=accepted(404),
)
async def remove_checkpoint(request: Request, id: Id) -> Response:  # noqa: A002
    """Rules do not protect it from that; guards do, such as being the resume point, a lease or a pin."""
    return await order_for(request, "remove", id)
