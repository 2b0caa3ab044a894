"""Whatever the bytes are: facts or findings, soon, in bounded memory. `make prove` has the long run of this."""

from __future__ import annotations

import json
import struct
import tempfile
import tracemalloc
from pathlib import Path
from typing import Final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import hf_files, plain_files, saved
from judging import facts_of
from lastgood.findings import Code
from lastgood.formats import inert_pickle
from lastgood.formats.inert_pickle import NotInert, TooMuch, read_pickle
from lastgood.formats.tensors import tensors_within

BOUNDED: Final = settings(max_examples=150, deadline=None, derandomize=True, database=None)
LITTLE: Final = 160 << 20


def put(index: int) -> bytes:
    return b"r" + struct.pack("<I", index)


def get(index: int) -> bytes:
    return b"j" + struct.pack("<I", index)


def whole_number(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<I", len(data)) + data


def of_two(levels: int) -> bytes:
    """A tuple of one tuple twice, of one tuple twice, and so on: short to say, endless to hash or to print."""
    return b")" + b"2\x86" * levels


def again(value: bytes, call: bytes, times: int) -> bytes:
    """The value once, and a call of it many times."""
    return b"(" + value + put(0) + (call + get(0) + b"\x85R") * times + b"t."


LONG_LIST: Final = b"](" + b"K\x01" * 100_000 + b"e"
PAIRS: Final = b"](" + b"K\x01K\x02\x86" * 50_000 + b"e"
LONG_TEXT: Final = b"X" + struct.pack("<I", 1_000_000) + b"x" * 1_000_000
SAME_HASH: Final = b"".join(whole_number(n * ((1 << 61) - 1)) + b"N" for n in range(1, 20_000))
BOMBS: Final = [
    pytest.param(b"}" + of_two(80) + b"Ns.", id="a key that takes for ever to hash"),
    pytest.param(b"}" + b")" + b"\x85" * 100_000 + b"Ns.", id="a key that is too deep to hash"),
    pytest.param(b"\x8f(" + of_two(80) + b"\x90.", id="the same in a set"),
    pytest.param(b"(" + of_two(80) + b"\x91.", id="the same in a frozenset"),
    pytest.param(b"(" + of_two(80) + b"Nd.", id="the same in an old dict"),
    pytest.param(b"}(" + SAME_HASH + b"u.", id="keys that all hash alike"),
    pytest.param(
        b"N" + b"".join(b"p%d\n" % (n * ((1 << 61) - 1)) for n in range(20_000)) + b".", id="memo indices that do"
    ),
    pytest.param(
        b"}" + whole_number(1 << 4_000_000) + put(0) + (b"Ns" + get(0)) * 2_000 + b"Ns.",
        id="a number as long as a book",
    ),
    pytest.param(again(LONG_LIST, b"ctorch\nSize\n", 2_000), id="a long list copied as a size"),
    pytest.param(again(LONG_LIST, b"cbuiltins\nset\n", 2_000), id="a long list copied as a set"),
    pytest.param(again(PAIRS, b"ccollections\nOrderedDict\n", 2_000), id="a long list copied as a dict"),
    pytest.param(again(LONG_TEXT, b"c_codecs\nencode\n", 2_000), id="a long text copied as bytes"),
    pytest.param(
        b"(" + LONG_LIST[2:-1] + b"t" + put(0) + (b"ca\nb\n" + get(0) + b"R") * 5_000 + b".", id="shared arguments"
    ),
    pytest.param(
        b"(" + LONG_LIST[2:-1] + b"t" + put(0) + (b"ca\nb\n)" + get(0) + b"}\x92") * 5_000 + b".", id="by NEWOBJ_EX"
    ),
    pytest.param(
        b"(S'storage'\nctorch\nFloatStorage\n" + of_two(80) + b"S'cpu'\nK\x01tQ.", id="a key endless to print"
    ),
    pytest.param(b"ca\nb\n)R" + b"}ca\nb\n)R\x86b" * 20_000 + b".", id="states of states"),
    pytest.param(b"".join(b"ca\nb%d\n0" % n for n in range(20_000)) + b"N.", id="more names than there are classes"),
    pytest.param(b"c" + b"a" * 5_000_000 + b"\nb\n.", id="a name without end"),
    pytest.param(b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN.", id="a frame of exabytes"),
    pytest.param(b"\x8b\xff\xff\xff\x7f1.", id="a number of gigabytes"),
    pytest.param(b"\x8e" + struct.pack("<Q", 1 << 40) + b"x.", id="bytes of terabytes"),
    pytest.param(b"\x8d" + struct.pack("<Q", 1 << 62) + b"x.", id="text of exabytes"),
    pytest.param(b"\x80\x05\x96" + struct.pack("<Q", 1 << 30) + b"short.", id="an array of a gigabyte"),
    pytest.param(b"r\xff\xff\xff\xff.", id="a memo index of four billions"),
    pytest.param(b"I" + b"9" * 1_000_000 + b"\n.", id="a decimal number of a million digits"),
    pytest.param(b"F" + b"9" * 1_000_000 + b"\n.", id="a fraction of a million digits"),
    pytest.param(b"(" * 100_000 + b".", id="marks without end"),
    pytest.param(b"N" + b"2" * 100_000 + b".", id="one value many times"),
    pytest.param(b"]" + b"2a" * 100_000 + b".", id="a list that is put into itself"),
    pytest.param(b"]" + b"\x85" * 100_000 + b".", id="a deep nest"),
]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("stream", BOMBS)
def test_a_bomb_goes_off_in_little_memory_and_time(stream: bytes) -> None:
    tracemalloc.start()
    try:
        tensors_within(read_pickle(stream).value)
    except NotInert:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < LITTLE


def test_a_structure_of_endless_operations_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inert_pickle, "_MOST_OPCODES", 1000)
    assert read_pickle(b"]" + b"2a" * 400 + b".").value is not None
    with pytest.raises(TooMuch):
        read_pickle(b"]" + b"2a" * 500 + b".")


@pytest.mark.parametrize("opcode", [b"}", b"]", b"(", b"\x8f", b"}\x94", b"ca\nb\n)R", b"\x8f\x94", b"G12345678"])
def test_each_operation_costs_few_bytes(opcode: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(NotInert):
        read_pickle(opcode * 20_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak / 20_000 < 400


def test_one_file_cannot_change_how_the_next_is_read() -> None:
    storage = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\ntQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"I0\n(I4\nt(I1\nttR."
    before = read_pickle(tensor).value
    for name in (b"torch._utils\n_rebuild_tensor_v2", b"torch\nSize", b"collections\nOrderedDict", b"a\nb"):
        for state in (b"}S'__defaults__'\n)s", b"N}S'make'\nNs\x86"):
            with pytest.raises(NotInert):
                read_pickle(b"c" + name + b"\n" + state + b"b.")
    assert read_pickle(tensor).value == before


def test_text_of_millions_of_values_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_bytes(b"[" + b"[]," * (9 << 20) + b"0]")
    tracemalloc.start()
    facts = facts_of(tmp_path / "trainer_state.json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [problem.code for problem in facts.problems] == [Code.FILE_UNREADABLE]
    assert peak < 3 * facts.size


VALID: Final = [*hf_files(100), *plain_files(100), ("model.pkl", saved({"a": torch.ones(2)}))]
ANYTHING: Final = st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers(), max_size=3)
DESCRIBED: Final = ANYTHING | st.fixed_dictionaries(
    {}, optional={"dtype": ANYTHING | st.just("F32"), "shape": ANYTHING, "data_offsets": ANYTHING}
)
EDIT: Final = st.tuples(st.sampled_from(["set", "drop", "add"]), st.floats(0, 1), st.binary(min_size=1, max_size=12))
NAMES: Final = (
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_tensor_v3\n", b"ctorch\nFloatStorage\n",
    b"ctorch\nfloat8_e5m2\n", b"ctorch._tensor\n_rebuild_from_type_v2\n", b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch._utils\n_rebuild_device_tensor_from_numpy\n", b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n",
    b"ctorch\nSize\n", b"ccollections\nOrderedDict\n", b"cbuiltins\ngetattr\n", b"cbuiltins\nset\n",
    b"cbuiltins\nbytearray\n", b"cbuiltins\ncomplex\n", b"c_codecs\nencode\n", b"cnumpy\ndtype\n",
    b"cnumpy._core.multiarray\n_reconstruct\n", b"cnumpy.core.multiarray\nscalar\n",
    b"cnumpy._core.numeric\n_frombuffer\n", b"ca\nb\n",
)  # fmt: skip
PIECES: Final = (
    *NAMES, *(bytes([code]) for code in inert_pickle._Inert.dispatch if code not in b"FIPSVBTUXciCgjhpqr\x80.\x8a\x8b"),
    b"S'storage'\n", b"S'0'\n", b"U\x02f4", b"K\x00", b"K\x05", b"J\xff\xff\xff\xff", b"I01\n", b"q\x00", b"h\x00",
    b"q\x01", b"h\x01", b"C\x04abcd", b"X\x01\x00\x00\x00<", b"\x8a\x09" + b"\xff" * 8 + b"\x00",
    b"G\x7f\xf8" + bytes(6),
)  # fmt: skip


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=40))
@settings(BOUNDED, max_examples=600)
def test_any_sequence_of_operations_is_a_value_or_not_inert(pieces: list[bytes]) -> None:
    try:
        contents = read_pickle(b"".join(pieces) + b".", {"0": 64})
    except NotInert:
        return
    tensors_within(contents.value)


@given(function=st.sampled_from(NAMES), args=st.lists(st.sampled_from(PIECES), max_size=10))
@settings(BOUNDED, max_examples=300)
def test_a_known_function_with_any_arguments_is_a_value_or_not_inert(function: bytes, args: list[bytes]) -> None:
    try:
        contents = read_pickle(function + b"(" + b"".join(args) + b"tR.", {"0": 64})
    except NotInert:
        return
    tensors_within(contents.value)


@given(data=st.binary(max_size=400))
@BOUNDED
def test_random_bytes_after_a_pickle_s_opening_are_a_value_or_not_inert(data: bytes) -> None:
    try:
        read_pickle(b"\x80\x04" + data + b".")
    except NotInert:
        return


def _safetensors(header: str) -> bytes:
    return struct.pack("<Q", len(header)) + header.encode()


@given(ending=st.sampled_from([".pt", ".safetensors", ".json", ".pkl", ".txt"]), data=st.binary(min_size=1))
@BOUNDED
def test_a_file_of_random_bytes_is_read_without_failing(ending: str, data: bytes) -> None:
    _assert_read(f"file{ending}", data)


@given(header=st.dictionaries(st.sampled_from(["w", "v", "__metadata__"]), DESCRIBED))
@BOUNDED
def test_any_json_as_a_safetensors_header_is_read_without_failing(header: dict[str, object]) -> None:
    _assert_read("file.safetensors", _safetensors(json.dumps(header)))


@given(valid=st.sampled_from(VALID), edits=st.lists(EDIT, min_size=1, max_size=4))
@settings(BOUNDED, max_examples=600)
def test_a_valid_file_with_bytes_changed_is_read_without_failing(
    valid: tuple[str, bytes], edits: list[tuple[str, float, bytes]]
) -> None:
    name, content = valid
    for edit in edits:
        content = _edited(content, *edit)
    _assert_read(name, content or b"\0")


def _edited(content: bytes, what: str, where: float, piece: bytes) -> bytes:
    # From the end backwards, where a zip keeps the list of its records.
    place = len(content) - int(where**3 * len(content))
    after = place if what == "add" else place + len(piece)
    return content[:place] + (b"" if what == "drop" else piece) + content[after:]


def _assert_read(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, name)
        file.write_bytes(content)
        facts = facts_of(file)
    assert facts.size == len(content)
    assert facts.digest is not None
