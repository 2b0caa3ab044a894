"""The options in docs/training.md as the code has them: `python tests/support/training_page.py docs/training.md`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lastgood.training.options import SaveOptions

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_HEAD: Final = "| option | default | what |\n|---|---|---|\n"


def table() -> str:
    """One row an option, in the order of the class."""
    return _HEAD + "".join(_row(name, field) for name, field in SaveOptions.model_fields.items())


def renewed(page: str) -> str:
    """The page with the table as it should be."""
    start = page.index(_HEAD)
    end = page.index("\n\n", start) + 1
    return page[:start] + table() + page[end:]


def _row(name: str, field: FieldInfo) -> str:
    default = "" if field.default is None else f"`{str(field.default).lower()}`"
    return f"| `{name}` | {default} | {field.description} |\n"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
