"""The deepest look: the real loaders, in a process that may die of it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from builders import hf_files, make_hf_checkpoint, make_plain_checkpoint, write_files
from lastgood import deep
from lastgood.deep_load import refusal
from lastgood.errors import CannotTell
from lastgood.facts import FileFacts, Level
from lastgood.findings import Code, Finding, Verdict
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def test_the_loaders_take_what_the_trainers_wrote(tmp_path: Path) -> None:
    trainer = verify(str(make_hf_checkpoint(tmp_path / "checkpoint-100", 100, shards=2)), Level.DEEP)
    plain = verify(str(make_plain_checkpoint(tmp_path / "checkpoint-200", 200)), Level.DEEP)
    assert (trainer.verdict, plain.verdict) == (Verdict.COMPLETE, Verdict.COMPLETE)
    assert {finding.code for finding in (*trainer.findings, *plain.findings)} <= {Code.WEIGHTS_ONLY_REFUSES}


def test_a_global_that_weights_only_refuses_is_a_remark_that_names_it(tmp_path: Path) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    files = [FileFacts(name, 1, "torch", {}) for name in ("rng_state.pth", "training_args.bin", "optimizer.pt")]
    found = deep.load_findings(str(checkpoint), files)
    assert [(finding.code, finding.file) for finding in found] == [
        (Code.WEIGHTS_ONLY_REFUSES, "rng_state.pth"),
        (Code.WEIGHTS_ONLY_REFUSES, "training_args.bin"),
    ]
    assert "numpy._core.multiarray._reconstruct" in found[0].message
    assert "types.SimpleNamespace" in found[1].message


def test_the_older_format_is_loaded_too(tmp_path: Path) -> None:
    import torch

    torch.save({"a": torch.ones(3)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert deep.load_findings(str(tmp_path), [FileFacts("old.pt", 1, "torch", {})]) == ()


def test_a_sound_file_that_its_loader_refuses_is_an_error(tmp_path: Path) -> None:
    checkpoint = write_files(tmp_path / "checkpoint-100", [(name, content[:-30]) for name, content in hf_files(100)])
    files = [FileFacts("model.safetensors", 1, "safetensors", {}), FileFacts("optimizer.pt", 1, "torch", {})]
    found = deep.load_findings(str(checkpoint), files)
    assert [finding.code for finding in found] == [Code.LOADER_REFUSES, Code.LOADER_REFUSES]
    assert "SafetensorError" in found[0].message


def test_what_is_known_to_be_damaged_is_not_loaded(tmp_path: Path) -> None:
    damaged = FileFacts("model.safetensors", 1, "safetensors", {}, (Finding(Code.SAFETENSORS_HEADER, None, ""),))
    other = FileFacts("notes.txt", 1, "other")
    program = FileFacts("exported.pt", 1, "torch", None)
    asked: list[Any] = []

    def run(jobs: Sequence[deep.Job], _seconds: float) -> list[deep.Answer]:
        asked.extend(jobs)
        return []

    assert deep.load_findings(str(tmp_path), [damaged, other, program], run) == ()
    assert asked == []


@pytest.mark.parametrize(
    ("deaths", "findings"),
    [
        pytest.param({}, [], id="nobody dies"),
        pytest.param({"b": 1}, [], id="one died once"),
        pytest.param({"b": 2}, [("b", Code.CHECKER_DIED)], id="one died twice, and the rest is loaded"),
        pytest.param({"a": 2, "c": 9}, [("a", Code.CHECKER_DIED), ("c", Code.CHECKER_DIED)], id="two die"),
    ],
)
def test_a_file_that_kills_the_loader_is_a_finding_and_no_crash(
    deaths: dict[str, int], findings: list[tuple[str, Code]]
) -> None:
    left = dict(deaths)

    def run(jobs: Sequence[deep.Job], _seconds: float) -> list[deep.Answer]:
        answers: list[deep.Answer] = []
        for job in jobs:
            name = os.path.basename(job["path"])
            if left.get(name, 0):
                left[name] -= 1
                return answers
            answers.append({})
        return answers

    found = deep.load_findings("/nowhere", [FileFacts(name, 1, "safetensors", {}) for name in "abc"], run)
    assert [(finding.file, finding.code) for finding in found] == findings


def test_a_loader_that_hangs_is_ended(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")  # opening it waits for a writer
    job = {"path": str(tmp_path / "model.safetensors"), "format": "safetensors", "mapped": False}
    assert deep.run_child([job], 0.5) == []


def test_what_lies_in_the_working_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "safetensors.py").write_text("open('imported', 'w').close()")
    monkeypatch.chdir(tmp_path)
    deep.run_child([{"path": "nowhere", "format": "safetensors", "mapped": False}], 60)
    assert not (tmp_path / "imported").exists()


def test_without_torch_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(CannotTell, match=r"torch is not installed: pip install 'lastgood\[torch\]'"):
        verify(str(checkpoint), Level.DEEP)


def test_the_judges_own_process_never_loads_torch(tmp_path: Path) -> None:
    import subprocess

    make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    program = (
        "import sys; from lastgood.facts import Level; from lastgood.verify import verify\n"
        "print(verify(sys.argv[1], Level.DEEP).verdict, 'torch' in sys.modules)"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path / "checkpoint-100")]
    child = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert child.stdout.split() == ["complete", "False"]


def test_what_was_said_of_a_file_is_not_said_twice() -> None:
    check = Finding(Code.WEIGHTS_ONLY_REFUSES, "rng_state.pth", "as the check says it")
    loader = Finding(Code.WEIGHTS_ONLY_REFUSES, "rng_state.pth", "as the loader says it")
    other = Finding(Code.LOADER_REFUSES, "rng_state.pth", "no")
    assert deep.merged([check], [loader, other]) == (check, other)


@pytest.mark.parametrize(
    ("error", "key", "word"),
    [
        pytest.param(
            lambda: __import__("pickle").UnpicklingError("Weights only load failed.\n\tGLOBAL a.b was not allowed"),
            "only_with_trust",
            "it names a.b",
            id="a global",
        ),
        pytest.param(
            lambda: __import__("pickle").UnpicklingError("x:\n\nUnsupported operand 149\n\nread on"),
            "only_with_trust",
            "Unsupported operand 149",
            id="a later pickle protocol",
        ),
        pytest.param(
            lambda: RuntimeError("Cannot use ``weights_only=True`` with TorchScript archives"),
            "only_with_trust",
            "TorchScript",
            id="a program",
        ),
        pytest.param(
            lambda: RuntimeError("failed finding\ncentral directory"),
            "refused",
            "RuntimeError: failed finding central directory",
            id="damage",
        ),
        pytest.param(EOFError, "refused", "EOFError", id="an end too early"),
        pytest.param(lambda: OSError(5, "Input/output error"), "unreadable", "output error", id="a disk that fails"),
        pytest.param(MemoryError, "unreadable", "MemoryError", id="too little memory"),
    ],
)
def test_what_a_refusal_means(error: Callable[[], Exception], key: str, word: str) -> None:
    (found,) = refusal(error()).items()
    assert found[0] == key
    assert word in found[1]
