"""No byte of a checkpoint is executed, and none makes the readers fail in a way that is not foreseen."""

from __future__ import annotations

import copyreg
import json
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from typing import TYPE_CHECKING, Final

import pytest
import torch

from builders import saved
from judging import facts_of
from lastgood.findings import MEANINGS, Severity
from lastgood.formats.inert_pickle import NotInert, Opaque, read_pickle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Runs:
    """Unpickled, it makes a file."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def by_hand(stream: str) -> Callable[[str], bytes]:
    return lambda marker: stream.replace("MARKER", marker).encode("latin-1")


ATTACKS: Final = [
    pytest.param(lambda marker: pickle.dumps(Runs(marker), 2), id="REDUCE"),
    pytest.param(lambda marker: pickle.dumps([{"a": Runs(marker)}], 5), id="REDUCE deep inside, by STACK_GLOBAL"),
    pytest.param(by_hand("(S'touch MARKER'\nios\nsystem\n."), id="INST"),
    pytest.param(by_hand("(cos\nsystem\nS'touch MARKER'\no."), id="OBJ"),
    pytest.param(by_hand("cbuiltins\nopen\n(S'MARKER'\nS'w'\ntR."), id="a builtin, by its name"),
    pytest.param(
        by_hand("cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'touch MARKER'\ntR."),
        id="a path of attributes",
    ),
    pytest.param(by_hand("\x80\x02\x82\x7a(S'touch MARKER'\ntR."), id="an extension that is registered"),
    pytest.param(by_hand("\x80\x02cio\nFileIO\n(S'MARKER'\nS'w'\nt\x81(S'MARKER'\nS'w'\ntb."), id="NEWOBJ and BUILD"),
    pytest.param(
        by_hand("ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nN(S'touch MARKER'\ntNtR."),
        id="through the one known function that calls another",
    ),
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_that_a_pickle_names_is_executed(attack: Callable[[str], bytes], tmp_path: Path) -> None:
    copyreg.add_extension("os", "system", 0x7A)
    try:
        read_pickle(attack(f"{tmp_path}/marker"))
    finally:
        copyreg.remove_extension("os", "system", 0x7A)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("attack", ATTACKS[:6])
def test_the_attacks_are_real_ones(attack: Callable[[str], bytes], tmp_path: Path) -> None:
    load = [sys.executable, "-c", "import pickle, sys; pickle.load(sys.stdin.buffer)"]
    subprocess.run(load, input=attack(f"{tmp_path}/marker"), capture_output=True, check=False)
    assert [file.name for file in tmp_path.iterdir()] == ["marker"]


def test_no_module_that_a_pickle_names_is_imported() -> None:
    value = read_pickle(b"cantigravity\nfly\n.").value
    assert issubclass(value, Opaque)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x80\x02}q\x00", id="no end"),
        pytest.param(b"\x80\xff.", id="a protocol that does not exist"),
        pytest.param(b"\x80\x02\x85.", id="an empty stack"),
        pytest.param(b"\x80\x02h\x07.", id="a memo that was never filled"),
        pytest.param(b"\x80\x04K\x01K\x02\x93.", id="a name that is not text"),
        pytest.param(b"I" + b"9" * 5000 + b"\n.", id="a number of too many digits"),
        pytest.param(b"\x80\x05\x97.", id="a buffer that lies elsewhere"),
        pytest.param(b"\x80\x02K\x01}K\x01K\x02sb.", id="a state for a number"),
        pytest.param(b"\x80\x02}]K\x01s.", id="a list as a key"),
    ],
)
def test_a_damaged_pickle_is_told_by_one_kind_of_error(stream: bytes) -> None:
    with pytest.raises(NotInert):
        read_pickle(stream)


def _safetensors(header: str) -> bytes:
    return struct.pack("<Q", len(header)) + header.encode()


def _described(**changes: object) -> bytes:
    return _safetensors(json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changes}))


def _zip(change: Callable[[bytearray], None]) -> bytes:
    content = bytearray(saved({"a": 1}))
    change(content)
    return bytes(content)


def _claim_big_directory(content: bytearray) -> None:
    end = content.rindex(b"PK\x05\x06")
    struct.pack_into("<I", content, end + 12, 0xFFFFFFF0)


def _pack(method: int) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        struct.pack_into("<H", content, content.index(b"PK\x01\x02") + 10, method)

    return change


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("a.json", b"1" * 5000, id="JSON: a number of too many digits"),
        pytest.param("a.json", b"[" * 200_000, id="JSON: nested without end"),
        pytest.param("a.json", b'{"a": \xff}', id="JSON: not UTF-8"),
        pytest.param("a.safetensors", _safetensors("[" * 200_000), id="safetensors: nested without end"),
        pytest.param("a.safetensors", _safetensors("7"), id="safetensors: a number for a header"),
        pytest.param("a.safetensors", _safetensors('{"w": 7}'), id="safetensors: a number for a tensor"),
        pytest.param("a.safetensors", _described(dtype=[]), id="safetensors: a list for a dtype"),
        pytest.param("a.safetensors", _described(shape=[-1]), id="safetensors: a length below zero"),
        pytest.param("a.safetensors", _described(shape=[True]), id="safetensors: a truth value for a length"),
        pytest.param("a.safetensors", _described(data_offsets=[0]), id="safetensors: one offset"),
        pytest.param("a.safetensors", _described(data_offsets="04"), id="safetensors: text for offsets"),
        pytest.param("a.safetensors", _described(shape=["x" * 1000, 10**9]), id="safetensors: text times a number"),
        pytest.param("a.pt", _zip(_claim_big_directory), id="zip: a directory of 4 GB"),
        pytest.param("a.pt", _zip(_pack(zipfile.ZIP_DEFLATED)), id="zip: a record that is not packed, but said to be"),
        pytest.param("a.pt", _zip(_pack(zipfile.ZIP_BZIP2)), id="zip: bzip2, which torch does not know"),
        pytest.param("a.pt", _zip(_pack(zipfile.ZIP_LZMA)), id="zip: lzma, which torch does not know"),
        pytest.param("a.pt", _zip(_pack(77)), id="zip: a method that nobody knows"),
    ],
)
def test_a_forged_file_is_a_finding_and_costs_little_memory(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    tracemalloc.start()
    facts = facts_of(tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [MEANINGS[problem.code].severity for problem in facts.problems] == [Severity.ERROR]
    assert peak < 32 << 20


def test_a_flipped_bit_that_goes_unnoticed_changes_nothing_that_torch_loads(tmp_path: Path) -> None:
    value = {"step": 7, "w": torch.arange(3.0)}
    whole = saved(value)
    file, missed = tmp_path / "a.pt", []
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        if not facts_of(file).problems and not _loads_as(file, value):
            missed.append((place, bytes(whole[max(place - 20, 0) : place + 20])))
    assert missed == []


def _loads_as(file: Path, value: dict[str, object]) -> bool:
    try:
        loaded = torch.load(file)
    except Exception:  # noqa: BLE001 - whatever torch fails with, it did not load
        return False
    return bool(loaded["step"] == value["step"] and torch.equal(loaded["w"], value["w"]))
