"""What the functions that torch's and NumPy's pickles call would make, as facts. Nothing is made.

torch/_utils.py (`_rebuild_*`), torch/serialization.py (`persistent_id`), numpy/_core/multiarray and numeric.
"""

from __future__ import annotations

import struct
from math import prod
from typing import TYPE_CHECKING, Any, Final

from lastgood.facts import TensorFact
from lastgood.formats.stubs import ArrayFact, ArrayType, Contents, Ordered, StorageReference, as_key
from lastgood.formats.unsafe import Name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Make = Callable[[Contents, tuple[Any, ...]], Any]

# torch.dtype: as safetensors names it (where it does), and the bytes of an element.
_DTYPES: Final = {
    "float64": ("F64", 8), "float32": ("F32", 4), "float16": ("F16", 2), "bfloat16": ("BF16", 2),
    "int64": ("I64", 8), "int32": ("I32", 4), "int16": ("I16", 2), "int8": ("I8", 1), "bool": ("BOOL", 1),
    "uint64": ("U64", 8), "uint32": ("U32", 4), "uint16": ("U16", 2), "uint8": ("U8", 1),
    "complex128": ("C128", 16), "complex64": ("C64", 8), "complex32": ("C32", 4),
    "float8_e4m3fn": ("F8_E4M3", 1), "float8_e5m2": ("F8_E5M2", 1), "float8_e4m3fnuz": ("F8_E4M3FNUZ", 1),
    "float8_e5m2fnuz": ("F8_E5M2FNUZ", 1), "float8_e8m0fnu": ("F8_E8M0", 1), "float4_e2m1fn_x2": ("F4_X2", 1),
    "bits8": ("BITS8", 1), "bits16": ("BITS16", 2), "bits1x8": ("BITS1X8", 1), "bits2x4": ("BITS2X4", 1),
    "bits4x2": ("BITS4X2", 1), "qint8": ("QI8", 1), "quint8": ("QU8", 1), "qint32": ("QI32", 4),
}  # fmt: skip
# torch/storage.py: the classes by which a storage names its element type
_STORAGES: Final = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64", "UntypedStorage": "uint8", "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8", "QInt32Storage": "qint32",
}  # fmt: skip
_UNKNOWN: Final = ("?", 0)
_MOST_DIMENSIONS: Final = 64
_LONGEST: Final = 1 << 63
_ENTRY_BYTES: Final = 100  # of a dict or set
_SCALARS: Final = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
    "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip


def storage_of(contents: Contents, pid: Any, places: Mapping[str, int]) -> StorageReference | None:
    """The storage that a persistent id means: ("storage", storage class, key, device, number of elements, view)."""
    if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
        return None
    kind, key, count = pid[1], pid[2], pid[4]
    if type(key) not in (str, int):
        return None
    key = str(key)
    class_name = str(getattr(kind, "qualified_name", "")).rpartition(".")[2]
    dtype, width = _DTYPES.get(_STORAGES.get(class_name, ""), _UNKNOWN)
    size = count * width if width and _is_length(count) else None
    contents.storages[key], contents.counts[key] = size, count if size is not None else None
    start = places.get(key)
    view = pid[5] if len(pid) > 5 else None
    if isinstance(view, tuple) and len(view) == 3:  # the oldest files: a part of the storage, counted in elements
        start = start + view[1] * width if start is not None and _is_length(view[1]) else None
        size = view[2] * width if width and _is_length(view[2]) else None
    return StorageReference(key, dtype, width, size, start)


def take_state(instance: ArrayFact | ArrayType, state: Any) -> None:
    """Describes an array by (version, shape, dtype, order, bytes), a dtype by (version, order, …)."""
    if isinstance(instance, ArrayType):
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            instance.order = state[1]
    elif isinstance(state, tuple) and len(state) == 5:
        _describe(instance, state[4], state[2], state[1])


def _describe(array: ArrayFact, data: Any, dtype: Any, shape: Any) -> ArrayFact:
    array.shape = _lengths(shape) or ()
    array.dtype = f"{dtype.order}{dtype.text}" if isinstance(dtype, ArrayType) else "?"
    array.bytes = len(data) if isinstance(data, bytes | bytearray | str | list) else 0
    return array


