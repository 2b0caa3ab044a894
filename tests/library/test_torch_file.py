"""What a torch file tells: where each tensor lies, what its pickle names, and how it is bounded."""

from __future__ import annotations

import functools
import io
import os
import pickle
import struct
import warnings
import zipfile
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import torch
import torch._weights_only_unpickler as weights_only
import torch.distributed.tensor
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import saved
from judging import facts_of
from lastgood.facts import Level
from lastgood.findings import Code
from lastgood.formats.inert_pickle import ArrayFact, read_pickle
from lastgood.formats.tensors import tensors_within
from lastgood.formats.unsafe import WEIGHTS_ONLY, Name, dangerous, refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lastgood.facts import FileFacts, TensorFact

DTYPES: Final = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
    "complex128": "C128", "complex64": "C64", "complex32": "C32", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
}  # fmt: skip


def saved_before_zip(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


WRITERS: Final = [pytest.param(saved, id="zip"), pytest.param(saved_before_zip, id="the older format")]


def told(content: bytes, folder: Path) -> FileFacts:
    (folder / "value.pt").write_bytes(content)
    return facts_of(folder / "value.pt")


def with_pickle(pickled: bytes, *, packed: bool = False, name: str = "data.pkl", more: bytes | None = None) -> bytes:
    """A torch file with this at its heart, and no storages."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        archive.writestr(f"archive/{name}", pickled)
        archive.writestr("archive/version", b"3\n")
        if more is not None:
            archive.writestr("archive/DATA.PKL", more)
    return stream.getvalue()


def elements_at(content: bytes, fact: TensorFact, like: torch.Tensor) -> torch.Tensor:
    """The tensor as its place in the file and the strides of the original give it."""
    assert fact.start is not None
    assert fact.extent is not None
    piece = bytearray(content[fact.start : fact.start + fact.extent])
    return torch.frombuffer(piece, dtype=torch.uint8).view(like.dtype).as_strided(like.shape, like.stride())


def same_bytes(one: torch.Tensor, other: torch.Tensor) -> bool:
    one, other = (tensor.contiguous().reshape(-1) for tensor in (one, other))
    return bool((one.view(torch.uint8) == other.view(torch.uint8)).all())


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(("name", "expected"), [pytest.param(*pair, id=pair[0]) for pair in DTYPES.items()])
def test_every_kind_of_element_is_named_and_lies_where_it_is_said_to(
    name: str, expected: str, write: Callable[[Any], bytes], tmp_path: Path
) -> None:
    tensor = torch.arange(1, 49, dtype=torch.uint8).view(getattr(torch, name))
    facts = told(content := write({"before": torch.ones(3), "w": tensor}), tmp_path)
    fact = facts.tensors["w"]
    assert (fact.dtype, fact.shape, fact.bytes, fact.extent) == (expected, tuple(tensor.shape), 48, 48)
    assert same_bytes(elements_at(content, fact, tensor), tensor)
    assert facts.contents["w"] == fact


@pytest.mark.parametrize("write", WRITERS)
def test_views_lie_where_their_first_and_last_elements_do(write: Callable[[Any], bytes], tmp_path: Path) -> None:
    whole = torch.arange(24.0)
    value = {
        "whole": whole,
        "part": whole[3:7],
        "turned": whole.view(4, 6).t(),
        "each second": whole[1::2],
        "one many times": whole[5:6].expand(9),
        "number": whole[23],
    }
    facts = told(content := write(value), tmp_path)
    assert [p.code for p in facts.problems if p.code is not Code.NO_CHECKSUM] == []
    assert all(same_bytes(elements_at(content, facts.tensors[name], view), view) for name, view in value.items())
    assert (facts.tensors["each second"].bytes, facts.tensors["each second"].extent) == (12 * 4, 23 * 4)


class Wrapped(torch.nn.Parameter):  # type: ignore[misc]
    """A class of tensors of somebody's own."""


def tied() -> dict[str, Any]:
    weight = torch.ones(2)
    return {"in": weight, "out": weight}


def quantized() -> torch.Tensor:
    with warnings.catch_warnings(action="ignore"):
        return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


def around_itself() -> list[Any]:
    value: list[Any] = [torch.ones(1)]
    value.append({"again": value, "w": torch.ones(2)})
    return value


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("value", "names"),
    [
        pytest.param(torch.ones(2), {""}, id="a tensor alone"),
        pytest.param({"state": {0: {"exp_avg": torch.ones(2)}}}, {"state.0.exp_avg"}, id="numbers are keys too"),
        pytest.param([torch.ones(1), (torch.ones(2),)], {"0", "1.0"}, id="lists and tuples count from nought"),
        pytest.param({"a.b": torch.ones(1), "a": {"b": torch.ones(2)}}, {"a.b", "a.b#1"}, id="no name twice"),
        pytest.param(tied(), {"in", "out"}, id="a tied tensor has both its names"),
        pytest.param(around_itself(), {"0", "1.w"}, id="a list that holds itself"),
        pytest.param({"w": torch.nn.Parameter(torch.ones(2))}, {"w"}, id="a parameter"),
        pytest.param({"w": Wrapped(torch.ones(2))}, {"w"}, id="a class of tensors of one's own"),
        pytest.param({"w": torch.eye(2).to_sparse()}, {"w.1.0", "w.1.1"}, id="a sparse tensor is two"),
        pytest.param({"w": torch.ones(2, device="meta")}, {"w"}, id="a tensor without storage"),
        pytest.param({"w": quantized()}, {"w"}, id="quantized"),
        pytest.param(torch.nn.Linear(2, 1), {"_parameters.weight", "_parameters.bias"}, id="attributes of an object"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*deprecated:UserWarning", "ignore:.*deprecated:DeprecationWarning")
def test_a_tensor_is_named_by_the_keys_that_lead_to_it(
    value: Any, names: set[str], write: Callable[[Any], bytes], tmp_path: Path
) -> None:
    assert set(told(write(value), tmp_path).tensors) == names


def test_tied_tensors_share_a_place(tmp_path: Path) -> None:
    tensors = told(saved(tied()), tmp_path).tensors
    assert tensors["in"] == tensors["out"]


def a_view(offset: int, size: str, stride: str) -> bytes:
    """A view of a storage of four floats, as torch 2 pickles it."""
    storage = "(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\ntQ"
    return f"ctorch._utils\n_rebuild_tensor_v2\n({storage}I{offset}\n{size}{stride}I00\nNtR.".encode()


def pickled(numbers: list[int]) -> str:
    return "(" + "".join(f"I{number}\n" for number in numbers) + "t"


@pytest.mark.parametrize(
    ("view", "fits"),
    [
        pytest.param(a_view(0, "(I4\nt", "(I1\nt"), True, id="all of it"),
        pytest.param(a_view(3, "(I1\nt", "(I9\nt"), True, id="the last one, whatever the step would be"),
        pytest.param(a_view(9, "(I0\nt", "(I1\nt"), True, id="nothing, at a place beyond the end"),
        pytest.param(a_view(1, "(I4\nt", "(I1\nt"), False, id="one too far"),
        pytest.param(a_view(0, "(I3\nt", "(I2\nt"), False, id="steps that lead out"),
        pytest.param(a_view(-1, "(I1\nt", "(I1\nt"), False, id="before the beginning"),
        pytest.param(a_view(0, f"(I{1 << 70}\nt", "(I1\nt"), False, id="a length that cannot be"),
    ],
)
def test_a_view_that_leaves_its_storage_is_damage(view: bytes, fits: bool) -> None:
    assert (read_pickle(view, {"0": 64}).problems == []) is fits


@given(
    shape=st.lists(st.integers(0, 4), max_size=3),
    steps=st.lists(st.integers(0, 6), max_size=3),
    offset=st.integers(0, 9),
)
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_a_view_fits_exactly_where_torch_says_so(shape: list[int], steps: list[int], offset: int) -> None:
    shape, steps = shape[: len(steps)], steps[: len(shape)]
    try:
        torch.as_strided(torch.arange(4.0), shape, steps, offset)
        fits = True
    except RuntimeError:
        fits = False
    assert (read_pickle(a_view(offset, pickled(shape), pickled(steps))).problems == []) is fits


def test_the_length_before_a_storage_of_the_older_format_is_compared(tmp_path: Path) -> None:
    content = bytearray(saved_before_zip({"w": torch.ones(3)}))
    content[content.rindex(struct.pack("<Q", 3))] = 4
    assert Code.STORAGE_MISMATCH in {problem.code for problem in told(bytes(content), tmp_path).problems}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_numpy_arrays_and_numbers_are_read_as_data(protocol: int) -> None:
    value = {"state": np.random.RandomState(1).get_state(), "mean": np.float32(1.5), "n": np.int64(-3), "b": b"\xff\0"}
    found = read_pickle(pickle.dumps(value, protocol)).value
    kind, keys, position, *_rest = found["state"]
    assert (kind, position, found["mean"], found["n"], found["b"]) == ("MT19937", 624, 1.5, -3, b"\xff\0")
    assert isinstance(keys, ArrayFact)
    assert (keys.dtype, keys.shape, len(keys), keys.bytes) == ("<u4", (624,), 624, 4 * 624)


def test_the_list_of_names_that_weights_only_takes_is_torch_s_own() -> None:
    always = set(weights_only._get_allowed_globals())
    # The rest are taken once their modules are imported; that of `_DimRange` is none that these tests import.
    assert always <= WEIGHTS_ONLY
    assert WEIGHTS_ONLY - always - {"torch._dynamo.decorators._DimRange"} <= set(
        weights_only._get_user_allowed_globals()
    )


class Unheard:
    """Of a class that only its own program knows."""

    def __init__(self) -> None:
        self.scale = 2.0


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("value", "names"),
    [
        pytest.param({"w": torch.ones(2), "d": torch.float8_e5m2}, set(), id="tensors and types"),
        pytest.param({"w": torch.ones(2).to(torch.float8_e5m2)}, set(), id="newer types"),
        pytest.param({"s": {1}, "b": b"1"}, set(), id="sets and bytes"),
        pytest.param({"o": Unheard()}, {f"{__name__}.Unheard"}, id="somebody's class"),
        pytest.param({"f": functools.partial(max, 1)}, {"functools.partial", "builtins.max"}, id="a function"),
    ],
)
def test_names_that_weights_only_refuses_are_told_and_are_no_damage(
    value: Any, names: set[str], write: Callable[[Any], bytes], tmp_path: Path
) -> None:
    facts = told(write(value), tmp_path)
    assert facts.globals == names
    assert {problem.code for problem in facts.problems} <= {Code.NO_CHECKSUM}


def text(stream: str) -> bytes:
    return stream.encode("latin-1")


def stacked(module: str, name: str) -> bytes:
    return b"\x80\x04" + b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name)) + b"\x93."


