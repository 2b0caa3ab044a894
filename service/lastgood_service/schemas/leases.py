"""A lease together with what it was taken on."""

from __future__ import annotations

from pydantic import ConfigDict

from lastgood_service import examples
from lastgood_service.schemas.base import Shape
from lastgood_service.schemas.checkpoints import ResumePoint  # noqa: TC001 - pydantic looks the annotations up
from lastgood_service.schemas.keeping import HoldShape  # noqa: TC001


class Leased(Shape):
    """The resume point, and the promise that it stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.LEASED]})

    lease: HoldShape
    resume_point: ResumePoint
