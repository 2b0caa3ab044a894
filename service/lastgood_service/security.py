"""Who may ask for what: the token, the host names, and the headers that keep a browser from being used against us."""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import secrets
from typing import TYPE_CHECKING, Final

from starlette.requests import Request

from lastgood.errors import NotAllowed, SettingsError
from lastgood_service.exception_handlers import TokenNeeded, internal_problem, problem_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from lastgood.errors import Refusal
    from lastgood.settings import Settings

_log = logging.getLogger(__name__)

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_ALWAYS_OPEN: Final = frozenset({"/livez", "/readyz", "/", "/page.js", "/page.css", "/favicon.svg"})
_EVERYWHERE: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared, never bound here
_HEADERS: Final = [
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; form-action 'none'; object-src 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


def obtain_token(path: str) -> str:
    """The token in the file, made at the first start. Processes that start at once agree on one."""
    try:
        if not os.path.exists(path):
            _make_token(path)
        with open(path, encoding="ascii") as file:
            token = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError(f"the token file {path} cannot be used: {why}") from error
    if not token:
        raise SettingsError(f"the token file {path} is empty; remove it, and a new one is made")
    return token


def _make_token(path: str) -> None:
    # Written whole under another name and then linked: nobody can read half a token, and the second link fails.
    draft = f"{path}.{os.getpid()}.{secrets.token_hex(4)}"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)


class Guard:
    """Around everything: refuses first, adds its headers to every answer, and turns a crash into a problem."""

    def __init__(self, app: ASGIApp, *, settings: Settings, token: str) -> None:
        self._app, self._token = app, token.encode()
        self._reads_need_token = settings.reads_need_token
        self._hosts = allowed_hosts(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        if refusal := self._refusal(scope):
            await problem_of(refusal).response(Request(scope))(scope, receive, send_guarded)
            return
        try:
            await self._app(scope, receive, send_guarded)
        except Exception:
            _log.exception("unforeseen method=%s path=%s", scope["method"], scope["path"])
            if started:
                raise
            await internal_problem().response(Request(scope))(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = dict(scope["headers"])
        host = _without_port(headers.get(b"host", b"").decode("latin-1"))
        if host not in self._hosts:
            return NotAllowed(
                f"this service is not called {host!r}; add the name to LASTGOOD_ALLOWED_HOSTS if it should be"
            )
        if not self._needs_token(scope):
            return None
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token):
            return None
        return TokenNeeded("send the header `Authorization: Bearer TOKEN`; the service's token file holds the token")

    def _needs_token(self, scope: Scope) -> bool:
        if scope["method"] not in _SAFE_METHODS:
            return True
        return self._reads_need_token and scope["path"] not in _ALWAYS_OPEN


def allowed_hosts(settings: Settings) -> frozenset[str]:
    """The names by which we may be called: a page elsewhere must not reach us through a name of its own."""
    names = {"localhost", "127.0.0.1", "[::1]", *settings.allowed_hosts}
    if settings.host not in _EVERYWHERE:
        names.add(f"[{settings.host}]" if ":" in settings.host else settings.host)
    return frozenset(name.lower() for name in names)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()