DANGEROUS: Final = [
    pytest.param(text("cos\nsystem\n."), "os.system", id="GLOBAL"),
    pytest.param(stacked("posix", "system"), "posix.system", id="STACK_GLOBAL"),
    pytest.param(text("(S'true'\nios\nsystem\n."), "os.system", id="INST"),
    pytest.param(text("(cos\nsystem\nS'true'\no."), "os.system", id="OBJ"),
    pytest.param(text("c__builtin__\neval\n."), "builtins.eval", id="a name of Python 2"),
    pytest.param(text("ccommands\ngetoutput\n."), "subprocess.getoutput", id="a module of Python 2"),
    pytest.param(stacked("torch.serialization", "os.system"), "torch.serialization.os.system", id="through a module"),
    pytest.param(stacked("torch.serialization", "pickle.loads"), "torch.serialization.pickle.loads", id="or to loads"),
    pytest.param(stacked("a", "B.__init__.__globals__"), "a.B.__init__.__globals__", id="through any object"),
    pytest.param(
        text("cbuiltins\ngetattr\n(cbuiltins\ngetattr\n(ctorch\nserialization\nS'os'\ntRS'system'\ntR."),
        "torch.serialization.os",
        id="a chain of attributes",
    ),
    pytest.param(
        stacked("numpy.testing._private.utils", "runstring"), "numpy.testing._private.utils.runstring", id="numpy"
    ),
    pytest.param(stacked("importlib.util", "find_spec"), "importlib.util.find_spec", id="a part of a module"),
    pytest.param(text("cos\nsystem\nthis is torn"), "os.system", id="before the stream breaks off"),
]


