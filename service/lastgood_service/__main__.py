"""`python -m lastgood_service`: reads the settings, opens the catalog, answers until SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

import uvicorn

from lastgood import ownership
from lastgood.addresses import url_of
from lastgood.catalog import Catalog
from lastgood.errors import LastgoodError, SettingsError
from lastgood.settings import Settings, read_settings
from lastgood.settings_file import settings_text
from lastgood_service.app import create_app

if TYPE_CHECKING:
    from types import FrameType

    from fastapi import FastAPI

_GRACE: Final = 3  # seconds for answers under way once we are asked to end
_BACKLOG: Final = 2048


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    try:
        settings = read_settings(os.environ, settings_text())
        _check_roots(settings)
        catalog = Catalog(settings.state_dir)
        app = create_app(settings, catalog)
        listener = _listen(settings)
    except LastgoodError as error:
        print(f"lastgood service: {error}", file=sys.stderr)  # noqa: T201 - for the person who started us
        return 2
    with listener:
        _serve(app, listener)
    catalog.close()
    return 0


def _check_roots(settings: Settings) -> None:
    for root in settings.roots:
        if why := ownership.why_closed("the watched folder", root, write=False):
            raise SettingsError(why)


class _Server(uvicorn.Server):
    """Lets go of held answers as soon as it is asked to end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.desk.closing.set()  # type: ignore[union-attr]  # it is the app that we gave it
        super().handle_exit(sig, frame)


def _serve(app: FastAPI, listener: socket.socket) -> None:
    # uvicorn raises the signal again once it is done; being asked to end is not a failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        log_level="warning",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    logging.getLogger("lastgood_service").info("listening url=%s", url_of(*listener.getsockname()[:2]))
    _Server(config).run(sockets=[listener])


def _listen(settings: Settings) -> socket.socket:
    """Bound here and not by the server, so that the reason it cannot be is ours to say."""
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SettingsError(f"{where} is no address to listen on: {error.strerror}; set LASTGOOD_HOST") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on {where}: {error.strerror}; choose another with LASTGOOD_PORT or LASTGOOD_HOST"
        ) from None
    return listener


if __name__ == "__main__":
    sys.exit(main())
