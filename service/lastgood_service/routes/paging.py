"""Lists that come in pages, the newest first: a cursor names the last one of the page before."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from lastgood_service.exception_handlers import malformed
from lastgood_service.routes.addressing import LARGEST_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lastgood.cloud import Upload
    from lastgood.records import Record

    Item = TypeVar("Item", Record, Upload)


class Paged(BaseModel):
    """What every list may be asked with."""

    model_config = ConfigDict(extra="forbid")

    run: str | None = None
    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")

    @property
    def before(self) -> int | None:
        """The id of the last one of the page before."""
        return _id_in(self.cursor) if self.cursor is not None else None


def page(found: Sequence[Item], limit: int, as_json: Callable[[Item], dict[str, Any]]) -> dict[str, Any]:
    """`found`: one more than `limit`, where there is one: that tells whether there is a next page."""
    shown = found[:limit]
    following = _cursor(shown[-1].id) if len(found) > limit else None
    return {"items": [as_json(item) for item in shown], "next_cursor": following}


def _cursor(item_id: int) -> str:
    return base64.urlsafe_b64encode(f"c{item_id}".encode()).decode().rstrip("=")


def _id_in(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        if text[:1] == "c" and 0 < (found := int(text[1:])) <= LARGEST_ID:
            return found
    except (binascii.Error, ValueError):
        pass
    raise malformed([{"where": "query.cursor", "message": "not a cursor that this service gave"}])
