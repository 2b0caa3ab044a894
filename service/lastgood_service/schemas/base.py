"""What all shapes share, and what goes wrong."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from lastgood.findings import Severity  # noqa: TC001 - pydantic looks the annotations up
from lastgood_service import examples


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Problem(BaseModel):
    """RFC 9457. The refusal's details stand beside these members."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"examples": [examples.PROBLEM]},
    )

    type: str = Field(description="Stable: `urn:lastgood:problem:` and the code.")
    title: str
    status: int
    detail: str = Field(description="What happened, for a person.")
    code: str


class FindingShape(Shape):
    severity: Severity
    code: str
    file: str | None
    message: str
    hint: str
