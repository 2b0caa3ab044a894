"""Whether worker and service are at work, for the health checks of containers: what is wrong, in one line."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Final

from lastgood.addresses import asked_at

if TYPE_CHECKING:
    from datetime import datetime

    from lastgood.catalog import WorkerStatus

_PATIENCE_SECONDS: Final = 5.0


def trouble_of_worker(worker: WorkerStatus | None, state_dir: str, now: datetime) -> str | None:
    """By its heartbeat in the catalog: it opens no port."""
    if worker is None:
        return f"no worker has ever run on {state_dir}"
    if worker.is_alive(now):
        return None
    since = worker.heartbeat_at.isoformat(timespec="seconds")
    return f"the worker on {state_dir} (process {worker.pid}) has said nothing since {since}"


def trouble_of_service(host: str, port: int) -> str | None:
    """By a question to it. That its worker is down is no trouble of its own."""
    host = asked_at(host)
    connection = HTTPConnection(host, port, timeout=_PATIENCE_SECONDS)
    try:
        connection.request("GET", "/livez", headers={"Host": "localhost"})
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"no service answers at {host}:{port}: {error}"
    finally:
        connection.close()
    return None if status == 200 else f"what answers at {host}:{port} is not well, or not lastgood (status {status})"
