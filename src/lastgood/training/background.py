"""Saves on a thread of their own, one at a time, and the copies that they are made of."""

from __future__ import annotations

import copy
import logging
import os
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

_log = logging.getLogger("lastgood")


class Background:
    """The thread that saves. What goes wrong on it is raised at the next call of any method, once."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._running: Future[None] | None = None
        self._process = os.getpid()

    def __reduce__(self) -> tuple[type[Background], tuple[()]]:
        return Background, ()

    def start(self, what: str, work: Callable[[], None]) -> None:
        """Begins the work when the one before has ended. `what`: as the log calls it."""
        self.wait()
        # Python itself waits for it at its end, so that the last save of a job is finished.
        self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="lastgood-save")
        try:
            self._running = self._pool.submit(_logged, what, work)
        except RuntimeError:  # Python is ending, or may start no thread
            self._pool = None  # in whose queue the work is all the same
            work()

    def wait(self) -> None:
        """Until nothing is in work."""
        if self._process != os.getpid():  # a fork: the thread is the other process's
            self._pool, self._running, self._process = None, None, os.getpid()
        running = self._running
        if running is not None:
            wait((running,))  # Ctrl-C here ends the waiting, not the save
            self._running = None
            running.result()


def _logged(what: str, work: Callable[[], None]) -> None:
    """A job may end without another call: then the log alone says it."""
    try:
        work()
    except Exception as error:
        _log.exception("%s failed", what)
        error.add_note(f"{what}, which was saved in the background")
        raise


def copied(value: Any) -> Any:
    """The value as it is now, in the memory of the CPU, whatever becomes of it: tensors that share memory still do."""
    made = _Copies()
    found = made.of(value)
    made.finish()
    return found


class _Copies:
    def __init__(self) -> None:
        self._storages: dict[tuple[torch.device, int], Any] = {}
        self._resolved: list[Any] = []  # kept: another one would come to lie where the last one was
        self._devices: set[torch.device] = set()

    def of(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(value.detach())
        if isinstance(value, dict):
            made = copy.copy(value)  # a Counter or an OrderedDict stays one
            for key, part in value.items():
                made[key] = self.of(part)
            return made
        if isinstance(value, list):
            return [self.of(part) for part in value]
        if type(value) is tuple:
            return tuple(self.of(part) for part in value)
        return copy.deepcopy(value)

    def finish(self) -> None:
        """From a GPU they come while the next ones are asked for; here they are waited for."""
        for device in self._devices:
            torch.cuda.synchronize(device)

    def _tensor(self, tensor: Any) -> Any:
        tensor = tensor.resolve_conj().resolve_neg()
        self._resolved.append(tensor)
        plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
        if not plain or tensor.layout is not torch.strided or tensor.is_quantized:
            return tensor.cpu().clone()  # those of other kinds know themselves how they are copied
        if tensor.is_meta:
            return tensor
        storage = tensor.untyped_storage()
        key = (tensor.device, storage.data_ptr())
        if not storage.nbytes() or key not in self._storages:
            self._storages[key] = self._storage(tensor.device, storage)
        own = torch.empty(0, dtype=tensor.dtype, device="cpu")
        return own.set_(self._storages[key], tensor.storage_offset(), tensor.size(), tensor.stride())

    def _storage(self, device: torch.device, storage: Any) -> Any:
        target = torch.UntypedStorage(storage.nbytes(), device="cpu")
        if device.type == "cuda":
            self._devices.add(device)
        target.copy_(storage, non_blocking=device.type == "cuda")
        return target
