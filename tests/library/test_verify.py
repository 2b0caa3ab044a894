"""The judge's front door: what a report says, and what is refused."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

import injuries as hurt
from builders import hf_files, make_hf_checkpoint, make_plain_checkpoint, write_file, write_files
from lastgood import resume
from lastgood.errors import CannotTell, NotACheckpoint
from lastgood.facts import Component, Level, Presence
from lastgood.findings import Code, Severity, Verdict
from lastgood.inventory import take_inventory
from lastgood.layouts import hf_trainer
from lastgood.outline import Outline, outline
from lastgood.own_look import own_look
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_checkpoint_that_nobody_can_judge_keeps_nobody_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        make_hf_checkpoint(tmp_path / f"checkpoint-{step}", step)
    read = hf_trainer.HfTrainer.read

    def fail(self: Any, names: Any, files: Any) -> Any:
        found = read(self, names, files)
        return 1 // 0 if found.progress.step == 2 else found

    monkeypatch.setattr(hf_trainer.HfTrainer, "read", fail)
    report = verify(str(tmp_path / "checkpoint-2"))
    assert (report.verdict, [finding.code for finding in report.findings]) == ("unreadable", [Code.CHECKER_DIED])
    assert own_look(str(tmp_path), resume.Wishes())["name"] == "checkpoint-1"


@pytest.mark.parametrize(("make", "layout"), [(make_hf_checkpoint, "hf_trainer"), (make_plain_checkpoint, "plain")])
def test_a_report_says_what_is_there(make: Callable[[Path, int], Path], layout: str, tmp_path: Path) -> None:
    checkpoint = make(tmp_path / "checkpoint-100", 100)
    report = verify(str(checkpoint))
    assert (report.layout, report.name, report.step, report.epoch) == (layout, "checkpoint-100", 100, 1)
    assert (report.level, report.verdict, report.exact_resume) == (Level.FULL, Verdict.COMPLETE, True)
    assert report.bytes == sum(file.stat().st_size for file in checkpoint.iterdir())
    assert {file.path for file in report.files} == {file.name for file in checkpoint.iterdir()}


def test_the_world_is_as_large_as_its_ranks_tell(tmp_path: Path) -> None:
    assert verify(str(make_hf_checkpoint(tmp_path / "checkpoint-1", 1, ranks=3))).world_size == 3


def test_a_full_reading_hears_of_every_byte_and_digests_every_file(tmp_path: Path) -> None:
    heard: list[int] = []
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100, weight_rows=100_000)
    report = verify(str(checkpoint), on_bytes=heard.append)
    assert sum(heard) == report.bytes > 6_000_000
    assert all(file.digest and file.digest.startswith("crc64nvme:") for file in report.files)


def test_the_same_bytes_have_the_same_digests(tmp_path: Path) -> None:
    first = verify(str(make_hf_checkpoint(tmp_path / "a", 100)))
    second = verify(str(make_hf_checkpoint(tmp_path / "b", 100)))
    other = verify(str(make_hf_checkpoint(tmp_path / "c", 200)))
    assert first.files == second.files
    assert first.files != other.files


def test_a_digest_is_the_one_that_s3_keeps(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"123456789")
    (file,) = verify(str(tmp_path)).files
    assert file.digest == "crc64nvme:ae8b14860a799888"  # the check value of CRC-64/NVME in the catalogue of CRCs


def test_a_quick_look_reads_no_payload(tmp_path: Path) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    hurt.flip_bit_in_storage(checkpoint / "optimizer.pt")
    report = verify(str(checkpoint), Level.QUICK)
    assert (report.level, report.verdict) == (Level.QUICK, Verdict.COMPLETE)
    assert {file.digest for file in report.files} == {None}


def test_a_flipped_bit_far_into_a_large_record_is_found(tmp_path: Path) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    large = checkpoint / "optimizer.pt"
    hurt.save_instead({"state": {0: bytes(3 << 20)}, "param_groups": [{"params": [0]}]})(large)
    hurt.flip_bit(large, (2 << 20) + 12345)
    report = verify(str(checkpoint))
    assert [(f.code, f.file) for f in report.findings if f.severity is not Severity.INFO] == [
        (Code.ZIP_RECORD_CRC, "optimizer.pt")
    ]


def test_verifying_changes_nothing(tmp_path: Path) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    before = take_inventory(str(checkpoint))
    verify(str(checkpoint))
    assert take_inventory(str(checkpoint)) == before


def test_a_layout_that_keeps_no_random_states_promises_no_exact_resume(tmp_path: Path) -> None:
    checkpoint = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    (checkpoint / "training_state.pt").rename(checkpoint / "training_state.pth")
    hurt.leave_out("rng_states")(checkpoint / "training_state.pth")
    report = verify(str(checkpoint))
    assert report.components[Component.RNG] is Presence.NOT_APPLICABLE
    assert (report.verdict, report.exact_resume) == (Verdict.COMPLETE, False)


@pytest.mark.parametrize(
    ("batch", "step"),
    [
        pytest.param(7, 107, id="batches into the second epoch"),
        pytest.param(0, 200, id="0 means that the epoch is finished"),
    ],
)
def test_a_step_that_counts_batches_is_turned_into_the_step_of_training(batch: int, step: int, tmp_path: Path) -> None:
    checkpoint = make_plain_checkpoint(tmp_path / "checkpoint-200", 200)
    hurt.leave_out("global_step")(checkpoint / "training_state.pt")
    hurt.change_state(epoch=2, step=batch, total_batches=100)(checkpoint / "training_state.pt")
    assert verify(str(checkpoint)).step == step


def test_a_bare_model_is_a_save_that_never_finished(tmp_path: Path) -> None:
    report = verify(str(write_files(tmp_path / "checkpoint-100", hf_files(100)[:3])))
    assert (report.layout, report.verdict) == ("unknown", Verdict.INCOMPLETE)
    assert Code.TRAINING_STATE_MISSING in {finding.code for finding in report.findings}


@pytest.mark.parametrize(
    ("names", "told"),
    [
        pytest.param([".metadata", "__0_0.distcp"], True, id="torch's distributed checkpoint"),
        pytest.param(["config.json", "trainer_state.json", "pytorch_model_fsdp_0/x", "scheduler.pt"], True, id="FSDP"),
        pytest.param(["model.safetensors", "optimizer.bin", "random_states_0.pkl"], True, id="accelerate"),
        pytest.param(
            ["model.safetensors", "config.json", "global_step1/mp_rank_00_model_states.pt"], True, id="DeepSpeed"
        ),
        pytest.param(["epoch.ckpt"], True, id="a single file of another trainer"),
        pytest.param(["image.png"], True, id="no checkpoint at all"),
        pytest.param(["config.json"], False, id="the first file of a save"),
        pytest.param(["config.json", "model-00001-of-00002.safetensors"], False, id="a save cut off among its shards"),
        pytest.param(["adapter_config.json", "adapter_model.safetensors", "README.md"], False, id="an adapter alone"),
        pytest.param(["README.md", hurt.TEMPORARY], False, id="a save cut off in its first weights"),
    ],
)
def test_of_an_unknown_layout_is_what_no_known_save_begins_with(names: list[str], told: bool, tmp_path: Path) -> None:
    for name in names:
        file = tmp_path / "checkpoint-100" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"{}")
    report = verify(str(tmp_path / "checkpoint-100"))
    assert report.layout == "unknown"
    assert (Code.LAYOUT_UNKNOWN in {warning.code for warning in report.warnings}) is told


def test_a_folder_with_only_a_temporary_file_is_unfinished(tmp_path: Path) -> None:
    (tmp_path / hurt.TEMPORARY).write_bytes(b"first bytes")
    report = verify(str(tmp_path))
    assert (report.findings[0].code, report.verdict) == (Code.SAVE_UNFINISHED, Verdict.INCOMPLETE)


def test_an_empty_folder_under_the_name_of_a_checkpoint_is_a_save_that_never_began(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-100").mkdir()
    report = verify(str(tmp_path / "checkpoint-100"))
    assert report.verdict is Verdict.INCOMPLETE
    assert set(report.components.values()) == {Presence.MISSING}
    assert report.warnings == ()


@pytest.mark.parametrize("name", [pytest.param("empty", id="an empty folder"), pytest.param("gone", id="no folder")])
def test_where_nothing_lies_there_is_nothing_to_judge(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotACheckpoint, match=name):
        verify(str(tmp_path / name))


def test_a_file_is_not_a_folder_to_judge(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(NotACheckpoint):
        verify(str(tmp_path / "file"))


def test_a_disk_that_does_not_list_the_folder_is_not_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    monkeypatch.setattr("os.scandir", _fail)
    with pytest.raises(CannotTell, match=r"listing .*checkpoint-100: Input/output error"):
        verify(str(checkpoint))


def test_a_disk_that_does_not_give_a_file_s_bytes_makes_it_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_hf_checkpoint(tmp_path, 100)
    monkeypatch.setattr("os.pread", _fail)
    report = verify(str(tmp_path))
    assert {finding.code for finding in report.findings} == {Code.FILE_UNREADABLE}
    assert report.verdict is Verdict.UNREADABLE


def _fail(*_arguments: object) -> NoReturn:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def _outline(checkpoint: Path) -> Outline:
    return outline(str(checkpoint), take_inventory(str(checkpoint)))


def test_the_outline_of_a_save_says_what_is_still_to_come(tmp_path: Path) -> None:
    seen = []
    for name, content in hf_files(100):
        write_file(tmp_path, name, content)
        seen.append((name, _outline(tmp_path)))
    assert all(found.sound for _name, found in seen)
    assert [found.last_file for name, found in seen if found.layout == "hf_trainer"] == ["trainer_state.json"] * 5
    assert {name: (found.lacking, found.expected) for name, found in seen[-4:]} == {
        "optimizer.pt": (("trainer_state.json",), ("scheduler.pt", "rng_state.pth")),
        "scheduler.pt": (("trainer_state.json",), ("rng_state.pth",)),
        "rng_state.pth": (("trainer_state.json",), ()),
        "trainer_state.json": ((), ()),
    }


def test_the_outline_of_a_file_that_is_still_short_is_not_sound(tmp_path: Path) -> None:
    make_hf_checkpoint(tmp_path, 100)
    hurt.cut_in_half(tmp_path / "model.safetensors")
    assert not _outline(tmp_path).sound
