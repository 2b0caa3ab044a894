"""Pickles read as data: every global is a stub, so nothing can be imported, called or made.

Opcodes: pickletools. The Python implementation is used on purpose: its memo is a dict, so a forged memo index cannot
ask for gigabytes as it can of the C one. Wherever the stock machine calls, hashes or copies what the stream says, it
is overridden. Bounds: 8 Mi opcodes of at most about 100 bytes each, which is below 1 GiB and takes seconds.
"""

from __future__ import annotations

import _compat_pickle
import io
import pickle
import struct
from typing import TYPE_CHECKING, Any, ClassVar, Final

from lastgood.errors import LastgoodError
from lastgood.facts import TensorFact
from lastgood.formats.payload import Unsteady
from lastgood.formats.rebuilding import KNOWN, storage_of, take_state
from lastgood.formats.stubs import (
    ArrayFact,
    ArrayType,
    Contents,
    Known,
    NotInert,
    Opaque,
    Ordered,
    StorageReference,
    TooMuch,
    as_key,
    opaque_class,
)
from lastgood.formats.unsafe import Name

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ArrayFact", "Contents", "NotInert", "Opaque", "StorageReference", "TooMuch", "read_pickle", "read_pickles"]

_MOST_OPCODES: Final = 8 << 20  # a tensor takes 32 of them
_MOST_CALLS: Final = 1 << 20  # a tensor takes two or three
_MOST_NAMES: Final = 10_000  # each costs a class; the richest of real files name about fifty
_LONGEST_NAME: Final = 1_000
_LARGEST_MEMO_INDEX: Final = 1 << 32
_FIRST_OF_PYTHON_3: Final = 3


def read_pickle(data: bytes, places: Mapping[str, int] | None = None) -> Contents:
    """The value that a pickle describes; `places` tells where in the file each storage lies. NotInert if damaged."""
    contents = read_pickles(io.BytesIO(data), 1, places)
    contents.value = contents.value[0]
    return contents


def read_pickles(stream: io.BytesIO, count: int, places: Mapping[str, int] | None = None) -> Contents:
    """The values of so many pickles, one after the other, as a list. NotInert where one is damaged."""
    reader = _Inert(stream, places or {})
    try:
        reader.contents.value = [reader.load() for _ in range(count)]
    except (LastgoodError, Unsteady):
        raise
    except Exception as error:
        # A forged or torn stream makes the machine that runs it fail in any way; none of them is ours to crash on.
        refusal = _refusal(error)
        refusal.names = frozenset(reader.contents.names)
        raise refusal from error
    return reader.contents


def _refusal(error: Exception) -> NotInert:
    match error:
        case NotInert():
            return error
        case RecursionError():
            return NotInert("nested too deeply")
        case MemoryError():
            return TooMuch("it asks for more memory than there is")
    return NotInert(f"{type(error).__name__}: {str(error)[:200] or 'the stream ends early'}")


_InPython: Any = pickle._Unpickler  # noqa: SLF001 - see the module's docstring
_Stop: Any = pickle._Stop  # type: ignore[attr-defined] # noqa: SLF001 - the stock STOP raises it
_GETATTR: Final = Name("builtins", "getattr")
_REBUILD_OF_ANY_TYPE: Final = Name("torch._tensor", "_rebuild_from_type_v2")


def _is_stub(what: Any) -> bool:
    return isinstance(what, Opaque) or (isinstance(what, type) and issubclass(what, Opaque))


def _end() -> bytes:
    raise EOFError


def _named(module: Any, name: Any, protocol: int) -> Name:
    """The global in Python 3's words, as the real machine translates it."""
    if type(module) is not str or type(name) is not str:
        raise NotInert("a name that is not text")
    if protocol < _FIRST_OF_PYTHON_3:
        module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
        module = _compat_pickle.IMPORT_MAPPING.get(module, module)
    return Name(module, name)


