"""Numbers in sentences."""

from __future__ import annotations


def counted(count: int, what: str, plural: str | None = None) -> str:
    """1 file, 2 files."""
    return f"{count} {what if count == 1 else plural or f'{what}s'}"


def none_of(count: int, what: str, plural: str | None = None) -> str:
    """None of 2 files, no file."""
    return f"no {what}" if count == 1 else f"none of {counted(count, what, plural)}"
