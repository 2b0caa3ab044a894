"""How often what happened."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lastgood.catalog import Catalog

_AT_ONCE: Final = 1000


class EventCounts:
    """Ask as often as you like: each event is read once."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._last = 0
        self._counts: Counter[tuple[str, str]] = Counter()

    def now(self) -> dict[tuple[str, str], int]:
        """By kind and severity, since the catalog was made."""
        with self._lock:
            while events := self._catalog.events(since=self._last, limit=_AT_ONCE):
                self._counts.update((event.kind, event.severity.value) for event in events)
                self._last = events[-1].id
            return dict(self._counts)
