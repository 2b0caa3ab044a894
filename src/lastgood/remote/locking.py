"""One uploader at a time below a run's key: whoever holds the object says so again and again; silence frees it."""

from __future__ import annotations

import hashlib
import json
import platform
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from lastgood.cloud.addressing import UPLOADER
from lastgood.errors import RemoteError
from lastgood.remote import local

if TYPE_CHECKING:
    from lastgood.cloud import Capabilities
    from lastgood.remote.store import Store

ANOTHER: Final = "AnotherUploader"
LASTS: Final = 600.0  #: seconds of silence after which somebody else may go on


class Uploader:
    """Call `hold` before anything is sent or removed, `keep` meanwhile. Safe to use from several threads."""

    def __init__(self, store: Store, run: str, able: Capabilities, owner: str, *, lasts: float = LASTS) -> None:
        """`owner`: who we are, the same after a restart."""
        self._store, self._able, self._owner, self._lasts = store, able, owner, lasts
        self._key = "/".join(filter(None, (store.remote.run_key(run), UPLOADER)))
        self._lock = threading.Lock()
        self._said_at = float("-inf")

    def hold(self) -> None:
        """RemoteError with the code ANOTHER where somebody else sends there."""
        with self._lock:
            self._take()

    def keep(self) -> None:
        """As `hold`, when it is time to."""
        with self._lock:
            if time.monotonic() - self._said_at > self._lasts / 3:
                self._take()

    def _take(self) -> None:
        found = self._store.get(self._key)
        holder = _holder(found[0]) if found else {}
        if found and holder.get("owner") not in (None, self._owner) and found[2] < self._lasts:
            again = self._store.get(self._key)
            if again is None or again[0] != found[0]:
                raise RemoteError(f"{self._store.remote.url(self._key)} changes, or was garbled", transient=True)
            left = round(self._lasts - found[2])
            where = self._store.remote.url(self._key)
            raise RemoteError(
                f"another lastgood, on {holder.get('machine', 'an unknown machine')}, sends to {where}; "
                f"free in {left} s, unless it goes on",
                code=ANOTHER,
            )
        generation = holder.get("generation")
        self._write(found, generation if isinstance(generation, int) else 0)

    def _write(self, found: tuple[bytes, str, float] | None, generation: int) -> None:
        mine = {"owner": self._owner, "machine": platform.node(), "generation": generation + 1}
        text = json.dumps(mine).encode()
        self._store.put(
            self._key,
            text,
            # Garbled on its way it would be somebody else's, and keep us out.
            crc64=local.crc64(text) if self._able.keeps_crc64 else None,
            md5=hashlib.md5(text, usedforsecurity=False).digest() if self._able.refuses_wrong_md5 else None,
            # Two that found it free, or silent, at the same moment: one of them is refused, and looks again.
            only_new=found is None and self._able.puts_only_new,
            replaces=found[1] if found and self._able.replaces_known else None,
        )
        self._said_at = time.monotonic()


def _holder(text: bytes) -> dict[str, Any]:
    """Nobody, where it makes no sense."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