@pytest.mark.parametrize(("stream", "name"), DANGEROUS)
def test_a_name_that_runs_a_program_is_damage_and_is_told(stream: bytes, name: str, tmp_path: Path) -> None:
    facts = told(with_pickle(stream), tmp_path)
    unsafe = [problem.message for problem in facts.problems if problem.code is Code.UNSAFE_PICKLE]
    assert len(unsafe) == 1
    assert name in unsafe[0]


def test_a_dangerous_name_in_the_older_format_is_told(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> Any:
            return os.system, ("true",)

    facts = told(saved_before_zip({"a": Runs()}), tmp_path)
    assert facts.problems[0].message == "it names posix.system, which would run when it is loaded"


@pytest.mark.parametrize(
    "name",
    [
        Name("builtins", "getattr"),
        Name("transformers.training_args", "TrainingArguments"),
        Name("deepspeed.runtime.fp16.loss_scaler", "DynamicLossScaler"),
        Name("functools", "partial"),
        Name("mine.code", "Model"),
        Name("mine.http.requests", "Model.open"),
        Name("models.os", "System"),
        Name("ostrich", "system"),
        Name("torch.storage", "_load_from_bytes"),
        Name("cloudpickle.cloudpickle", "_make_function"),
        Name("dill._dill", "_create_function"),
        Name("pathlib", "PosixPath"),
        Name("io", "BytesIO"),
        Name("operator", "itemgetter"),
        Name("numpy.random._pickle", "__generator_ctor"),
    ],
    ids=str,
)
def test_a_name_that_is_merely_unknown_is_not_called_dangerous(name: Name) -> None:
    assert dangerous([name]) == ()
    assert refused([name]) == {str(name)}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(with_pickle(b"cos\nsystem\n.", packed=True), Code.UNSAFE_PICKLE, id="packed"),
        pytest.param(with_pickle(b"cos\nsystem\n.", name="Data.pkl"), Code.UNSAFE_PICKLE, id="in another case"),
        pytest.param(with_pickle(b"}.", more=b"cos\nsystem\n."), Code.ZIP_DIRECTORY, id="behind one of the same name"),
    ],
)
def test_a_pickle_cannot_hide_from_us_where_torch_finds_it(content: bytes, code: Code, tmp_path: Path) -> None:
    assert [problem.code for problem in told(content, tmp_path).problems] == [code]


