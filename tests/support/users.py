"""What another user would get to see: a call in a child process that has become that user. Needs to be root."""

from __future__ import annotations

import ctypes
import os
import pickle
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_LINUX_CAPABILITY_VERSION_3 = 0x20080522


def as_user(uid: int, call: Callable[[], Any]) -> Any:
    """What it returns, called by `uid`:`uid`. For 0: by root without capabilities, as in a container."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(uid, call, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        answered = file.read()
    os.waitpid(child, 0)
    returned, failed = pickle.loads(answered)
    assert failed is None, failed
    return returned


def _answer(uid: int, call: Callable[[], Any], writing: int) -> None:
    answer: tuple[Any, str | None]
    try:
        _become(uid)
        answer = (call(), None)
    except BaseException:  # noqa: BLE001 - told to whoever asked
        answer = (None, traceback.format_exc())
    with os.fdopen(writing, "wb") as file:
        pickle.dump(answer, file)
    os._exit(0)


def _become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if uid == 0:
        header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
        if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()) != 0:
            raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")
