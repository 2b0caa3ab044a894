"""Numbers in sentences."""

from __future__ import annotations


def counted(count: int, what: str, plural: str | None = None) -> str:
    """1 file, 2 files."""
    return f"{count} {what}" if count == 1 else f"{count} {plural or f'{what}s'}"
