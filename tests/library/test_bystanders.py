"""What lies beside a checkpoint, or in it without being trained, does not make it a broken one."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch

from builders import make_hf_checkpoint, make_plain_checkpoint, plain_state, saved
from lastgood.facts import Level
from lastgood.findings import Code, Verdict
from lastgood.inventory import take_inventory
from lastgood.manifest import manifest_as_json, manifest_from_json
from lastgood.outline import outline
from lastgood.training import CheckpointManager
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STATE = "training_state.pt"


@pytest.mark.parametrize(
    "name", ["_SUCCESS", "DONE", ".complete", ".gitkeep", "code/__init__.py", "x.lock", "stderr.log", "README.md",
             "log.txt", "train_log.txt",
             "runs/events.out.tfevents.17.host"]
)  # fmt: skip
def test_a_mark_or_a_log_may_be_empty(tmp_path: Path, name: str) -> None:
    checkpoint = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    (checkpoint / name).parent.mkdir(exist_ok=True)
    (checkpoint / name).touch()
    assert verify(str(checkpoint)).verdict is Verdict.COMPLETE


@pytest.mark.parametrize("name", ["tokenizer.json", "merges.txt", "config.json", "extra.safetensors", "latest"])
def test_what_belongs_to_it_may_not(tmp_path: Path, name: str) -> None:
    checkpoint = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    (checkpoint / name).write_bytes(b"")
    assert Code.FILE_EMPTY in {finding.code for finding in verify(str(checkpoint)).findings}


@pytest.mark.parametrize("make", [make_hf_checkpoint, make_plain_checkpoint])
@pytest.mark.parametrize("name", [".metadata", "pytorch_model_fsdp_0/.metadata", "dist/step/.metadata"])
def test_what_a_distributed_save_writes_last_may_not_be_empty(
    make: Callable[..., Path], name: str, tmp_path: Path
) -> None:
    checkpoint = make(tmp_path / "checkpoint-100", 100)
    (checkpoint / name).parent.mkdir(exist_ok=True, parents=True)
    (checkpoint / name).touch()
    report = verify(str(checkpoint))
    assert report.verdict is Verdict.INCOMPLETE
    assert (Code.FILE_EMPTY, name) in [(finding.code, finding.file) for finding in report.findings]


@pytest.mark.parametrize(("name", "verdict"), [("q.min_val", Verdict.COMPLETE), ("q.weight", Verdict.UNHEALTHY)])
def test_an_observer_that_has_seen_nothing_is_infinite(tmp_path: Path, name: str, verdict: Verdict) -> None:
    checkpoint = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    weights = safetensors.torch.load_file(checkpoint / "model.safetensors")
    safetensors.torch.save_file({**weights, name: torch.tensor(float("inf"))}, checkpoint / "model.safetensors")
    assert verify(str(checkpoint)).verdict is verdict


def test_what_trainers_save_model_leaves_beside_another_state_changes_nothing(tmp_path: Path) -> None:
    checkpoint = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    (checkpoint / "training_args.bin").write_bytes(saved({"learning_rate": 1.0}))
    report = verify(str(checkpoint))
    assert (report.layout, report.verdict) == ("plain", Verdict.COMPLETE)


@pytest.mark.parametrize(
    "name", ["pytorch_model_fsdp_0/.metadata", "optimizer_0/__0_0.distcp", "global_step10/mp_rank_00_model_states.pt"]
)
def test_formats_of_sharded_training_are_not_called_a_save_that_never_finished(tmp_path: Path, name: str) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    (checkpoint / name).parent.mkdir()
    (checkpoint / name).write_bytes(saved({}))
    assert verify(str(checkpoint)).layout == "hf_trainer"
    (checkpoint / "optimizer.pt").unlink()
    assert verify(str(checkpoint)).layout == "unknown"


@pytest.mark.parametrize(
    ("change", "component"),
    [
        pytest.param(
            {"rng_states": dict.fromkeys(["python_rng_state", "numpy_rng_state", "torch_rng_state"])}, "rng", id="none"
        ),
        pytest.param({"rng_states": {"python_rng_state": 5, "torch_rng_state": torch.zeros(3)}}, "rng", id="no states"),
        pytest.param(
            {"rng_states": {"python_rng_state": plain_state(1)["rng_states"]["python_rng_state"]}},
            "rng",
            id="python's alone",
        ),
    ],
)
def test_states_of_no_use_are_not_there_for_anybody(tmp_path: Path, change: dict[str, Any], component: str) -> None:
    checkpoint = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    (checkpoint / STATE).write_bytes(saved(plain_state(100) | change))
    report = verify(str(checkpoint))
    assert (report.verdict, report.exact_resume) == (Verdict.PARTIAL, False)
    assert CheckpointManager.verify_checkpoint(checkpoint)[component] is False


def test_an_optimizer_of_another_step_ends_exactness(tmp_path: Path) -> None:
    checkpoint = make_plain_checkpoint(tmp_path / "checkpoint-1000", 1000)
    content = plain_state(1000)
    content["optimizer_state_dict"]["state"][0]["step"] = torch.tensor(100.0)
    (checkpoint / STATE).write_bytes(saved(content))
    report = verify(str(checkpoint))
    assert (report.verdict, report.exact_resume) == (Verdict.COMPLETE, False)


def test_more_than_a_hundred_steps_off_is_warned_of_however_long_it_trains(tmp_path: Path) -> None:
    for off, warned in ((90, False), (150, True)):
        checkpoint = make_plain_checkpoint(tmp_path / f"run-{off}" / "checkpoint-5000", 5000)
        content = plain_state(5000)
        content["optimizer_state_dict"]["state"][0]["step"] = torch.tensor(5000.0 - off)
        (checkpoint / STATE).write_bytes(saved(content))
        codes = {finding.code for finding in verify(str(checkpoint)).findings}
        assert (Code.STEP_DISAGREES in codes) is warned


# Files of other programs

RAW = bytes(range(256)) * 40  # as weights of OpenVINO: numbers, without a header
OF_OTHERS = [
    pytest.param("openvino_model.bin", RAW, id="raw weights"),
    pytest.param("onnx/openvino_model.bin", bytes(64) + RAW, id="raw weights that begin with zeros"),
    pytest.param("vocabulary.bin", pickle.dumps({"a": 1}), id="a plain pickle"),
    pytest.param("raw.bin", b"\x80\x04\xff" + RAW, id="what begins as a pickle, and is none"),
    pytest.param("notes.pt", b"to be done\n", id="a text"),
    pytest.param("losses.json", b'{"a": 1}\n{"a": 2}\n', id="JSON Lines"),
    pytest.param("growing.json", b'{"a": 1}\n{"a":', id="JSON Lines that grow"),
    pytest.param("ds_config.json", b'// of the job\n{"a": 1}\n', id="a comment before JSON"),
    pytest.param("settings.json", b'{"a": 1, # the first\n "b": 2,}\n', id="a comment within JSON"),
    pytest.param("page.json", b"not found", id="a text for JSON"),
    pytest.param("old.json", "{'Gr\u00f6\u00dfe': 1}".encode("latin-1"), id="another encoding"),
]


@pytest.mark.parametrize("make", [make_hf_checkpoint, make_plain_checkpoint])
@pytest.mark.parametrize(("name", "content"), OF_OTHERS)
def test_a_file_of_another_format_under_the_same_ending_is_only_warned_of(
    make: Callable[..., Path], name: str, content: bytes, tmp_path: Path
) -> None:
    checkpoint = make(tmp_path / "checkpoint-100", 100)
    (checkpoint / name).parent.mkdir(exist_ok=True)
    (checkpoint / name).write_bytes(content)
    report = verify(str(checkpoint))
    assert (report.verdict, report.exact_resume) == (Verdict.COMPLETE, True)
    assert [(f.code, f.file) for f in report.warnings] == [(Code.FILE_NOT_UNDERSTOOD, name)]
    assert outline(str(checkpoint), take_inventory(str(checkpoint))).sound


@pytest.mark.parametrize(
    ("name", "put"),
    [
        pytest.param("pipe", os.mkfifo, id="a pipe"),
        pytest.param("old.pt", lambda path: os.symlink("nowhere", path), id="a link to nothing"),
        pytest.param("logs", lambda path: os.symlink(path.parent.parent, path), id="a link to a folder"),
    ],
)
def test_what_is_no_file_and_nobody_expects_is_only_warned_of(
    name: str, put: Callable[[Path], None], tmp_path: Path
) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    put(checkpoint / name)
    report = verify(str(checkpoint))
    assert report.verdict is Verdict.COMPLETE
    assert (Code.FILE_NOT_UNDERSTOOD, name) in [(f.code, f.file) for f in report.warnings]


WHOLE = saved({"a": torch.ones(99)})


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        pytest.param("ema.pt", WHOLE[: len(WHOLE) // 2], Code.ZIP_SHORT, id="half a zip of torch's"),
        pytest.param("ema.pt", b"\0" + WHOLE[1:], Code.TORCH_FORMAT, id="a zip whose first byte is gone"),
        pytest.param("ema.bin", bytes(9999), Code.TORCH_FORMAT, id="zeros for a torch file"),
        pytest.param("words.bin", pickle.dumps(list(range(99)))[:-9], Code.TORCH_FORMAT, id="half a pickle"),
        pytest.param("run.bin", pickle.dumps(os.system), Code.UNSAFE_PICKLE, id="a pickle that runs a program"),
        pytest.param("more.json", b'{"a": [1, 2', Code.JSON_SHORT, id="half of a JSON file"),
        pytest.param("more.json", b'{"a": 1' + bytes(99), Code.JSON_INVALID, id="JSON, and zeros from there on"),
        pytest.param("more.json", bytes(99), Code.JSON_INVALID, id="zeros for JSON"),
        pytest.param("chat_template.json", b"{'a': 1}", Code.JSON_INVALID, id="a name that every loader knows"),
        pytest.param("optimizer.bin", b"to be done", Code.TORCH_FORMAT, id="a name that trainers use"),
        pytest.param("ema_state.pt", b"to be done", Code.TORCH_FORMAT, id="what is called a state"),
    ],
)
def test_what_surely_is_damaged_is_told_whoever_wrote_it(name: str, content: bytes, code: Code, tmp_path: Path) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    (checkpoint / name).write_bytes(content)
    report = verify(str(checkpoint))
    assert report.verdict in (Verdict.CORRUPT, Verdict.INCOMPLETE)
    assert (code, name) in [(finding.code, finding.file) for finding in report.findings]


def test_what_an_index_names_is_the_checkpoint_s_own(tmp_path: Path) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100, shards=2)
    index = checkpoint / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-00002-of-00002.safetensors", "rest.bin"))
    (checkpoint / "model-00002-of-00002.safetensors").unlink()
    (checkpoint / "rest.bin").write_bytes(RAW)
    assert (Code.TORCH_FORMAT, "rest.bin") in [(f.code, f.file) for f in verify(str(checkpoint)).findings]


def test_what_was_sound_in_the_checkpoint_before_is_damaged_now(tmp_path: Path) -> None:
    before, checkpoint = (make_hf_checkpoint(tmp_path / f"checkpoint-{step}", step) for step in (100, 200))
    (before / "ema.pt").write_bytes(WHOLE)
    (before / "openvino_model.bin").write_bytes(RAW)
    for name in ("ema.pt", "openvino_model.bin"):
        (checkpoint / name).write_bytes(RAW[1:])
    manifest = verify(str(before)).manifest
    assert manifest is not None
    assert manifest.strangers == {"openvino_model.bin"}
    report = verify(str(checkpoint), previous=manifest_from_json(manifest_as_json(manifest)))
    found = {finding.file: finding.code for finding in report.findings}
    assert (report.verdict, found["ema.pt"]) == (Verdict.CORRUPT, Code.TORCH_FORMAT)
    assert found["openvino_model.bin"] is Code.FILE_NOT_UNDERSTOOD
    assert verify(str(before), Level.FULL, manifest=manifest).verdict is Verdict.COMPLETE


def test_where_no_layout_fits_any_file_may_be_the_checkpoint_s_own(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-100").mkdir()
    (tmp_path / "checkpoint-100/layer_1.pt").write_bytes(RAW)
    assert verify(str(tmp_path / "checkpoint-100")).verdict is Verdict.CORRUPT


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", STATE, "optimizer.pt", "optimizer_state.pt",
             "model-00001-of-00002.safetensors", "adapter/adapter_model.safetensors"]
)  # fmt: skip
@pytest.mark.parametrize("make", [make_hf_checkpoint, make_plain_checkpoint])
def test_what_macos_keeps_beside_each_file_is_none_of_the_checkpoint_s(
    make: Callable[..., Path], name: str, tmp_path: Path
) -> None:
    checkpoint = make(tmp_path / "checkpoint-100", 100)
    beside = (checkpoint / name).with_name(f"._{(checkpoint / name).name}")
    beside.parent.mkdir(exist_ok=True)
    beside.write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X")
    report = verify(str(checkpoint))
    assert (report.verdict, report.warnings) == (Verdict.COMPLETE, ())
