"""docs/settings.md as the code has it: `python tests/support/settings_page.py > docs/settings.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lastgood.settings import ENVIRONMENT_PREFIX, Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_HEAD: Final = """\
# Settings

From `lastgood.toml` in the working folder, then the environment, then flags; the later one wins. An unknown name is an
error in each of the three.

| setting | in the environment | default | what |
|---|---|---|---|
"""


def settings_page() -> str:
    """The whole page: one row a setting, in the order of the class."""
    return _HEAD + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _row(name: str, field: FieldInfo) -> str:
    default = "" if field.default in ((), "", {}, None) else f"`{_shown(field.default)}`"
    return f"| `{name}` | `{ENVIRONMENT_PREFIX}{name.upper()}` | {default} | {field.description} |\n"


def _shown(default: object) -> str:
    """As TOML and the environment take it."""
    return str(default).lower() if isinstance(default, bool) else str(default)


if __name__ == "__main__":
    print(settings_page(), end="")
