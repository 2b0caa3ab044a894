"""What stands in a pickle's value for the objects that are not made. Plain data, without behaviour of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lastgood.formats.unsafe import Name

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_PROBLEMS: Final = 20
_LARGEST_KEY: Final = 1 << 60  # below this, whole numbers hash to themselves
_COPIED_AT_LEAST: Final = 64 << 20  # bytes of copies that any pickle may ask for


class NotInert(Exception):
    """The stream is not a pickle, or not a whole one."""

    names: frozenset[Name] = frozenset()  #: the globals it had named until then
    at_the_end = False  #: the file ended before the stream did


class TooMuch(NotInert):
    """Reading it would take more memory or time than a checkpoint's structure is given."""


class Opaque(dict[Any, Any]):
    """Stands for an object of any class: takes whatever a pickle does to it, does nothing."""

    __slots__ = ("args", "items_added", "state")
    name = Name("builtins", "object")
    qualified_name = ""

    def __init__(self, args: tuple[Any, ...] = ()) -> None:
        super().__init__()
        self.args = args
        self.items_added: list[Any] | tuple[()] = ()
        self.state: Any = None

    @property
    def holds_something(self) -> bool:
        """Whether the pickle gave it anything: items, or a state."""
        return bool(len(self) or self.items_added or self.state)

    def append(self, item: Any) -> None:
        self.extend((item,))

    def extend(self, items: Any) -> None:
        if not isinstance(self.items_added, list):
            self.items_added = []
        self.items_added.extend(items)

    def __repr__(self) -> str:
        """Its name alone: what it holds may name the same list a billion times over."""
        return f"<{self.qualified_name}>"

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other


def opaque_class(name: Name) -> type[Opaque]:
    """A class of stubs that remembers the name of the one it stands for."""
    return type("Opaque", (Opaque,), {"name": name, "qualified_name": str(name), "__slots__": ()})


class Ordered(dict[Any, Any]):
    """An OrderedDict. A module's state_dict carries the versions of its parts as an attribute: of no use here."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class StorageReference:
    """A storage as the pickle names it; its bytes lie elsewhere in the file. None: not known."""

    key: str
    dtype: str
    width: int  #: bytes of an element; 0 where the kind of storage is not known
    bytes: int | None
    start: int | None = None  #: its place in the file


@dataclass(slots=True, eq=False)
class ArrayType:
    """A NumPy dtype: `f8` and the like, and its byte order."""

    text: str
    order: str = "="


@dataclass(slots=True, eq=False)
class ArrayFact:
    """A NumPy array as the pickle describes it. `dtype` as NumPy writes it: `<u4`."""

    dtype: str = "?"
    shape: tuple[int, ...] = ()
    bytes: int = 0

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array without dimensions has no length")
        return self.shape[0]


@dataclass(slots=True)
class Contents:
    """The pickled value with stubs in it, and what was noticed on the way."""

    value: Any = None
    storages: dict[str, int | None] = field(default_factory=dict)  #: bytes of each that it refers to
    counts: dict[str, int | None] = field(default_factory=dict)  #: the same in elements
    names: set[Name] = field(default_factory=set)  #: every global that it refers to
    problems: list[str] = field(default_factory=list)  #: tensors that do not fit their storage, the first few
    copies_left: int = _COPIED_AT_LEAST  #: bytes

    def notice(self, problem: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)

    def spend(self, size: int) -> None:
        """Counts what is copied: a short pickle may ask for one long value many times. TooMuch beyond the bound."""
        self.copies_left -= size
        if self.copies_left < 0:
            raise TooMuch("it copies the same data over and over")


@dataclass(frozen=True, slots=True)
class Known:
    """A global of which is known what it makes. `make` gets the arguments; None where they are not as expected."""

    name: Name
    make: Callable[[Contents, tuple[Any, ...]], Any]


def as_key(key: Any) -> Any:
    """The key itself where its hash is cheap and hard to forge, otherwise a stub in its place.

    A tuple of shared tuples takes years to hash, a deep one breaks the stack, chosen integers all hash alike.
    """
    kind = type(key)
    if kind is str or kind is bool or kind is float or kind is bytes or key is None or isinstance(key, Opaque):
        return key
    if kind is int and -_LARGEST_KEY < key < _LARGEST_KEY:
        return key
    if isinstance(key, dict | list | set | bytearray):
        raise TypeError(f"a {kind.__name__} as a key")
    return Opaque((key,))
