"""Names in pickles: those that run a program when they are loaded, and those that `weights_only=True` takes.

The dangerous ones are the common ground of the scanners in use (picklescan, fickling, modelscan). The harmless ones:
torch/_weights_only_unpickler.py, `_get_allowed_globals`; a test holds the list against the installed torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Name(NamedTuple):
    """A global as a pickle names it; `name` may be a path of attributes with dots."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


# Whatever is named in them, and in what lies below them.
_MODULES: Final = frozenset({
    "os", "posix", "nt", "_posixsubprocess", "subprocess", "_winapi", "sys", "shutil", "pty", "commands", "popen2",
    "importlib", "_frozen_importlib", "_frozen_importlib_external", "imp", "zipimport", "runpy", "pkgutil", "site",
    "ctypes", "_ctypes", "cffi", "_cffi_backend", "code", "codeop", "bdb", "pdb", "_pyrepl", "idlelib", "timeit",
    "trace", "profile", "cProfile", "_lsprof", "doctest", "pydoc", "lib2to3", "ensurepip", "venv", "pip", "distutils",
    "setuptools", "webbrowser", "antigravity", "atexit", "signal", "_thread", "marshal",
    "asyncio.subprocess", "asyncio.base_subprocess", "asyncio.unix_events", "asyncio.windows_events",
    "multiprocessing.popen_fork", "multiprocessing.popen_spawn_posix", "multiprocessing.popen_forkserver",
    "socket", "_socket", "socketserver", "ssl", "_ssl", "http", "httplib", "urllib", "urllib2", "urllib3", "requests",
    "httpx", "aiohttp", "ftplib", "telnetlib", "smtplib", "poplib", "imaplib", "nntplib", "xmlrpc", "paramiko",
    "numpy.testing._private.utils", "numpy.testing.utils", "numpy.f2py", "numpy.distutils",
    "torch.hub", "torch.utils.cpp_extension", "torch.utils.bottleneck", "torch.utils.collect_env",
})  # fmt: skip
_NAMES: Final = {
    "builtins": {"eval", "exec", "execfile", "compile", "open", "file", "input", "raw_input", "__import__",
                 "breakpoint", "globals", "locals", "vars", "setattr", "delattr", "apply", "reload", "exit", "quit",
                 "help", "__build_class__"},
    "io": {"open", "open_code", "FileIO"},
    "_io": {"open", "open_code", "FileIO"},
    "codecs": {"open"},
    "types": {"CodeType", "FunctionType"},
    "operator": {"attrgetter", "methodcaller"},
    "_operator": {"attrgetter", "methodcaller"},
    "pickle": {"load", "loads", "_load", "_loads", "Unpickler", "_Unpickler"},
    "_pickle": {"load", "loads", "Unpickler"},
    "cPickle": {"load", "loads", "Unpickler"},
    "dill": {"load", "loads", "load_session", "load_module"},
    "dill._dill": {"load", "loads"},
    "cloudpickle": {"load", "loads"},
    "cloudpickle.cloudpickle": {"load", "loads"},
    "joblib": {"load"},
    "joblib.numpy_pickle": {"load"},
    "pandas": {"read_pickle", "eval"},
    "pandas.io.pickle": {"read_pickle"},
    "numpy": {"load", "fromfile"},
    "asyncio": {"create_subprocess_exec", "create_subprocess_shell"},
    "multiprocessing.util": {"spawnv_passfds"},
    "logging.config": {"listen", "fileConfig", "dictConfig"},
    "torch": {"load", "compile"},
    "torch.serialization": {"load"},
    "torch.jit": {"load", "script", "trace"},
    "torch.jit._serialization": {"load"},
    "torch.jit.unsupported_tensor_ops": {"execWrapper"},
    "torch._dynamo.guards": {"GuardBuilder.get"},
    "torch._inductor.codecache": {"compile_file"},
    "torch.fx.experimental.symbolic_shapes": {"ShapeEnv.evaluate_guards_expression"},
    "torch.utils._config_module": {"load_config", "ConfigModule.load_config"},
    "torch.utils.data.datapipes.utils.decoder": {"basichandlers"},
}  # fmt: skip
# Modules that others import: `torch.serialization` has an `os`. Few, since a class may be called `code` or `http`.
_REACHED: Final = frozenset({
    "os", "posix", "nt", "sys", "subprocess", "builtins", "__builtins__", "importlib", "shutil", "socket", "ctypes",
    "runpy", "pty",
})  # fmt: skip
# From any object these lead to the whole interpreter.
_WAYS_OUT: Final = frozenset({
    "__globals__", "__builtins__", "__subclasses__", "__import__", "__getattribute__", "__loader__", "__spec__",
    "__code__", "__closure__", "__mro__", "__bases__", "__base__",
})  # fmt: skip

