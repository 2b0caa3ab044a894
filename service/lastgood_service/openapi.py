"""The OpenAPI document: as the framework makes it, with problems under their own media type and the token declared."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi.openapi.utils import get_openapi

from lastgood_service.exception_handlers import MEDIA_TYPE
from lastgood_service.schemas import CopyPage, Leased, Problem, RequestShape, ResumePoint, Retention

if TYPE_CHECKING:
    from fastapi import FastAPI

WORDS: Final = (
    "Which is the last good checkpoint? Nothing is handed out that was not read to the last byte first. "
    "Errors are RFC 9457 problems with a stable `code`. What is polled carries an ETag. "
    "HEAD is answered wherever GET is."
)
_WHEN: Final = {
    401: "A token is needed.",
    403: "The service is not called by this host name.",
    404: "There is none, and why.",
    409: "There are several runs, and none was named; or its state, or that of its copy, does not allow it.",
    422: "The request is malformed.",
    503: "Nothing can be vouched for at the moment, and why.",
}
_NOT_CHANGED: Final = {"description": "As the ETag in If-None-Match says: not changed."}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, to be declared with it; those that any route can give are added."""
    declared = sorted({401, 403, 422, *statuses})
    return {status: {"model": Problem, "description": _WHEN[status]} for status in declared}


def polled(model: type, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """An answer with an ETag, and its refusals."""
    return {200: {"model": model}, 304: _NOT_CHANGED, **problems(*statuses)}


def accepted(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Work that the worker will do, and the refusals."""
    said = "The worker will look; Location says where to follow it."
    return {202: {"model": RequestShape, "description": said}, **problems(*statuses)}


def install(app: FastAPI) -> None:
    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            app.openapi_schema = _finished(made)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # the documented way


def _finished(document: dict[str, Any]) -> dict[str, Any]:
    for path in document["paths"].values():
        for method, operation in path.items():
            _finish_operation(operation, changes=method != "get")
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for shape in (
        Problem,
        ResumePoint,
        Leased,
        Retention,
        CopyPage,
    ):  # the framework drops what is null in an example, and so makes it a wrong one
        document["components"]["schemas"][shape.__name__].update(shape.model_config["json_schema_extra"])
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    return document


def _finish_operation(operation: dict[str, Any], *, changes: bool) -> None:
    # Reads need the token only where the service listens beyond loopback: {} says that none may do.
    operation["security"] = [{"token": []}] if changes else [{}, {"token": []}]
    for status, response in operation["responses"].items():
        if int(status) >= HTTPStatus.BAD_REQUEST and "application/json" in response.get("content", {}):
            response["content"] = {MEDIA_TYPE: response["content"].pop("application/json")}
