"""From what stopped us to what goes over the wire: RFC 9457 problems, by one table."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from lastgood.errors import (
    CannotTell,
    CatalogError,
    Conflict,
    LastgoodError,
    NoCheckpointsYet,
    NoneAcceptable,
    NotAllowed,
    NotReady,
    Refusal,
    RunAmbiguous,
    Unknown,
)
from lastgood_service.responses import Rendered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"
_SOON: Final = {"retry-after": "5"}


class Invalid(Refusal):
    """The question itself is malformed. Retrying it as it is will not help."""

    code = "invalid"


class TokenNeeded(NotAllowed):
    """The same refusal for clients; over HTTP it asks for the token."""


class Kind(NamedTuple):
    status: int
    title: str
    code: str
    headers: Mapping[str, str] = {}


PROBLEMS: Final[Mapping[type[LastgoodError], Kind]] = {
    NoCheckpointsYet: Kind(404, "No checkpoints yet", NoCheckpointsYet.code),
    NoneAcceptable: Kind(404, "None of the checkpoints may be handed out", NoneAcceptable.code),
    RunAmbiguous: Kind(409, "Several runs, and none was named", RunAmbiguous.code),
    NotReady: Kind(503, "The watcher cannot vouch for anything at the moment", NotReady.code, _SOON),
    Unknown: Kind(404, "There is no such thing", Unknown.code),
    Conflict: Kind(409, "Its state does not allow it", Conflict.code),
    TokenNeeded: Kind(401, "A token is needed", NotAllowed.code, {"www-authenticate": "Bearer"}),
    NotAllowed: Kind(403, "Not allowed", NotAllowed.code),
    Invalid: Kind(422, "The request is malformed", Invalid.code),
    CannotTell: Kind(503, "The disk does not answer", "cannot-tell", _SOON),
    CatalogError: Kind(503, "The catalog cannot be used", "catalog-unusable", _SOON),
    LastgoodError: Kind(500, "Something went wrong here", "internal"),
}
_OF_THE_FRAMEWORK: Final[Mapping[int, tuple[str, str]]] = {
    404: ("no-such-address", "There is nothing at this address"),
    405: ("method-not-allowed", "This address does not take that method"),
}


def install(app: FastAPI) -> None:
    app.add_exception_handler(LastgoodError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_malformed)
    app.add_exception_handler(HTTPException, _on_http)


def problem_of(error: LastgoodError) -> Rendered:
    """The problem that an error is shown as."""
    kind = _kind_of(error)
    details = error.details if isinstance(error, Refusal) else {}
    return _problem(kind, str(error), details)


def code_of(error: LastgoodError) -> str:
    return _kind_of(error).code


def internal_problem() -> Rendered:
    """For what nobody foresaw: the log has it, the answer does not."""
    return _problem(PROBLEMS[LastgoodError], "the service's log says more", {})


def malformed(errors: list[dict[str, str]]) -> Invalid:
    return Invalid("; ".join(f"{e['where']}: {e['message']}" for e in errors), errors=errors)


def _kind_of(error: LastgoodError) -> Kind:
    return next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)


def _problem(kind: Kind, detail: str, details: Mapping[str, Any]) -> Rendered:
    body = {
        **details,
        "type": f"urn:lastgood:problem:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": kind.code,
    }
    headers = {"content-type": MEDIA_TYPE, "cache-control": "no-store", **kind.headers}
    return Rendered(json.dumps(body).encode(), headers, kind.status)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, LastgoodError)
    return problem_of(error).response(request)


async def _on_malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [{"where": ".".join(str(part) for part in e["loc"]), "message": e["msg"]} for e in error.errors()]
    return problem_of(malformed(found)).response(request)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    fallback = ("refused", HTTPStatus(error.status_code).phrase)
    code, title = _OF_THE_FRAMEWORK.get(error.status_code, fallback)
    headers = {k.lower(): v for k, v in (error.headers or {}).items()}
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:  # the framework names those of one route of several
        headers["allow"] = ", ".join(_methods_taken(request))
    kind = Kind(error.status_code, title, code, headers)
    return _problem(kind, f"{request.method} {request.url.path}", {}).response(request)


def _methods_taken(request: Request) -> list[str]:
    """By any route of this address."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in routes for method in route.methods}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)