class _Inert(_InPython):  # type: ignore[misc]
    def __init__(self, stream: io.BytesIO, places: Mapping[str, int]) -> None:
        super().__init__(stream, encoding="latin-1")
        self.contents = Contents()
        # An honest pickle copies what it says once or twice: bytes of protocol 2 are text first.
        self.contents.copies_left += 2 * stream.getbuffer().nbytes
        self._places = places
        self._calls = 0
        self._stubs: dict[Name, Any] = {}

    def load(self) -> Any:
        """The stock loop, counted, and reading from the stream itself: frames are only hints how much to fetch."""
        self.read, self.readline = self._file_read, self._file_readline
        self.metastack: list[Any] = []
        self.stack: list[Any] = []
        self.append = self.stack.append
        self.proto = 0
        read, dispatch = self.read, self.dispatch
        try:
            for _ in range(_MOST_OPCODES):
                (code,) = read(1) or _end()
                dispatch[code](self)
        except _Stop as stop:
            return stop.value
        raise TooMuch(f"a structure of more than {_MOST_OPCODES} operations")

    def find_class(self, module: Any, name: Any) -> Any:
        found = _named(module, name, self.proto)
        made = self._stubs.get(found)
        if made is None:
            made = self._stubs[found] = self._stub(found)
        return made

    def _stub(self, found: Name) -> Any:
        if len(found.module) + len(found.name) > _LONGEST_NAME:
            raise NotInert("a name of more than a thousand letters")
        if len(self._stubs) >= _MOST_NAMES:
            raise TooMuch("it names more classes than any checkpoint")
        self.contents.names.add(found)
        if make := KNOWN.get(found):
            return Known(found, make)
        return opaque_class(found)

    def _make(self, what: Any, args: Any) -> Any:
        """What stands for the result of a call. Arguments are kept, not copied: many calls may share long ones."""
        if not isinstance(args, tuple):
            raise NotInert("arguments that are no tuple")
        self._count()
        if isinstance(what, Known):
            if what.name == _GETATTR:
                return self._attribute(args)
            if what.name == _REBUILD_OF_ANY_TYPE:
                return self._of_any_type(args)
            made = what.make(self.contents, args)
            return Opaque(args) if made is None else made
        if _is_stub(what):
            return what(args) if isinstance(what, type) else Opaque(args)
        raise NotInert(f"it calls a {type(what).__name__}")

    def _count(self) -> None:
        self._calls += 1
        if self._calls > _MOST_CALLS:
            raise TooMuch(f"a structure of more than {_MOST_CALLS} objects")

    def _attribute(self, args: tuple[Any, ...]) -> Any:
        """How older protocols write a class within a class, and a chain of attributes in any."""
        owner, attribute = args[:2]
        of = owner.name if isinstance(owner, Known) or _is_stub(owner) else Opaque.name
        return self.find_class(of.module, f"{of.name}.{attribute}" if type(attribute) is str else attribute)

    def _of_any_type(self, args: tuple[Any, ...]) -> Any:
        """A tensor of a class of its own: the function that makes it, the class, its arguments, its attributes."""
        function, _kind, inner, *state = args
        made = self._make(function, inner)
        if isinstance(made, Opaque) and state:
            made.state = state[0]
        return made

    def _build(self, instance: Any, state: Any) -> None:
        match instance:
            case Opaque():
                instance.state = state
            case ArrayFact() | ArrayType():
                take_state(instance, state)
            case Ordered() | TensorFact() | StorageReference():
                pass
            case _:
                raise NotInert(f"a state for a {type(instance).__name__}")

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) >= 2 and pid[0] == "module":
            return pid[1]  # the older format: a module's class, with its source text
        return storage_of(self.contents, pid, self._places) or Opaque((pid,))

    def get_extension(self, code: int) -> None:
        self.append(self.find_class("copyreg", f"extension {code}"))

    def _instantiate(self, what: Any, args: Any) -> None:
        self.append(self._make(what, tuple(args)))

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._make(self.stack[-1], args)

    def load_newobj_ex(self) -> None:
        named, args, what = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.append(self._make(what, (args, named) if named else args))

    def load_build(self) -> None:
        state = self.stack.pop()
        self._build(self.stack[-1], state)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def load_setitems(self) -> None:
        self._fill(self.pop_mark())

    def _fill(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise NotInert(f"entries for a {type(target).__name__}")
        for place in range(0, len(items), 2):
            target[as_key(items[place])] = items[place + 1]

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._fill(items)

    def load_additems(self) -> None:
        items = self.pop_mark()
        target = self.stack[-1]
        if isinstance(target, Opaque):
            target.extend(items)
        else:
            target.update(as_key(item) for item in items)

    def load_empty_set(self) -> None:
        self._count()  # an empty set takes four times as much as an empty dict
        self.append(set())

    def load_frozenset(self) -> None:
        items = self.pop_mark()  # before `self.append`, which it changes
        self.append(frozenset(as_key(item) for item in items))

    def load_bytearray8(self) -> None:
        # The stock one makes room for whatever length is claimed before it reads: 14 bytes could ask for gigabytes.
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(length)))

    def load_frame(self) -> None:
        self.read(8)

    def load_put(self) -> None:
        index = int(self.readline()[:-1])
        if not 0 <= index < _LARGEST_MEMO_INDEX:
            raise NotInert("a memo index that no writer reaches")  # the memo would hash them all alike
        self.memo[index] = self.stack[-1]

    dispatch: ClassVar = {
        **_InPython.dispatch,
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_reduce,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.ADDITEMS[0]: load_additems,
        pickle.EMPTY_SET[0]: load_empty_set,
        pickle.FROZENSET[0]: load_frozenset,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.FRAME[0]: load_frame,
        pickle.PUT[0]: load_put,
    }
