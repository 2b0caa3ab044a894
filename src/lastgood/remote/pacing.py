"""Trying again, and not too fast."""

from __future__ import annotations

import io
import random
import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

from lastgood.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable

Body = bytes | io.BytesIO
Result = TypeVar("Result")
TRIES: Final = 6
_LONGEST: Final = 20.0


def patiently(doing: Callable[[], Result], patience: float, tries: int = TRIES) -> Result:
    """What `doing` returns, tried again as long as what fails may pass. `patience`: seconds before the first retry."""
    for attempt in range(tries - 1):
        try:
            return doing()
        except RemoteError as error:
            if not error.transient:
                raise
        # Spread, or all that failed at once would come back at once.
        time.sleep(min(patience * 2**attempt, _LONGEST) * random.uniform(0.5, 1.0))  # noqa: S311
    return doing()


class Pace:
    """No more than so many bytes a second, for all threads together; 0: no limit."""

    def __init__(self, max_rate: int) -> None:
        self._max_rate = max_rate
        self._lock = threading.Lock()
        self._free_at = 0.0

    def body(self, content: bytes) -> Body:
        """The content, to be sent at this pace."""
        return _Paced(content, self) if self._max_rate else content

    def wait_for(self, count: int) -> None:
        """Until `count` bytes more may go."""
        if not self._max_rate:
            return
        with self._lock:
            now = time.monotonic()
            starts = max(self._free_at, now)
            self._free_at = starts + count / self._max_rate
        time.sleep(max(starts - now, 0.0))


class _Paced(io.BytesIO):
    def __init__(self, content: bytes, pace: Pace) -> None:
        super().__init__(content)
        self._pace = pace

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(size)
        self._pace.wait_for(len(block))
        return block
