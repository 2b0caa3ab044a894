"""Disk work that runs once at a time, in a thread, for however many ask."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import anyio
from anyio import to_thread

from lastgood.errors import CannotTell

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_PATIENCE: Final = 10.0  # a dead network mount blocks for ever: whoever asks is told so, and can fall back


class Shared(Generic[T]):
    """Whoever asks while the work runs waits for the same result. CannotTell where the disk does not answer."""

    def __init__(self, work: Callable[[], T], place: str) -> None:
        self._work, self._place = work, place
        self._task: asyncio.Task[T] | None = None

    async def result(self) -> T:
        # One asker that goes away must not cancel the work under the others.
        return await asyncio.shield(self.start())

    def start(self) -> asyncio.Task[T]:
        """Begins the work unless it runs already."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(_forget_error)
        return self._task

    async def fresh(self) -> T:
        """The same of work that has not begun yet: what runs already may have missed what made us ask."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task])
        return await self.result()

    async def _run(self) -> T:
        return await in_thread(self._work, self._place)


async def in_thread(work: Callable[[], T], place: str) -> T:
    """What `work` finds on the disk at `place`. CannotTell where that does not answer."""
    try:
        with anyio.fail_after(_PATIENCE):
            return await to_thread.run_sync(work, abandon_on_cancel=True)
    except TimeoutError:
        cause = OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        raise CannotTell("reading", place, cause) from None


def _forget_error(task: asyncio.Task[T]) -> None:
    # Work that was begun ahead of time may fail with nobody waiting: the next asker begins it anew.
    if not task.cancelled():
        task.exception()
