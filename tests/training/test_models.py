"""The model's files: whatever wraps it, whatever it shares, under Hugging Face's names."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lastgood.findings import Severity, Verdict
from lastgood.formats.scan import Source, scan_file
from lastgood.training import CheckpointManager
from lastgood.training.weights import fitted, read_weights, unwrapped, weights_of
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Config:
    width: int = 4
    vocab_size: int = 8


class Tied(nn.Module):  # type: ignore[misc]
    """A model with a configuration, two names for one tensor, and a buffer that lies within another."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Config()
        self.embed = nn.Embedding(8, 4)
        self.head = nn.Linear(4, 8, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("table", torch.arange(12.0).view(3, 4))
        self.register_buffer("row", self.table[1])
        self.register_buffer("turned", torch.arange(6.0).view(2, 3).T)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.embed(words))
        return found


class Words:
    """A tokenizer, as far as saving goes."""

    def save_pretrained(self, folder: str) -> None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                json.dump({"model": {"vocab": {"a": 0}}}, file)


def stepped(model: nn.Module) -> Any:
    """An optimizer of the model that has made one step."""
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.arange(8)).square().sum().backward()
    optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("safetensors", "file"),
    [
        pytest.param(True, "model.safetensors", id="as safetensors"),
        pytest.param(False, "pytorch_model.bin", id="as a torch file"),
    ],
)
def test_a_model_with_shared_tensors_comes_back(manager: CheckpointManager, safetensors: bool, file: str) -> None:
    model = Tied()
    manager = CheckpointManager(manager.folder, settings=manager._settings, save_safetensors=safetensors)
    path = manager.save(1, model=model, optimizer=stepped(model), tokenizer=Words())
    report = verify(path)
    assert (report.verdict, report.exact_resume) == (Verdict.COMPLETE, True)
    assert [finding for finding in report.findings if finding.severity is not Severity.INFO] == []
    assert sorted(os.listdir(path)) == sorted(
        [".lastgood.json", "config.json", file, "tokenizer.json", "tokenizer_config.json", "training_state.pt"]
    )
    other = Tied()
    manager.restore_latest(other)
    assert same(other, model)
    assert other.head.weight is other.embed.weight


def test_the_list_names_every_file_with_its_size_and_digest(manager: CheckpointManager) -> None:
    path = manager.save(5, model=Tied(), tokenizer=Words())
    with open(os.path.join(path, ".lastgood.json"), encoding="utf-8") as file:
        listed = json.load(file)
    assert (listed["lastgood_checkpoint"], listed["step"]) == (1, 5)
    assert {entry["path"] for entry in listed["files"]} == set(os.listdir(path)) - {".lastgood.json"}
    for entry in listed["files"]:
        location = os.path.join(path, entry["path"])
        assert entry["bytes"] == os.path.getsize(location)
        assert entry["digest"] == scan_file(Source(location, "", entry["bytes"]), (), {}).digest


@pytest.fixture
def gloo() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")  # the others take seconds to import


def wrapped(model: nn.Module, how: str) -> Any:
    wrappers = {"compiled": compiled, "parallel": DistributedDataParallel, "old": nn.DataParallel}
    for word in filter(None, how.split(" ")):
        model = wrappers[word](model)
    return model


@pytest.mark.usefixtures("gloo")
@pytest.mark.parametrize(
    ("saving", "loading"),
    [("compiled", ""), ("parallel", ""), ("old", "compiled"), ("", "parallel compiled"), ("compiled parallel", "old")],
)
def test_wrappers_leave_no_trace(manager: CheckpointManager, saving: str, loading: str) -> None:
    model, other = Tied(), Tied()
    manager.save(1, model=wrapped(model, saving), optimizer=stepped(model))
    manager.restore_latest(wrapped(other, loading))
    assert same(other, model)
    assert unwrapped(wrapped(model, saving)) is model


def test_a_part_that_is_compiled_on_its_own_leaves_no_trace() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    names = set(model.state_dict())
    model[0] = compiled(model[0])
    assert set(weights_of(model)) == names


_WRAPPED = st.lists(st.sampled_from(["module.", "_orig_mod."]), max_size=4).map("".join)


