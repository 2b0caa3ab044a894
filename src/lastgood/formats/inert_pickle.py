"""Pickles read as data: every global is a stub, so nothing can be imported, called or made.

Opcodes: pickletools. The Python implementation is used on purpose: its memo is a dict, so a forged memo index cannot
ask for gigabytes as it can of the C one.
"""

from __future__ import annotations

import io
import pickle
import struct
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar, Final, Self

from lastgood.errors import LastgoodError
from lastgood.facts import TensorFact
from lastgood.formats.payload import Unsteady

# torch/storage.py: the classes by which a storage names its element type, and their bytes
_STORAGES: Final = {
    "DoubleStorage": ("F64", 8), "FloatStorage": ("F32", 4), "HalfStorage": ("F16", 2), "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8), "IntStorage": ("I32", 4), "ShortStorage": ("I16", 2), "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1), "BoolStorage": ("BOOL", 1), "ComplexDoubleStorage": ("C128", 16),
    "ComplexFloatStorage": ("C64", 8), "UntypedStorage": ("U8", 1),
}  # fmt: skip


class NotInert(Exception):
    """The stream is not a pickle, or not a whole one."""


class Opaque(dict[Any, Any]):
    """Stands for an object of any class: takes whatever a pickle does to it, does nothing."""

    qualified_name = ""

    def __new__(cls, *args: Any, **_named: Any) -> Self:
        made = super().__new__(cls)
        made.args, made.items_added = args, []
        return made

    def __init__(self, *_args: Any, **_named: Any) -> None:
        super().__init__()
        self.args: tuple[Any, ...]
        self.items_added: list[Any]
        self.state: Any

    @property
    def holds_something(self) -> bool:
        """Whether the pickle gave it anything: items, or a state."""
        return bool(len(self) or self.items_added or getattr(self, "state", None))

    def __call__(self, *args: Any, **_named: Any) -> Opaque:
        return Opaque(*args)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        self.items_added.append(item)

    def extend(self, items: Any) -> None:
        self.items_added.extend(items)

    add = append
    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other


@dataclass(frozen=True, slots=True)
class StorageReference:
    """A storage as the pickle names it; its bytes lie in a record of their own. None: size not known."""

    key: str
    dtype: str
    bytes: int | None


@dataclass(slots=True)
class Contents:
    """The pickled value with stubs in it, and the size in bytes of each storage that it refers to."""

    value: Any = None
    storages: dict[str, int | None] = field(default_factory=dict)


def read_pickle(data: bytes) -> Contents:
    """The value that a pickle describes. NotInert where it is damaged."""
    contents = read_pickles(io.BytesIO(data), 1)
    return Contents(contents.value[0], contents.storages)


def read_pickles(stream: io.RawIOBase | io.BytesIO, count: int) -> Contents:
    """The values of so many pickles, one after the other, as a list. NotInert where one is damaged."""
    reader = _Inert(stream)
    try:
        reader.contents.value = [reader.load() for _ in range(count)]
    except RecursionError as error:
        raise NotInert("nested too deeply") from error
    except MemoryError as error:
        raise NotInert("it asks for more memory than there is") from error
    except (LastgoodError, Unsteady):
        raise
    except Exception as error:
        # A forged or torn stream makes the machine that runs it fail in any way; none of them is ours to crash on.
        raise NotInert(f"{type(error).__name__}: {str(error)[:200] or 'the stream ends early'}") from error
    return reader.contents


class _Ordered(dict[Any, Any]):
    """An OrderedDict. A module's state_dict carries the versions of its parts as an attribute: of no use here."""

    def __setstate__(self, _state: Any) -> None:
        pass


def _rebuild_tensor(storage: Any, _offset: Any = 0, size: Any = (), *_rest: Any) -> Any:
    shape = tuple(size) if isinstance(size, tuple | list) else (None,)
    if not isinstance(storage, StorageReference) or not all(type(length) is int for length in shape):
        return Opaque(storage, size)
    width = next((width for dtype, width in _STORAGES.values() if dtype == storage.dtype), 1)
    return TensorFact(storage.dtype, shape, prod(shape) * width)


def _first_argument(first: Any, *_rest: Any) -> Any:
    return first


def _rebuild_from_type(function: Any, _kind: Any, args: Any, _state: Any = None) -> Any:
    return function(*args)


_KNOWN: Final = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _first_argument,
    ("torch._utils", "_rebuild_parameter_with_state"): _first_argument,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_from_type,
    ("collections", "OrderedDict"): _Ordered,
    ("torch", "Size"): tuple,
}


_InPython: Any = pickle._Unpickler  # noqa: SLF001 - see the module's docstring


class _Inert(_InPython):  # type: ignore[misc]
    def __init__(self, stream: io.RawIOBase | io.BytesIO) -> None:
        super().__init__(stream, encoding="latin-1")
        self.contents = Contents()
        self._stubs: dict[tuple[str, str], type[Opaque]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if known := _KNOWN.get((module, name)):
            return known
        key = (str(module), str(name))
        if key not in self._stubs:
            self._stubs[key] = type("Opaque", (Opaque,), {"qualified_name": f"{module}.{name}"})
        return self._stubs[key]

    def load_bytearray8(self) -> None:
        # The stock one makes room for whatever length is claimed before it reads: 14 bytes could ask for gigabytes.
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(length)))

    dispatch: ClassVar = {**_InPython.dispatch, pickle.BYTEARRAY8[0]: load_bytearray8}

    def get_extension(self, code: int) -> None:
        self.append(self.find_class("copyreg", f"extension {code}"))

    def persistent_load(self, pid: Any) -> Any:
        """("storage", storage class, key, device, number of elements): torch/serialization.py, `persistent_id`."""
        if isinstance(pid, tuple) and len(pid) >= 2 and pid[0] == "module":
            return pid[1]  # the older format: a module's class, with its source text
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
            return Opaque(pid)
        kind, key, count = pid[1], str(pid[2]), pid[4]
        class_name = str(getattr(kind, "qualified_name", "")).rpartition(".")[2]
        dtype, width = _STORAGES.get(class_name, ("?", 0))
        size = count * width if width and isinstance(count, int) else None
        self.contents.storages[key] = size
        return StorageReference(key, dtype, size)