_KINDS: Final = (
    "Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "ComplexDouble",
    "ComplexFloat",
)  # fmt: skip
_QUANTIZED: Final = ("QInt8", "QInt32", "QUInt8", "QUInt4x2", "QUInt2x4")
_TORCH: Final = (
    "Size", "Tensor", "device", "storage.TypedStorage", "storage.UntypedStorage", "nn.parameter.Parameter",
    "serialization._get_layout", "_tensor._rebuild_from_type_v2",
    "float16", "float32", "float64", "bfloat16", "complex32", "complex64", "complex128", "bool",
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2",
    "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2", "qint8", "qint32", "quint8", "quint4x2", "quint2x4",
    "per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric",
    "per_channel_affine_float_qparams",
)  # fmt: skip
_REBUILDERS: Final = (
    "tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state", "qtensor", "sparse_tensor",
    "nested_tensor", "meta_tensor_no_storage", "wrapper_subclass", "device_tensor_from_numpy",
    "device_tensor_from_cpu_tensor",
)  # fmt: skip
# Taken once their modules are imported, as in every program that writes them.
_DISTRIBUTED: Final = (
    "torch.distributed._mesh_layout._FlatLayout", "torch.distributed._mesh_layout._MeshLayout",
    "torch.distributed.device_mesh.DeviceMesh", "torch.distributed.tensor.DTensor",
    "torch.distributed.tensor._dtensor_spec.DTensorSpec", "torch.distributed.tensor._dtensor_spec.ShardOrderEntry",
    "torch.distributed.tensor._dtensor_spec.TensorMeta", "torch.distributed.tensor.placement_types.Partial",
    "torch.distributed.tensor.placement_types.Replicate", "torch.distributed.tensor.placement_types.Shard",
    "torch.distributed.tensor.placement_types._StridedShard",
    "torch.nested._internal.nested_tensor.NestedTensor", "torch.nested._internal.nested_tensor._rebuild_njt",
    "torch._dynamo.decorators._DimRange",
)  # fmt: skip
WEIGHTS_ONLY: Final = frozenset({
    "collections.OrderedDict", "collections.Counter", "_codecs.encode",
    "builtins.bytearray", "builtins.set", "builtins.complex",
    *(f"torch.{name}" for name in _TORCH),
    *(f"torch._utils._rebuild_{name}" for name in _REBUILDERS),
    *(f"torch.{sign}int{bits}" for sign in ("", "u") for bits in (1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64)),
    *(f"torch.{where}{kind}Storage" for where in ("", "cuda.") for kind in _KINDS),
    *(f"torch.{kind}Storage" for kind in _QUANTIZED),
    *(f"torch.{where}{kind}Tensor" for where in ("", "cuda.") for kind in _KINDS[:10]),
    *(f"torch.{where}sparse.{kind}Tensor" for where in ("", "cuda.") for kind in _KINDS[:9]),
    *_DISTRIBUTED,
})  # fmt: skip


def dangerous(names: Iterable[Name]) -> tuple[str, ...]:
    """Those that would run a program, or could be made to, sorted."""
    return tuple(sorted({str(name) for name in names if _is_dangerous(name)}))


def refused(names: Iterable[Name]) -> frozenset[str]:
    """Those that `torch.load(weights_only=True)` does not take."""
    return frozenset(str(name) for name in names) - WEIGHTS_ONLY


def _is_dangerous(name: Name) -> bool:
    path = name.name.split(".")
    return (
        _is_listed(name.module, name.name)
        or not _WAYS_OUT.isdisjoint(path)
        or not _REACHED.isdisjoint(path)
        # `torch.serialization` names `pickle.loads` as well.
        or any(_is_listed(".".join(path[:cut]), ".".join(path[cut:]), strict=True) for cut in range(1, len(path)))
    )


def _is_listed(module: str, name: str, *, strict: bool = False) -> bool:
    parents = module.split(".")
    below = not strict and any(".".join(parents[: end + 1]) in _MODULES for end in range(len(parents)))
    return below or name in _NAMES.get(module, ())
