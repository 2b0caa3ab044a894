"""JSON, as the frameworks write it: NaN and Infinity are allowed, as Python's own writer puts them in."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from lastgood.findings import Code, Finding
from lastgood.formats.payload import Parsed

if TYPE_CHECKING:
    from lastgood.formats.payload import PayloadReader

_LARGEST: Final = 256 << 20  # a tokenizer.json of 20 MB is usual; a training log of a long run comes to 100 MB
# What Python makes of a text is larger than the text: 72 bytes for `{}`, 32 for `0.`. So bounded, below 2 GiB in all.
_MOST_CONTAINERS: Final = 8 << 20
_MOST_VALUES: Final = 24 << 20
_WORDS: Final = ("true", "false", "null", "NaN", "Infinity", "-Infinity")
_BEGUN: Final = re.compile(r"u[0-9a-fA-F]{0,4} | \. | [eE][+-]?", re.VERBOSE)  # an escape, a fraction, an exponent


def parse(payload: PayloadReader, path: str) -> Parsed:
    """The value that the file holds."""
    if payload.size > _LARGEST:
        return _too_much(path, f"{payload.size} bytes")
    data = payload.read(0, payload.size)
    if data.count(b"[") + data.count(b"{") > _MOST_CONTAINERS or data.count(b",") > _MOST_VALUES:
        return _too_much(path, "so many values")
    try:
        text = data.decode("utf-8-sig")
        return Parsed("json", json.loads(text))
    except json.JSONDecodeError as error:
        code = Code.JSON_SHORT if _is_cut(text, error) else Code.JSON_INVALID
        return _broken(code, path, f"{error.msg} at line {error.lineno}, column {error.colno}", data)
    except UnicodeDecodeError as error:
        code = Code.JSON_SHORT if error.reason == "unexpected end of data" else Code.JSON_INVALID
        return _broken(code, path, f"not UTF-8 text: {error.reason} at byte {error.start}", data)
    except RecursionError:
        return _broken(Code.JSON_INVALID, path, "nested too deeply to be a framework's file", data)
    except ValueError as error:
        # A number of more digits than Python turns into an integer.
        return _broken(Code.JSON_INVALID, path, str(error), data)


def _is_cut(text: str, error: json.JSONDecodeError) -> bool:
    """Whether the text is right as far as it goes: it was cut off there, since the writer never finished."""
    rest = text[error.pos :].rstrip()
    return (
        error.msg.startswith("Unterminated string")
        or any(word.startswith(rest) for word in _WORDS)
        or _BEGUN.fullmatch(rest) is not None
    )


def _too_much(path: str, what: str) -> Parsed:
    hint = "look who wrote it: no framework writes such a file"
    return Parsed("json", None, (Finding(Code.FILE_UNREADABLE, path, f"{what} are more than JSON is read for", hint),))


def _broken(code: Code, path: str, message: str, data: bytes) -> Parsed:
    return Parsed(
        "json", None, (Finding(code, path, message),), foreign=code is Code.JSON_INVALID and not _has_zeros(data)
    )


def _has_zeros(data: bytes) -> bool:
    """Whether bytes of it were never written: no text has zeros in it. Other wrong ones may be of JSON Lines, comments,
    or of anything else that somebody gave this ending.
    """
    begun = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return data.startswith(b"\0") or (begun in (b"{", b"[") and b"\0" in data)
