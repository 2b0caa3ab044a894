"""Files of torch whose records are packed: nothing is judged otherwise than if they were not."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import make_plain_checkpoint, saved
from injuries import change_state, flip_bit, start_of_record
from judging import facts_of
from lastgood.facts import Level
from lastgood.findings import Code
from lastgood.training.packing import pack
from lastgood.verify import examine, verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lastgood.facts import FileFacts, Report

STATE = "training_state.pt"


def told(folder: Path, *, packed: bool) -> Report:
    if packed:
        pack(str(folder / STATE))
    return verify(str(folder))


def with_moment(value: Any) -> Callable[[Path], None]:
    def injure(file: Path) -> None:
        state = torch.load(file, weights_only=False)["optimizer_state_dict"]
        for moments in state["state"].values():
            moments["exp_avg"].view(-1)[-1:] = value
        change_state(optimizer_state_dict=state)(file)

    return injure


def findings(report: Report) -> list[tuple[Code, str | None, str]]:
    return [(finding.code, finding.file, finding.message) for finding in report.findings]


@pytest.mark.parametrize(
    ("value", "code"), [(float("nan"), Code.NOT_A_NUMBER), (float("inf"), Code.NOT_FINITE)], ids=["NaN", "infinity"]
)
def test_numbers_that_are_wrong_are_found_in_packed_moments_too(tmp_path: Path, value: float, code: Code) -> None:
    reports = []
    for packed in (False, True):
        folder = make_plain_checkpoint(tmp_path / str(packed) / "checkpoint-100", 100)
        with_moment(value)(folder / STATE)
        reports.append(told(folder, packed=packed))
    assert [report.verdict for report in reports] == ["unhealthy"] * 2
    assert findings(reports[0]) == findings(reports[1])
    assert code in {finding.code for finding in reports[1].findings}


def test_packed_moments_that_are_all_zero_are_noticed(tmp_path: Path) -> None:
    zero = {"a": torch.zeros(300_000), "b": torch.ones(300_000)}
    assert packed_facts(zero, tmp_path).numbers.zero == {"a"}


def test_the_steps_of_a_packed_optimizer_are_read_by_a_quick_look_too(tmp_path: Path) -> None:
    folder = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    plainly = examine(str(folder), Level.QUICK)[0].optimizer
    pack(str(folder / STATE))
    packed = examine(str(folder), Level.QUICK)[0].optimizer
    assert plainly is not None
    assert packed is not None
    assert (packed.steps, packed.rates) == (plainly.steps, plainly.rates) == ((100,), plainly.rates)


def test_a_byte_that_changed_in_packed_data_is_found_and_a_quick_look_does_not_unpack(tmp_path: Path) -> None:
    folder = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    change_state(dataloader={"order": torch.randn(5000)})(folder / STATE)
    pack(str(folder / STATE))
    with zipfile.ZipFile(folder / STATE) as records:
        largest = max(records.infolist(), key=lambda record: record.file_size)
    place = start_of_record(folder / STATE, largest.filename.partition("/")[2])
    flip_bit(folder / STATE, place + largest.compress_size // 2)
    report = verify(str(folder))
    assert report.verdict == "corrupt"
    assert [(f.code, f.file) for f in report.findings if f.code is Code.ZIP_RECORD_CRC] == [
        (Code.ZIP_RECORD_CRC, STATE)
    ]
    assert verify(str(folder), Level.QUICK).verdict == "complete"


@pytest.mark.parametrize("more", [-4, 4, 1 << 20], ids=["less", "more", "much more"])
def test_a_record_that_unpacks_to_another_length_than_it_says_is_damaged(tmp_path: Path, more: int) -> None:
    content = torch.arange(1000.0).numpy().tobytes()
    file = tmp_path / "value.pt"
    file.write_bytes(packed_with(saved({"w": torch.arange(1000.0)}), (content + bytes(max(more, 0)))[: 4000 + more]))
    assert Code.ZIP_RECORD_CRC in {problem.code for problem in facts_of(file).problems}


def test_a_bomb_is_unpacked_no_further_than_it_says(tmp_path: Path) -> None:
    file = tmp_path / "value.pt"
    file.write_bytes(packed_with(saved({"w": torch.arange(1000.0)}), bytes(256 << 20)))
    tracemalloc.start()
    problems = facts_of(file).problems
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert Code.ZIP_RECORD_CRC in {problem.code for problem in problems}
    assert peak < 16 << 20


def test_a_packed_tensor_is_looked_at_in_blocks(tmp_path: Path) -> None:
    (tmp_path / "value.pt").write_bytes(saved({"w": torch.zeros(16 << 20), "v": torch.ones(7)}))
    pack(str(tmp_path / "value.pt"))
    facts_of(tmp_path / "value.pt")
    tracemalloc.start()
    assert facts_of(tmp_path / "value.pt").numbers.zero == {"w"}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.complex64])
ODD = st.sampled_from([0.0, 1.0, -1.0, float("nan"), float("inf"), -float("inf")])


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Of any few values, of which one may be odd; seldom larger than a block; sometimes a view into a storage."""
    length = draw(st.one_of(st.integers(0, 40), st.sampled_from([131_071, 262_145, 700_001])))
    tensor = torch.full((length,), draw(ODD)).to(draw(DTYPES))
    if length:
        tensor[draw(st.integers(0, length - 1))] = draw(st.sampled_from([0.0, 2.0]))
    begin = draw(st.integers(0, min(length, 3)))
    return tensor[begin :: draw(st.integers(1, 2))]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "step", "lr"]), tensors()))
def test_the_facts_of_a_packed_file_are_those_of_the_same_file_unpacked(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, torch.Tensor]
) -> None:
    folder = tmp_path_factory.mktemp("packed")
    (folder / "value.pt").write_bytes(saved(value))
    plain = facts_of(folder / "value.pt")
    packed = packed_facts(value, folder)
    assert (packed.problems, packed.numbers, packed.values) == (plain.problems, plain.numbers, plain.values)
    assert list(packed.tensors) == list(plain.tensors)
    assert all(
        (one.dtype, one.shape, one.bytes, one.extent) == (other.dtype, other.shape, other.bytes, other.extent)
        for one, other in zip(packed.tensors.values(), plain.tensors.values(), strict=True)
    )


def packed_facts(value: Any, folder: Path) -> FileFacts:
    (folder / "value.pt").write_bytes(saved(value))
    pack(str(folder / "value.pt"))
    return facts_of(folder / "value.pt")


def packed_with(file: bytes, content: bytes) -> bytes:
    """The file, packed, and `content` in the place of its one storage, of which the list says what it said before."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as before, zipfile.ZipFile(stream, "w") as after:
        for record in before.infolist():
            inside = "/data/" in record.filename
            how = zipfile.ZIP_DEFLATED if inside else zipfile.ZIP_STORED
            after.writestr(record.filename, content if inside else before.read(record), how)
            size, crc = record.file_size, record.CRC
            if inside:
                told = (size, crc)
    written = bytearray(stream.getvalue())
    place = written.index(b"/data/0", written.index(b"PK\x01\x02")) - len("archive") - 46
    assert zlib.crc32(content) == struct.unpack_from("<I", written, place + 16)[0]
    struct.pack_into("<I", written, place + 16, told[1])
    struct.pack_into("<I", written, place + 24, told[0])
    return bytes(written)
