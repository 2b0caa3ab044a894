"""Where a service that listens somewhere is asked."""

from __future__ import annotations

from typing import Final

_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to


def asked_at(host: str) -> str:
    """The address to ask from this machine: who listens everywhere listens on the loopback, too."""
    return _EVERYWHERE.get(host, host)


def url_of(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
