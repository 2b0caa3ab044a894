"""What is kept, what is removed, and why; and the word to do it now."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request  # noqa: TC002 - FastAPI looks the annotations up
from starlette.responses import Response  # noqa: TC002

from lastgood_service.choosing import choose_run_here
from lastgood_service.desk import desk_of
from lastgood_service.openapi import accepted, polled
from lastgood_service.orders import order
from lastgood_service.rendering_plans import plan_as_json
from lastgood_service.responses import render
from lastgood_service.schemas import Retention

router = APIRouter(tags=["retention"])


class Which(BaseModel):
    model_config = ConfigDict(extra="forbid")

    run: str | None = Field(None, description="This run alone.", examples=["llama"])


class Apply(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"run": "llama", "confirm": "3f1c0a9be2d4"}]}
    )

    run: str | None = Field(None, description="Needed where there are several runs.")
    confirm: str | None = Field(
        None,
        max_length=64,
        description="The plan that is meant. Needed where a new policy would remove more than half of the run; "
        "refused where the plan is another one by now.",
    )


@router.get(
    "/retention",
    operation_id="get_retention",
    summary="What would be removed now, and why everything else is kept",
    responses=polled(Retention, 404, 503),
)
async def get_retention(request: Request, which: Annotated[Which, Query()]) -> Response:
    """The worker makes the same plan anew before each removal."""
    desk = desk_of(request)
    known = await desk.knowledge.now()
    runs = list(known.records) if which.run is None else [choose_run_here(known, which.run)]
    planned = await asyncio.gather(*(desk.plans.of_run(known, run) for run in runs))
    return render({"items": [plan_as_json(each) for each in planned]}).response(request)


@router.post(
    "/retention/apply",
    operation_id="apply_retention",
    summary="Carry a run's plan out now",
    status_code=202,
    responses=accepted(404, 409, 503),
)
async def apply_retention(request: Request, wanted: Apply) -> Response:
    """Also while the worker would only observe. Every guard is looked at again before each removal."""
    run = choose_run_here(await desk_of(request).knowledge.now(), wanted.run)
    return await order(request, "apply", run=run, confirm=wanted.confirm)
