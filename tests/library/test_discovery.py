"""Where checkpoints are looked for: by names alone, four levels deep, never inside one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lastgood.discovery import discover

if TYPE_CHECKING:
    from pathlib import Path


def runs_of(root: Path) -> dict[str, str]:
    return {found.relative_path: found.run for found in discover(str(root)).candidates}


@pytest.mark.parametrize(
    ("path", "run"),
    [
        pytest.param("checkpoint-100", ".", id="in the root itself"),
        pytest.param("llama/checkpoint-100", "llama", id="in a run"),
        pytest.param("a/b/c/d/step-7", "a/b/c/d", id="four levels deep"),
        pytest.param("a/b/c/d/e/step-7", None, id="deeper than that"),
        pytest.param("llama/checkpoint-100/checkpoint-5", None, id="inside a checkpoint"),
        pytest.param(".hidden/checkpoint-100", None, id="in a hidden folder"),
        pytest.param("llama/checkpoint-100.backup", None, id="a copy by its name, where there is no run"),
        pytest.param("llama/tmp-checkpoint-100", None, id="a temporary name"),
        pytest.param("run.tmp/checkpoint-100", None, id="in a temporary folder"),
    ],
)
def test_where_checkpoints_are_found(path: str, run: str | None, tmp_path: Path) -> None:
    (tmp_path / path).mkdir(parents=True)
    assert runs_of(tmp_path).get(path) == run


def test_a_file_of_such_a_name_is_none(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-100").touch()
    assert runs_of(tmp_path) == {}


def test_what_is_known_of_a_candidate(tmp_path: Path) -> None:
    folder = tmp_path / "llama/checkpoint-00100"
    folder.mkdir(parents=True)
    (found,) = discover(str(tmp_path)).candidates
    status = folder.stat()
    assert (found.name, found.number, found.copy) == ("checkpoint-00100", 100, False)
    assert (found.inode, found.mtime_ns) == (status.st_ino, status.st_mtime_ns)


def test_a_link_to_a_checkpoint_is_a_copy_and_a_link_to_a_run_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "llama/checkpoint-100").mkdir(parents=True)
    (tmp_path / "llama/checkpoint-200").symlink_to("checkpoint-100")
    (tmp_path / "llama/checkpoint-300").symlink_to("nowhere")
    (tmp_path / "again").symlink_to("llama")
    found = {candidate.relative_path: candidate.copy for candidate in discover(str(tmp_path)).candidates}
    assert found == {"llama/checkpoint-100": False, "llama/checkpoint-200": True}


@pytest.mark.parametrize(
    ("copy", "number"),
    [
        ("checkpoint-100.backup", 100),
        ("checkpoint-100-old", 100),
        ("best_model", 0),
        ("last_checkpoint", 0),
        ("model_best", 0),
        ("final", 0),
        ("logs", None),
        ("bestiary", None),
        ("empty_best", None),
        ("best_run", None),
    ],
)
def test_what_bears_the_name_of_a_copy_in_a_run_and_holds_a_checkpoint_is_one(
    copy: str, number: int | None, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint-100").mkdir()
    (tmp_path / copy).mkdir()
    if copy == "best_run":
        (tmp_path / copy / "checkpoint-5").mkdir()
    if copy != "empty_best":
        (tmp_path / copy / "model.safetensors").touch()
    found = {candidate.name: candidate.number for candidate in discover(str(tmp_path)).candidates if candidate.copy}
    assert found == ({} if number is None else {copy: number})


def test_folders_under_temporary_names_are_known_by_their_inodes(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-100.tmp").mkdir()
    assert discover(str(tmp_path)).temporary == {(tmp_path / "checkpoint-100.tmp").stat().st_ino}


def test_what_cannot_be_listed_is_told_and_the_rest_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in ("closed", "open"):
        (tmp_path / run / "checkpoint-100").mkdir(parents=True)

    def scandir(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    real = os.scandir
    monkeypatch.setattr("os.scandir", scandir)
    found = discover(str(tmp_path))
    assert list(found.unlisted) == ["closed"]
    assert [candidate.run for candidate in found.candidates] == ["open"]


def test_a_root_that_is_not_there_is_not_an_empty_one(tmp_path: Path) -> None:
    found = discover(str(tmp_path / "gone"))
    assert (list(found.unlisted), found.candidates) == (["."], [])


def test_names_that_are_no_text_are_passed_over(tmp_path: Path) -> None:
    for name in (b"mod\xe8le", b"model"):
        os.makedirs(os.fsencode(tmp_path) + b"/" + name + b"/checkpoint-100")
    assert runs_of(tmp_path) == {"model/checkpoint-100": "model"}
