"""What is written in a setting as text: durations, rules, places."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
_UNIT_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BEST: Final = re.compile(r"(\d+)\s+by\s+(\S+)\s+(min|max)")
_EVERY: Final = re.compile(r"every\s+([1-9]\d*)(?:\s+steps)?")
_PLACE: Final = re.compile(r"s3://([a-z0-9][a-z0-9._-]{1,62})(?:/(.*))?")
_ENDPOINT: Final = re.compile(r"https?://[^/@\s?#]+/?")


@dataclass(frozen=True, slots=True)
class KeepBest:
    """`2 by eval_loss min`: which ones of those that were measured are the best."""

    count: int
    metric: str
    mode: Literal["min", "max"]

    def __str__(self) -> str:
        return f"{self.count} by {self.metric} {self.mode}"


def seconds_in(text: Any) -> Any:
    """The seconds in `36h`, `7d` or a bare number. ValueError where it is neither."""
    if not isinstance(text, str):
        return text
    if match := _DURATION.fullmatch(text.strip()):
        return float(match[1]) * _UNIT_SECONDS[match[2]]
    raise ValueError("a duration is a number and one of s, m, h, d, w, such as 36h or 7d")


def _keep_best(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    if not text:
        return None
    if match := _BEST.fullmatch(text.strip()):
        return KeepBest(int(match[1]), match[2], "min" if match[3] == "min" else "max")
    raise ValueError("say how many, by what, and whether less or more is better, such as `1 by eval_loss min`")


@dataclass(frozen=True, slots=True)
class UploadWhich:
    """`all`, or some of `every 5000`, `best`, `pinned`."""

    all: bool = True
    every: int = 0  #: steps
    best: bool = False
    pinned: bool = False

    def __str__(self) -> str:
        said = {f"every {self.every}": self.every, "best": self.best, "pinned": self.pinned}
        return "all" if self.all else ", ".join(text for text, is_so in said.items() if is_so)


def _upload_which(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    parts = {part.strip() for part in text.split(",")}
    if parts == {"all"}:
        return UploadWhich()
    every = [match for part in parts if (match := _EVERY.fullmatch(part))]
    if len(every) + len(parts & {"best", "pinned"}) != len(parts) or len(every) > 1:
        raise ValueError("say `all`, or some of `every STEPS`, `best` and `pinned`, such as `every 5000, best`")
    return UploadWhich(
        all=False, every=int(every[0][1]) if every else 0, best="best" in parts, pinned="pinned" in parts
    )


def bucket_and_prefix(url: str) -> tuple[str, str]:
    """What `s3://BUCKET/PREFIX` names. ValueError where it is none."""
    match = _PLACE.fullmatch(url)
    if match is None:
        raise ValueError("a place for copies is s3://BUCKET or s3://BUCKET/PREFIX")
    prefix = (match[2] or "").strip("/")
    if prefix and any(part in ("", ".", "..") for part in prefix.split("/")):
        raise ValueError("a prefix has no empty parts, and no `.` or `..`")
    return match[1], prefix


def checked_place(text: str) -> str:
    if text:
        bucket_and_prefix(text)
    return text


def checked_endpoint(text: str) -> str:
    if text and not _ENDPOINT.fullmatch(text):
        raise ValueError("an endpoint is http://HOST or https://HOST, with a port or without; no user, no path")
    return text


def checked_tags(text: str) -> str:
    pairs = [pair.partition("=") for pair in text.split("&") if pair]
    if any(not key or not equals for key, equals, _value in pairs):
        raise ValueError("tags are `key=value`, joined by `&`")
    return text


Duration = Annotated[float, BeforeValidator(seconds_in), Field(ge=0)]
Which = Annotated[UploadWhich, BeforeValidator(_upload_which), PlainSerializer(str)]
Best = Annotated[KeepBest | None, BeforeValidator(_keep_best), PlainSerializer(lambda best: str(best or ""))]
