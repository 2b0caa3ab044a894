"""The list of checkpoints, one of them with all that is known of it, and the job's word that a save is finished."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Final

from anyio import to_thread
from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.requests import Request  # noqa: TC002 - FastAPI looks the annotations up
from starlette.responses import Response

from lastgood import naming
from lastgood.findings import Verdict  # noqa: TC001
from lastgood.life import State  # noqa: TC001
from lastgood_service import rendering
from lastgood_service.desk import desk_of
from lastgood_service.exception_handlers import malformed
from lastgood_service.openapi import polled, problems
from lastgood_service.responses import render
from lastgood_service.schemas import CheckpointDetail, CheckpointPage, RequestShape

router = APIRouter(tags=["checkpoints"])

_LARGEST_ID: Final = 2**63 - 1
Id = Annotated[int, Path(ge=1, le=_LARGEST_ID)]


class Filters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    run: str | None = None
    verdict: Verdict | None = None
    state: State | None = Field(None, description="Those that are gone are listed only where asked for.")
    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")


@router.get(
    "/checkpoints",
    operation_id="list_checkpoints",
    summary="Checkpoints, the newest first",
    responses=polled(CheckpointPage),
)
async def list_checkpoints(request: Request, filters: Annotated[Filters, Query()]) -> Response:
    """A page of the list. An unknown run has none."""
    page = await to_thread.run_sync(_page, request, filters)
    return render(page).response(request)


def _page(request: Request, filters: Filters) -> dict[str, Any]:
    before = _id_in(filters.cursor) if filters.cursor is not None else None
    records = desk_of(request).catalog.page(
        run=filters.run,
        verdict=filters.verdict,
        state=filters.state,
        before=before,
        limit=filters.limit + 1,  # one more tells whether there is a next page
    )
    shown = records[: filters.limit]
    following = _cursor(shown[-1].id) if len(records) > filters.limit else None
    return {"items": [rendering.record_as_json(record) for record in shown], "next_cursor": following}


@router.get(
    "/checkpoints/{id}",
    operation_id="get_checkpoint",
    summary="One checkpoint, with its report and files",
    responses=polled(CheckpointDetail, 404),
)
async def get_checkpoint(request: Request, id: Id) -> Response:  # noqa: A002 - the name in the address
    record, report = await to_thread.run_sync(desk_of(request).catalog.record, id)
    return render(rendering.detail_as_json(record, report)).response(request)


def _is_run_name(run: str) -> str:
    if run != naming.ROOT_FOLDER and any(part in ("", ".", "..") for part in run.split("/")):
        raise ValueError("not the name of a run, as `GET /runs` lists them")
    return _is_plain(run)


def _is_checkpoint_name(name: str) -> str:
    if naming.step_in_name(name) is None:
        raise ValueError("not the name of a checkpoint, as `checkpoint-500` is")
    return _is_plain(name)


def _is_plain(name: str) -> str:
    if not name.isprintable():
        raise ValueError("it holds characters that cannot be printed")
    return name


class Landed(BaseModel):
    """The job says that it has finished a save."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"run": "llama", "name": "checkpoint-500"}]}
    )

    run: Annotated[str, Field(max_length=1024), AfterValidator(_is_run_name)]
    name: Annotated[str, Field(max_length=255), AfterValidator(_is_checkpoint_name)]


@router.post(
    "/checkpoints/landed",
    operation_id="declare_landed",
    summary="Say that a save is finished",
    status_code=202,
    responses={
        202: {"model": RequestShape, "description": "The worker will look; Location says where to follow it."},
        **problems(),
    },
)
async def declare_landed(request: Request, landed: Landed) -> Response:
    """Nothing has to be said: it only shortens the wait. The worker judges the files as it does any others."""
    made = await to_thread.run_sync(_ask_worker, request, landed)
    headers = {"location": f"/requests/{made['id']}"}
    return Response(render(made).body, 202, headers, "application/json")


def _ask_worker(request: Request, landed: Landed) -> dict[str, Any]:
    desk = desk_of(request)
    made = desk.catalog.add_request("landed", run=landed.run, name=landed.name, now=desk.clock.now())
    return rendering.request_as_json(made)


def _cursor(checkpoint_id: int) -> str:
    return base64.urlsafe_b64encode(f"c{checkpoint_id}".encode()).decode().rstrip("=")


def _id_in(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        if text[:1] == "c" and 0 < (found := int(text[1:])) <= _LARGEST_ID:
            return found
    except (binascii.Error, ValueError):
        pass
    raise malformed([{"where": "query.cursor", "message": "not a cursor that this service gave"}])
