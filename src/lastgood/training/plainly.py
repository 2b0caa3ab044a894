"""Files of torch that load without trusting anybody: tensors, plain values and NumPy's, nothing that would run."""

from __future__ import annotations

import collections
import os
import pickle
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch

from lastgood.formats.zip_directory import is_mappable

_one_at_a_time = threading.RLock()  # torch's list of what is safe is that of the process
# A child that is forked meanwhile must not find it taken by a thread that it does not have.
os.register_at_fork(
    before=_one_at_a_time.acquire, after_in_child=_one_at_a_time.release, after_in_parent=_one_at_a_time.release
)
_NUMPY_KINDS: Final = "biufcSU"  # whole and other numbers, bytes and text; no objects
_CONTAINERS: Final = (dict, list, tuple, set, collections.OrderedDict, collections.Counter)
_LEAVES: Final = (
    *(torch.Tensor, torch.nn.Parameter, torch.Size, torch.dtype, torch.device),
    *(str, bytes, bytearray, int, float, complex, bool, type(None)),
)


def save(content: Any, path: str) -> None:
    """As `torch.save`. OSError where it cannot be written."""
    try:
        with open(path, "wb") as file:  # torch, where it opens the path itself, tells no errno
            torch.save(content, file)
    except RuntimeError as error:  # the end of the archive could not be written either
        if isinstance(cause := error.__context__, OSError):
            raise OSError(cause.errno, cause.strerror, path) from error
        if cause is not None and not isinstance(cause, Exception):  # Ctrl-C, of which the archive cannot be ended
            raise cause from None
        raise


def first_not_plain(value: Any, path: str = "") -> tuple[str, Any] | None:
    """The first part that `load` would not take, and where it lies; None where all would be taken."""
    if type(value) in _CONTAINERS:
        if isinstance(value, Mapping) and (key := next((k for k in value if first_not_plain(k)), None)) is not None:
            return f"{path}, of which a key", key
        parts = value.items() if isinstance(value, Mapping) else enumerate(value)
        found = (first_not_plain(part, f"{path}[{key!r}]" if path else str(key)) for key, part in parts)
        return next(filter(None, found), None)
    if type(value) is np.ndarray or isinstance(value, np.generic):
        return None if value.dtype.kind in _NUMPY_KINDS else (path, value)
    return None if type(value) in _LEAVES else (path, value)


@contextmanager
def naming_offenders(content: Mapping[str, Any]) -> Iterator[None]:
    """TypeError names the entry that cannot be copied, or could not be loaded again without trusting it."""
    try:
        yield
    except (pickle.PickleError, AttributeError, TypeError) as error:  # each is raised for what cannot be pickled
        found = first_not_plain(content)
        if found is None:
            raise TypeError(f"the state is not saved: {' '.join(str(error).split())[:200]}") from error
        path, value = found
        raise TypeError(
            f"{path} is not saved: a {type(value).__name__} is neither a tensor nor a plain value, and to load it "
            "would be to trust it; save what it is made of, as its state_dict()"
        ) from error


def load(path: str, device: str = "cpu", *, mapped: bool = False) -> Any:
    """What a torch file holds: tensors, plain values and NumPy's, nothing that would run. UnpicklingError otherwise.

    `mapped`: the tensors stay in the file until they are used, where it is not packed and not of the oldest format.
    """
    with _one_at_a_time, torch.serialization.safe_globals(_numpy_pieces_unknown_to_torch()):
        if mapped and is_mappable(path):
            return torch.load(path, map_location=device, weights_only=True, mmap=True)
        return torch.load(path, map_location=device, weights_only=True)


def require(path: str) -> None:
    """UnpicklingError where `load` would not take it. No tensor is read, where torch can do without."""
    try:
        load(path, "meta")
    except NotImplementedError:  # those that are quantised have to be somewhere
        load(path, mapped=True)


def _numpy_pieces_unknown_to_torch() -> list[Any]:
    """Those that the job itself has declared safe are not ours to take away again."""
    known = torch.serialization.get_safe_globals()
    return [piece for piece in _numpy_pieces() if piece not in known]


def _numpy_pieces() -> list[Any]:
    """What the arrays and numbers of NumPy in a file are made of, under the names of its first and second version."""
    # They lie in a private module that was renamed; pickling itself tells where.
    array, number = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(kind)) for kind in (*np.typecodes["AllInteger"], *np.typecodes["AllFloat"], *"?SU")}
    return [
        *((array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
        *((number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
        np.ndarray,
        np.dtype,
        *kinds,
    ]