@given(
    names=st.sets(st.sampled_from(["weight", "a.weight", "b.weight", "module.a.weight", "module.module.b.weight"])),
    saving=_WRAPPED,
    loading=_WRAPPED,
)
def test_names_are_matched_whatever_wrapped_either_side(names: set[str], saving: str, loading: str) -> None:
    found = fitted([saving + name for name in names], [loading + name for name in names])
    assert found == {loading + name: saving + name for name in names}


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == its and torch.equal(value, theirs) for (name, value), (its, theirs) in pairs)


@pytest.mark.prove
def test_a_model_of_hugging_face_is_read_back_by_hugging_face(tmp_path: Path) -> None:
    transformers: Any = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    model = transformers.LlamaForCausalLM(config)
    CheckpointManager.save_checkpoint(checkpoint_dir=tmp_path / "checkpoint-1", model=model, global_step=1)
    assert {"config.json", "generation_config.json"} <= set(os.listdir(tmp_path / "checkpoint-1"))
    assert same(transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-1"), model)


@pytest.mark.parametrize("safetensors", [True, False])
def test_views_that_are_conjugate_or_negative_come_back_with_their_numbers(
    tmp_path: Path, *, safetensors: bool
) -> None:
    model = nn.Linear(2, 2)
    model.config = {"width": 2}
    model.register_buffer("conjugate", torch.tensor([1 + 2j, 3 - 4j]).conj())
    model.register_buffer("negative", torch.tensor([1 + 2j, 3 - 4j]).conj().imag)
    CheckpointManager.save_checkpoint(tmp_path / "checkpoint-1", model, global_step=1, save_safetensors=safetensors)
    saved = read_weights(str(tmp_path / "checkpoint-1"), torch.load)
    assert saved["conjugate"].tolist() == [1 - 2j, 3 + 4j]
    assert saved["negative"].tolist() == [-2.0, 4.0]


@pytest.mark.filterwarnings("ignore:torch.quantize:UserWarning", "ignore:TypedStorage is:UserWarning")
@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("async_save", [True, False])
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(torch.Tensor.to_sparse, id="sparse"),
        pytest.param(lambda value: torch.quantize_per_tensor(value, 0.125, 0, torch.qint8), id="quantised"),
        pytest.param(lambda value: value.to(torch.complex128), id="complex, of twice the precision"),
        pytest.param(lambda value: value.to(torch.complex64).to_sparse(), id="complex and sparse"),
        pytest.param(lambda value: value.to(torch.float8_e4m3fn), id="of eight bits"),
    ],
)
def test_weights_of_every_kind_come_back(
    tmp_path: Path, kind: Callable[[Any], Any], *, configured: bool, async_save: bool
) -> None:
    manager = CheckpointManager(tmp_path / "output", async_save=async_save)

    def model(value: Any) -> Any:
        made = nn.Linear(2, 2)
        made.register_buffer("kind", kind(value))
        if configured:
            made.config = Config()
        return made

    path = manager.save(1, model=model(torch.eye(3)))
    manager.wait()
    other = model(torch.zeros(3, 3))
    CheckpointManager.load_checkpoint(path, other)
    found = other.kind.dequantize() if other.kind.is_quantized else other.kind
    assert torch.equal(found.to_dense().real.float(), torch.eye(3))


def test_what_a_module_keeps_beside_its_weights_is_named_where_it_could_not_be_loaded(
    manager: CheckpointManager,
) -> None:
    class Dated(nn.Linear):  # type: ignore[misc]
        def get_extra_state(self) -> Any:
            return datetime(2026, 1, 1, tzinfo=UTC)

    model = Dated(2, 2)
    model.config = Config()
    with pytest.raises(TypeError, match="_extra_state is not saved: a datetime"):
        manager.save(1, model=model)
    assert os.listdir(manager.folder) == []


def test_a_configuration_of_more_than_json_is_saved_in_words(manager: CheckpointManager) -> None:
    model = nn.Linear(2, 2)
    model.config = {"dtype": torch.bfloat16, "data": Path("/data"), "width": 2}
    path = manager.save(1, model=model)
    saved = json.loads(Path(path, "config.json").read_text(encoding="utf-8"))
    assert saved == {"architectures": ["Linear"], "dtype": "bfloat16", "data": "/data", "width": 2}
