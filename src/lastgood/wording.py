"""What sentences are made of."""

from __future__ import annotations

import re
from typing import Final

# Without tabs, a line's end and the colours that we set ourselves; with what changes the direction of writing.
_CONTROLS: Final = re.compile(r"\x1b(?!\[\d{1,2}m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """For a terminal: what names of files or metrics might tell it to do is written out instead."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def within_a_sentence(complaint: str) -> str:
    """What pydantic says of a value: without the name of the Python error that a validator of ours raised."""
    said = complaint.removeprefix("Value error, ")
    return said[:1].lower() + said[1:]


def counted(count: int, what: str, plural: str | None = None) -> str:
    """1 file, 2 files."""
    return f"{count} {what if count == 1 else plural or f'{what}s'}"


def none_of(count: int, what: str, plural: str | None = None) -> str:
    """None of 2 files, no file."""
    return f"no {what}" if count == 1 else f"none of {counted(count, what, plural)}"
