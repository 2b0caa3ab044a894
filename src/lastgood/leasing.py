"""Holding the resume point while a job loads it, and saying afterwards how that went."""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lastgood.errors import LastgoodError, SettingsError
from lastgood.records import LONGEST_LEASE, SHORTEST_LEASE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastgood.calling import Service

_log = logging.getLogger("lastgood")
_LONGEST_ERROR: Final = 1000
_LONGEST_HOST: Final = 100


def this_process() -> str:
    """Who we are, for people who wonder who holds a checkpoint."""
    return f"{socket.gethostname()[:_LONGEST_HOST]} (process {os.getpid()})"


@dataclass(frozen=True, slots=True)
class Lease:
    """What is wanted of a lease. SettingsError where no lease lasts so long."""

    seconds: float | None = None  #: None: as long as the service's setting says
    holder: str = field(default_factory=this_process)

    def __post_init__(self) -> None:
        if self.seconds is not None and not SHORTEST_LEASE <= self.seconds <= LONGEST_LEASE:
            raise SettingsError(f"a lease lasts from a second to 30 days, not {self.seconds:g} s")


def take_lease(service: Service, lease: Lease, question: Mapping[str, Any], wait: float) -> dict[str, Any]:
    """The resume point, with the lease on it under `lease`. The refusals of `GET /checkpoints/latest`."""
    body = {**question, "wait": wait or None, "holder": lease.holder, "seconds": lease.seconds}
    found = service.post("/leases", body, patience=wait)
    return {**found["resume_point"], "lease": found["lease"]}


def give_back(service: Service, found: Mapping[str, Any], trouble: str | None) -> None:
    """Ends the lease on what `take_lease` returned, and reports how loading went: `trouble` is why it failed.

    A service that is down, or refuses, is no reason to stop a training.
    """
    if "lease" not in found:
        return
    said = {"outcome": "ok"} if trouble is None else {"outcome": "failed", "error": _in_plain_text(trouble)}
    try:
        service.post(f"/checkpoints/{found['id']}/outcome", said)
    except LastgoodError as error:
        _log.info("the service was not told how loading %s went: %s", found["name"], error)
    try:
        service.delete(f"/leases/{found['lease']['id']}")
    except LastgoodError as error:
        _log.info("the lease on %s was not given back, and ends by itself: %s", found["name"], error)


def _in_plain_text(trouble: str) -> str:
    """An error may name files whose names are no text."""
    return trouble[:_LONGEST_ERROR].encode("utf-8", "replace").decode()