def test_records_that_unpack_to_gigabytes_are_not_unpacked(tmp_path: Path) -> None:
    content = bytearray(with_pickle(b"}.", packed=True))
    struct.pack_into("<I", content, content.rindex(b"PK\x01\x02") + 24, 0xFFFFFFF0)
    assert [problem.code for problem in told(bytes(content), tmp_path).problems] == [Code.FILE_UNREADABLE]


def test_deep_and_shared_values_are_walked_once() -> None:
    value: Any = read_pickle(saved_pickle({"w": torch.ones(1)})).value
    for _ in range(60):
        value = [value, value]
    assert len(tensors_within(value)) <= 1
    for _ in range(100_000):
        value = [value]
    assert tensors_within(value) == {}


def saved_pickle(value: Any) -> bytes:
    with zipfile.ZipFile(io.BytesIO(saved(value))) as archive:
        return archive.read("archive/data.pkl")


def test_a_list_of_records_that_is_too_long_is_told_and_not_read(tmp_path: Path) -> None:
    length = 40 << 20
    end = b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 1, 1, length, 30, 0)
    file = tmp_path / "long.pt"
    with file.open("wb") as stream:
        stream.write(b"PK\x03\x04" + bytes(26))
        stream.truncate(30 + length)
        stream.seek(0, os.SEEK_END)
        stream.write(end)
    (problem,) = facts_of(file, Level.QUICK).problems
    assert problem.code is Code.FILE_UNREADABLE
    assert str(length) in problem.message
