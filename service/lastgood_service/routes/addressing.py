"""What stands in addresses."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Path

LARGEST_ID: Final = 2**63 - 1
Id = Annotated[int, Path(ge=1, le=LARGEST_ID)]
