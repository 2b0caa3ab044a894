"""Files that are as their writers meant them: a false alarm is as bad as a miss."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import io
import json
import pathlib
import pickle
import random
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch

from builders import saved
from judging import facts_of
from lastgood.facts import TensorFact
from lastgood.findings import Code

if TYPE_CHECKING:
    from pathlib import Path


class Colour(enum.Enum):
    RED = 1


class Pair(NamedTuple):
    left: int
    right: int


@dataclasses.dataclass
class Options:
    rate: float = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    rate: float = 0.1


class Named(dict[str, int]):
    """A dict that carries an attribute."""


class Reduced:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Reduced, (), {"a": 1}, iter([1]), iter([("k", 1)]))


def _state_dict() -> Any:
    return torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).state_dict()


def _named() -> Named:
    made = Named(a=1)
    made.__dict__["note"] = "kept"
    return made


def _views_of_one_storage() -> Any:
    whole = torch.arange(12.0)
    return {"whole": whole, "part": whole[3:7], "turned": whole.view(3, 4).t()}


def _scheduler() -> Any:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight])
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10).state_dict()


PICKLED = [
    pytest.param(_state_dict(), id="a module's state_dict is an OrderedDict with an attribute"),
    pytest.param(torch.nn.Linear(2, 2), id="a whole module"),
    pytest.param(torch.nn.Parameter(torch.ones(3)), id="a parameter"),
    pytest.param(_views_of_one_storage(), id="views that share a storage"),
    pytest.param([torch.zeros(0), torch.tensor(1.5)], id="a tensor without elements, and one without dimensions"),
    pytest.param([torch.ones(3, dtype=d) for d in (torch.bfloat16, torch.float16)], id="half precision"),
    pytest.param(torch.ones(4).to(torch.float8_e4m3fn), id="eight-bit floats"),
    pytest.param([torch.ones(2, dtype=d) for d in (torch.bool, torch.complex64)], id="truth values, complex numbers"),
    pytest.param([torch.ones(2, dtype=d) for d in (torch.uint16, torch.uint64)], id="unsigned integers"),
    pytest.param(torch.eye(3).to_sparse(), id="a sparse tensor"),
    pytest.param(torch.ones(3, device="meta"), id="a tensor without storage"),
    pytest.param(torch.ones(3).untyped_storage(), id="a bare storage"),
    pytest.param(torch.ones(3).requires_grad_(), id="a tensor that wants a gradient"),
    pytest.param(torch.complex(torch.ones(2), torch.ones(2)).conj(), id="a conjugated view"),
    pytest.param([torch.Size((2, 3)), torch.device("cpu"), torch.float32], id="torch's own small values"),
    pytest.param(random.Random(1).getstate(), id="Python's random state"),
    pytest.param(np.random.RandomState(1).get_state(), id="numpy's old random state"),
    pytest.param(np.random.default_rng(1), id="numpy's new generator"),
    pytest.param([np.float64(1.5), np.arange(3), np.array(["a"])], id="numpy's numbers and arrays"),
    pytest.param(np.array([{"a": 1}], dtype=object), id="a numpy array of objects"),
    pytest.param(_scheduler(), id="a scheduler's state"),
    pytest.param(torch.optim.SGD([torch.ones(1)]).state_dict(), id="an optimizer that has no state"),
    pytest.param(collections.defaultdict(list, {"a": [1]}), id="a defaultdict"),
    pytest.param(collections.OrderedDict(a=1), id="an OrderedDict"),
    pytest.param(collections.Counter("aab"), id="a Counter"),
    pytest.param(collections.deque([1, 2], maxlen=5), id="a deque"),
    pytest.param(_named(), id="a dict with an attribute"),
    pytest.param({1, 2} | {"a"}, id="a set"),
    pytest.param({frozenset({1}): (1,)}, id="a frozenset as a key"),
    pytest.param({Colour.RED: Pair(1, 2)}, id="an enum as a key, a named tuple as a value"),
    pytest.param({Slotted(): Options()}, id="dataclasses, with slots and without"),
    pytest.param({pathlib.PurePosixPath("a"): dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}, id="a path and a time"),
    pytest.param([b"x" * 300, bytearray(b"y" * 300), 2**4000, -1, 1e300, None, True], id="every plain value"),
    pytest.param(["ä" * 300, "\U0001f600", "\ud800"], id="text beyond ASCII"),
    pytest.param(Reduced(), id="an object that is reduced with list and dict items"),
    pytest.param(torch.nn.Linear, id="a class itself"),
    pytest.param(None, id="nothing"),
]


@pytest.mark.parametrize("value", PICKLED)
@pytest.mark.parametrize("protocol", [2, 5])
def test_what_torch_saves_is_sound(value: Any, protocol: int, tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save(value, stream, pickle_protocol=protocol)
    (tmp_path / "value.pt").write_bytes(stream.getvalue())
    facts = facts_of(tmp_path / "value.pt")
    assert (facts.format, facts.problems) == ("torch", ())


def _saved_before_zip(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


@pytest.mark.parametrize("value", PICKLED)
def test_what_torch_saved_before_its_zip_format_is_sound(value: Any, tmp_path: Path) -> None:
    (tmp_path / "value.pt").write_bytes(_saved_before_zip(value))
    facts = facts_of(tmp_path / "value.pt")
    assert (facts.format, [problem.code for problem in facts.problems]) == ("torch", [Code.NO_CHECKSUM])


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_a_program_of_torch_is_sound(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "model.pt"))
    assert facts_of(tmp_path / "model.pt").problems == ()


def test_a_pickle_that_is_not_of_torch_is_a_file_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "notes.pkl").write_bytes(pickle.dumps({"a": 1}))
    assert (facts_of(tmp_path / "notes.pkl").format, facts_of(tmp_path / "notes.pkl").problems) == ("other", ())


def test_the_structure_of_a_torch_file_comes_out_as_plain_data(tmp_path: Path) -> None:
    value = {"w": torch.ones(2, 3, dtype=torch.bfloat16), "steps": [1, 2.5, None], "name": "x"}
    (tmp_path / "value.pt").write_bytes(saved(value))
    place = (tmp_path / "value.pt").read_bytes().index(b"\x80\x3f" * 6)
    assert facts_of(tmp_path / "value.pt").contents == {
        "w": TensorFact("BF16", (2, 3), 12, place, 12),
        "steps": [1, 2.5, None],
        "name": "x",
    }


DTYPES = ["bool", "uint8", "int8", "int16", "uint16", "float16", "bfloat16", "int32", "uint32", "float32"]
DTYPES += ["int64", "uint64", "float64", "complex64", "float8_e4m3fn", "float8_e5m2"]


@pytest.mark.parametrize(
    "tensors",
    [
        *(pytest.param({"w": torch.zeros(3, 2).to(getattr(torch, name))}, id=name) for name in DTYPES),
        pytest.param({}, id="no tensor at all"),
        pytest.param({"a": torch.zeros(0, 4), "b": torch.ones(2)}, id="a tensor without elements"),
        pytest.param({"a": torch.tensor(1.0)}, id="a tensor without dimensions"),
        pytest.param({"ä\n\U0001f600": torch.ones(1), "": torch.ones(1)}, id="names beyond ASCII, and an empty one"),
    ],
)
def test_what_safetensors_saves_is_sound(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    facts = facts_of(tmp_path / "model.safetensors")
    assert facts.problems == ()
    assert set(facts.contents) == set(tensors)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"loss": NaN, "grad_norm": Infinity, "low": -Infinity}', id="numbers that only Python writes"),
        pytest.param('\ufeff{"a": 1}', id="a byte order mark"),
        pytest.param('{"ä": "\\ud83d\\ude00"}', id="text beyond ASCII"),
        pytest.param("[]", id="a list, as sentence-transformers' modules.json is"),
        pytest.param('{"huge": 1e400}', id="a number beyond what a float can hold"),
    ],
)
def test_json_as_the_frameworks_write_it_is_sound(text: str, tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_text(text, encoding="utf-8")
    assert facts_of(tmp_path / "trainer_state.json").problems == ()


WHOLE = {"a": [None, True, False, float("nan"), float("-inf"), -1.5e-05], "ä": 'quo"te\\', "\U0001f600": {}, "z": 12}


@pytest.mark.parametrize("ascii_only", [pytest.param(True, id="escaped"), pytest.param(False, id="as UTF-8")])
def test_json_cut_off_at_any_byte_is_short_and_never_merely_wrong(ascii_only: bool, tmp_path: Path) -> None:
    whole = json.dumps(WHOLE, ensure_ascii=ascii_only, indent=1).encode()
    file = tmp_path / "trainer_state.json"
    wrong = []
    for length in range(1, len(whole)):
        file.write_bytes(whole[:length])
        if [problem.code for problem in facts_of(file).problems] != [Code.JSON_SHORT]:
            wrong.append(whole[:length][-12:])
    assert wrong == []


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        pytest.param("optimizer.pt", saved({"a": torch.ones(3)}), Code.ZIP_SHORT, id="torch"),
        pytest.param("optimizer.pt", _saved_before_zip({"a": torch.ones(3)}), Code.ZIP_SHORT, id="older torch"),
        pytest.param(
            "model.safetensors", safetensors.torch.save({"a": torch.ones(3)}), Code.SAFETENSORS_SHORT, id="safetensors"
        ),
    ],
)
def test_a_file_cut_off_at_any_byte_is_short_and_never_merely_wrong(
    name: str, content: bytes, code: Code, tmp_path: Path
) -> None:
    wrong = {}
    for length in range(1, len(content)):
        (tmp_path / name).write_bytes(content[:length])
        if [problem.code for problem in facts_of(tmp_path / name).problems] != [code]:
            wrong[length] = facts_of(tmp_path / name).problems
    assert wrong == {}