def _is_length(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LONGEST


def _lengths(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, tuple | list) or len(value) > _MOST_DIMENSIONS:
        return None
    return tuple(value) if all(type(length) is int for length in value) else None


def _tensor(contents: Contents, args: tuple[Any, ...]) -> Any:
    """(storage, offset, size, stride, …), all counted in elements."""
    storage, *view = args[:4]
    if not isinstance(storage, StorageReference):
        return None
    return _view(contents, storage, storage.dtype, storage.width, view)


def _tensor_with_dtype(contents: Contents, args: tuple[Any, ...]) -> Any:
    """(storage, offset, size, stride, requires_grad, hooks, dtype, …): the newer element types."""
    if len(args) <= 6 or not isinstance(args[0], StorageReference):
        return None
    return _view(contents, args[0], *_dtype(args[6]), list(args[1:4]))


def _dtype(value: Any) -> tuple[str, int]:
    module, _, name = str(getattr(value, "qualified_name", "")).rpartition(".")
    return _DTYPES.get(name, _UNKNOWN) if module == "torch" else _UNKNOWN


def _view(contents: Contents, storage: StorageReference, dtype: str, width: int, view: list[Any]) -> Any:
    if len(view) != 3 or type(view[0]) is not int:
        return None
    offset, shape, strides = view[0], _lengths(view[1]), _lengths(view[2])
    if shape is None or strides is None or len(shape) != len(strides):
        return None
    if not all(0 <= number < _LONGEST for number in (offset, *shape, *strides)):
        contents.notice(f"a tensor with a length, step or offset that cannot be, in storage {storage.key}")
        return None
    count = prod(shape)
    reach = sum((length - 1) * step for length, step in zip(shape, strides, strict=True)) + 1 if count else 0
    needed = (offset + reach) * width if count else 0
    if storage.bytes is not None and needed > storage.bytes:
        contents.notice(
            f"{dtype} {list(shape)} needs {needed} bytes of storage {storage.key}, which has {storage.bytes}"
        )
        return TensorFact(dtype, shape, count * width)
    if storage.start is None or not width:
        return TensorFact(dtype, shape, count * width)
    return TensorFact(dtype, shape, count * width, storage.start + (offset if count else 0) * width, reach * width)


def _meta_tensor(_contents: Contents, args: tuple[Any, ...]) -> Any:
    """(dtype, size, stride, …): no bytes anywhere."""
    dtype, width = _dtype(args[0])
    shape = _lengths(args[1])
    if shape is None or not all(map(_is_length, shape)):
        return None
    return TensorFact(dtype, shape, prod(shape) * width, hollow=True)


def _from_numpy(_contents: Contents, args: tuple[Any, ...]) -> Any:
    """(array, dtype, device, …): the bytes lie in the pickle itself."""
    array, (dtype, width) = args[0], _dtype(args[1])
    return TensorFact(dtype, array.shape, prod(array.shape) * width) if isinstance(array, ArrayFact) else None


def _first(_contents: Contents, args: tuple[Any, ...]) -> Any:
    return args[0] if args else None


def _ordered(contents: Contents, args: tuple[Any, ...]) -> Any:
    made = Ordered()
    pairs = args[0] if args and isinstance(args[0], list) else []
    contents.spend(_ENTRY_BYTES * len(pairs))
    for pair in pairs:
        if isinstance(pair, list | tuple) and len(pair) == 2:
            made[as_key(pair[0])] = pair[1]
    return made


def _size(_contents: Contents, args: tuple[Any, ...]) -> Any:
    return _lengths(args[0]) if args else ()


def _set(contents: Contents, args: tuple[Any, ...]) -> Any:
    items = args[0] if args else []
    if not isinstance(items, list | tuple):
        return None
    contents.spend(_ENTRY_BYTES * len(items))
    return {as_key(item) for item in items}


def _encoded(contents: Contents, args: tuple[Any, ...]) -> Any:
    """How protocol 2 writes bytes: as text, one letter for each."""
    if not args or not isinstance(args[0], str):
        return b"" if args == ("",) else None
    contents.spend(len(args[0]))
    return args[0].encode("utf-8" if args[1:] == ("utf-8",) else "latin-1", "replace")


def _bytearray(contents: Contents, args: tuple[Any, ...]) -> Any:
    if not args:
        return bytearray()
    data = args[0] if isinstance(args[0], bytes | bytearray) else _encoded(contents, args)
    contents.spend(len(data or b""))
    return None if data is None else bytearray(data)


def _complex(_contents: Contents, args: tuple[Any, ...]) -> Any:
    return complex(*args) if len(args) == 2 and all(type(part) is float for part in args) else None


def _numpy_type(_contents: Contents, args: tuple[Any, ...]) -> Any:
    return ArrayType(args[0]) if args and type(args[0]) is str and len(args[0]) < 100 else ArrayType("?")


def _numpy_empty(_contents: Contents, _args: tuple[Any, ...]) -> Any:
    return ArrayFact()


def _numpy_array(_contents: Contents, args: tuple[Any, ...]) -> Any:
    """(buffer, dtype, shape, order)"""
    return _describe(ArrayFact(), *args[:3]) if len(args) >= 3 else None


def _numpy_number(_contents: Contents, args: tuple[Any, ...]) -> Any:
    """(dtype, bytes)"""
    if len(args) != 2 or not isinstance(args[0], ArrayType) or not isinstance(args[1], bytes):
        return None
    code, order = _SCALARS.get(args[0].text, ""), ">" if args[0].order == ">" else "<"
    if not code or struct.calcsize(f"{order}{code}") != len(args[1]):
        return None
    return struct.unpack(f"{order}{code}", args[1])[0]


def _never(_contents: Contents, _args: tuple[Any, ...]) -> Any:
    return None


def _names(functions: Mapping[str, Make]) -> dict[Name, Make]:
    return {Name(*name.rsplit(".", 1)): make for name, make in functions.items()}


KNOWN: Final = _names({
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_with_dtype,
    "torch._utils._rebuild_qtensor": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta_tensor,
    "torch._utils._rebuild_device_tensor_from_numpy": _from_numpy,
    "torch._utils._rebuild_xla_tensor": _from_numpy,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
    "torch.nn.parameter.Parameter": _first,
    "torch._tensor._rebuild_from_type_v2": _never,  # it calls another: the machine sees to that itself
    "torch.Size": _size,
    "collections.OrderedDict": _ordered,
    "builtins.getattr": _never,  # likewise
    "builtins.set": _set,
    "builtins.bytearray": _bytearray,
    "builtins.complex": _complex,
    "_codecs.encode": _encoded,
    "numpy.dtype": _numpy_type,
    **{
        f"{numpy}.{name}": make
        for numpy in ("numpy.core", "numpy._core")
        for name, make in {
            "multiarray._reconstruct": _numpy_empty,
            "multiarray.scalar": _numpy_number,
            "numeric._frombuffer": _numpy_array,
        }.items()
    },
})  # fmt: skip
