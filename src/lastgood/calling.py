"""The REST service, as whoever asks it sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx

from lastgood.errors import REFUSALS, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastgood.settings import Settings

_PATIENCE_SECONDS: Final = 2.0
_NO_CONTENT: Final = 204


@dataclass(frozen=True, slots=True)
class Service:
    """Each call returns the JSON that the service answers; it raises the service's Refusal, or Unreachable.

    `token` is sent where there is one. `patience`: seconds that the service may think besides.
    """

    url: str
    token: str = ""

    def get(self, path: str, params: Mapping[str, Any] | None = None, *, patience: float = 0.0) -> Any:
        return self._call("GET", path, patience, params=_said(params or {}))

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, patience: float = 0.0) -> Any:
        return self._call("POST", path, patience, json=_said(body or {}))

    def put(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self._call("PUT", path, 0.0, json=_said(body or {}))

    def delete(self, path: str) -> Any:
        """None where there is nothing to say."""
        return self._call("DELETE", path, 0.0)

    def _call(self, method: str, path: str, patience: float, **content: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        timeout = httpx.Timeout(_PATIENCE_SECONDS, read=_PATIENCE_SECONDS + patience)
        try:
            # Proxies are for the world outside; the service is a neighbour. Certificates take a while to load.
            certificates = not self.url.startswith("http:")
            with httpx.Client(trust_env=False, timeout=timeout, headers=headers, verify=certificates) as client:
                response = client.request(method, self.url + path, **content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(f"no service answers at {self.url}: {error}") from error
        return _content_of(response, self.url)


def service_of(settings: Settings, url: str | None = None) -> Service:
    """The service at `url`, or where the settings say."""
    return Service((url or settings.service_url).rstrip("/"), token_from(settings.token_path))


def token_from(path: str) -> str:
    """The token in the file; "" where it cannot be read: reads on loopback need none."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _content_of(response: httpx.Response, url: str) -> Any:
    if response.status_code == _NO_CONTENT:
        return None
    try:
        content = response.json()
    except (ValueError, RecursionError):
        raise Unreachable(f"what answers at {url} is not lastgood (status {response.status_code})") from None
    if response.is_success:
        return content
    kind = REFUSALS.get(str(content.get("code"))) if isinstance(content, dict) else None
    if kind is None:
        detail = content.get("detail") if isinstance(content, dict) else content
        raise Unreachable(f"the service at {url} failed with status {response.status_code}: {detail}")
    details = {k: v for k, v in content.items() if k not in ("type", "title", "status", "detail", "code")}
    raise kind(str(content.get("detail") or content.get("title")), **details)
