"""The settings file, where there is one: `lastgood.toml` in the working folder."""

from __future__ import annotations

from typing import Final

from lastgood.errors import SettingsError

NAME: Final = "lastgood.toml"


def settings_text() -> str:
    """What the file says, for `read_settings`; "" where there is none. SettingsError where it cannot be read."""
    try:
        with open(NAME, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{NAME} cannot be read: {error}") from error
