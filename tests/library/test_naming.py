"""What names say."""

from __future__ import annotations

import pytest

from lastgood import naming


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("checkpoint-1200", 1200),
        ("checkpoint_1200", 1200),
        ("step-7", 7),
        ("step7", 7),
        ("global_step500", 500),
        ("iter_0000100", 100),
        ("checkpoint-0", 0),
        pytest.param("checkpoint-999999999999999999", 10**18 - 1, id="the largest number that is taken for a step"),
        pytest.param("checkpoint-1000000000000000000", None, id="a number beyond what a database can hold"),
        pytest.param("checkpoint-5000.backup", None, id="a copy"),
        pytest.param("my-checkpoint-5", None, id="more before it"),
        pytest.param("checkpoint-5\n", None, id="a line end after it"),
        pytest.param("checkpoint-", None, id="no number"),
        pytest.param("checkpoint--5", None, id="a number below zero"),
        pytest.param("tmp-checkpoint-5", None, id="a temporary name"),
        pytest.param("best_model", None, id="another kind of name"),
        pytest.param("Checkpoint-5", None, id="a capital letter"),
    ],
)
def test_a_number_in_a_name_is_taken_only_from_the_whole_name(name: str, step: int | None) -> None:
    assert naming.step_in_name(name) == step


@pytest.mark.parametrize(
    ("name", "temporary"),
    [
        pytest.param(".tmpA1b2C3", True, id="safetensors"),
        pytest.param("tmp-checkpoint-500", True, id="transformers 4.37"),
        pytest.param("model.safetensors.tmp", True, id="the usual ending"),
        pytest.param("model.partial", True, id="a download"),
        pytest.param("checkpoint-5-tmp", True, id="an ending without a dot"),
        pytest.param(".model.safetensors.a1B2c3", True, id="rsync"),
        pytest.param("5.orbax-checkpoint-tmp-17", True, id="Orbax"),
        pytest.param(".nfs000000000123abcd", True, id="NFS, removed but open"),
        pytest.param("model.safetensors", False, id="a finished file"),
        pytest.param("checkpoint-500", False, id="a finished folder"),
        pytest.param("tmp.json", False, id="a file that is merely called so"),
        pytest.param("model.config.a1B2c3", False, id="no dot before it, so not rsync's"),
        pytest.param(".gitattributes", False, id="a hidden file"),
        pytest.param("template", False, id="letters that happen to be there"),
    ],
)
def test_the_temporary_names_of_the_known_writers_are_known(name: str, temporary: bool) -> None:
    assert naming.is_temporary(name) is temporary


@pytest.mark.parametrize(
    ("name", "marks"),
    [("checkpoint-is-incomplete.txt", True), ("checkpoint-5-unfinished", True), ("unfinished-business.json", False)],
)
def test_a_mark_of_progress_is_known_by_its_name(name: str, marks: bool) -> None:
    assert naming.marks_progress(name) is marks


@pytest.mark.parametrize(
    ("name", "ours"),
    [(".lastgood", True), (".lastgood-root", True), (".lastgood.json", True), ("lastgood.toml", False)],
)
def test_our_own_files_are_known_by_their_name(name: str, ours: bool) -> None:
    assert naming.is_ours(name) is ours


@pytest.mark.parametrize(
    ("relative", "several_roots", "name"),
    [
        pytest.param("model/a", False, "model/a", id="one root: the path below it"),
        pytest.param(".", False, ".", id="one root: the root itself"),
        pytest.param("model/a", True, "out/model/a", id="several roots: the root's name before it"),
        pytest.param(".", True, "out", id="several roots: the root's name alone"),
    ],
)
def test_a_run_is_called_by_its_path(relative: str, several_roots: bool, name: str) -> None:
    assert naming.run_name("out", relative, several_roots=several_roots) == name
