"""One walk of a folder, as facts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import injuries as hurt
from builders import make_hf_checkpoint
from lastgood.errors import NotACheckpoint
from lastgood.inventory import take_inventory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lastgood.facts import Inventory


def look(folder: Path, *, inodes: bool = True) -> Inventory:
    return take_inventory(str(folder), inodes=inodes)


def test_every_file_is_listed_with_its_path_below_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "global_step5" / "deep").mkdir(parents=True)
    (tmp_path / "global_step5" / "deep" / "states.pt").write_bytes(b"12345")
    (tmp_path / "config.json").write_bytes(b"{}")
    assert [(entry.path, entry.size, entry.kind) for entry in look(tmp_path).entries] == [
        ("config.json", 2, "file"),
        ("global_step5/deep/states.pt", 5, "file"),
    ]


def test_our_own_files_are_left_out(tmp_path: Path) -> None:
    make_hf_checkpoint(tmp_path, 100)
    before = look(tmp_path)
    (tmp_path / ".lastgood.json").write_text("{}")
    (tmp_path / ".lastgood").mkdir()
    (tmp_path / ".lastgood" / "latest.json").write_text("{}")
    assert look(tmp_path) == before


def write_again(file: Path) -> None:
    file.write_bytes(file.read_bytes())
    os.utime(file, ns=(1, 1))


def replace_by_equal_file(file: Path) -> None:
    status = file.stat()
    twin = file.with_name("twin")
    twin.write_bytes(file.read_bytes())
    os.utime(twin, ns=(status.st_atime_ns, status.st_mtime_ns))
    twin.rename(file)


def add_another(file: Path) -> None:
    file.with_name("scaler.pt").write_bytes(b"new")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(write_again, id="written again with the same bytes"),
        pytest.param(replace_by_equal_file, id="another file of the same size and time in its place"),
        pytest.param(hurt.add_bytes, id="longer"),
        pytest.param(hurt.remove, id="removed"),
        pytest.param(add_another, id="one more"),
    ],
)
def test_writing_changes_fingerprint_and_content(change: Callable[[Path], None], tmp_path: Path) -> None:
    before = look(make_hf_checkpoint(tmp_path, 100))
    change(tmp_path / "optimizer.pt")
    after = look(tmp_path)
    assert after.fingerprint != before.fingerprint
    assert after.content != before.content


def make_hard_link(file: Path) -> None:
    file.parent.with_name("linked").hardlink_to(file)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda file: file.chmod(0o600), id="chmod"),
        pytest.param(make_hard_link, id="a hard link elsewhere"),
    ],
)
def test_a_change_of_metadata_leaves_the_content_as_it_was(change: Callable[[Path], None], tmp_path: Path) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    before = look(checkpoint)
    change(checkpoint / "optimizer.pt")
    while look(checkpoint).fingerprint == before.fingerprint:  # until the filesystem's clock has ticked
        (checkpoint / "optimizer.pt").chmod(0o600)
    assert look(checkpoint).content == before.content


def test_a_look_changes_nothing_that_the_next_look_sees(tmp_path: Path) -> None:
    make_hf_checkpoint(tmp_path, 100)
    assert look(tmp_path).fingerprint == look(tmp_path).fingerprint


def test_a_temporary_file_that_comes_or_grows_changes_the_fingerprint(tmp_path: Path) -> None:
    make_hf_checkpoint(tmp_path, 100)
    prints = [look(tmp_path).fingerprint]
    hurt.add_newer_temporary(tmp_path)
    prints.append(look(tmp_path).fingerprint)
    hurt.add_bytes(tmp_path / hurt.TEMPORARY)
    prints.append(look(tmp_path).fingerprint)
    assert len(set(prints)) == 3


def test_inodes_are_left_out_where_they_mean_nothing(tmp_path: Path) -> None:
    make_hf_checkpoint(tmp_path, 100)
    assert {entry.inode for entry in look(tmp_path, inodes=False).entries} == {0}
    assert 0 not in {entry.inode for entry in look(tmp_path).entries}


@pytest.mark.parametrize(
    ("injure", "unfinished", "leftovers"),
    [
        pytest.param(lambda _: None, (), (), id="a finished save"),
        pytest.param(hurt.add_newer_temporary, (hurt.TEMPORARY,), (), id="a temporary file, newer than the rest"),
        pytest.param(hurt.add_older_temporary, (), (hurt.TEMPORARY,), id="a temporary file, older than the rest"),
        pytest.param(hurt.add_mark_of_progress, ("checkpoint-is-incomplete.txt",), (), id="a mark of progress"),
    ],
)
def test_a_trace_of_a_writer_is_unfinished_unless_it_is_old(
    injure: Callable[[Path], None], unfinished: tuple[str, ...], leftovers: tuple[str, ...], tmp_path: Path
) -> None:
    injure(make_hf_checkpoint(tmp_path, 100))
    assert (look(tmp_path).unfinished, look(tmp_path).leftovers) == (unfinished, leftovers)


@pytest.mark.parametrize(
    ("injure", "kind", "leaves"),
    [
        pytest.param(hurt.put_link_within_in_place, "link", False, id="a link that stays inside"),
        pytest.param(hurt.put_link_out_in_place, "link", True, id="a link that leaves"),
        pytest.param(hurt.put_folder_link_in_place, "folder-link", True, id="a link to a folder"),
        pytest.param(hurt.put_link_to_nothing_in_place, "other", False, id="a link to nothing"),
        pytest.param(hurt.put_link_to_itself_in_place, "other", False, id="a link to itself"),
        pytest.param(hurt.put_link_below_a_file_in_place, "other", False, id="a link to what would lie below a file"),
        pytest.param(hurt.put_pipe_in_place, "other", False, id="a pipe"),
    ],
)
def test_what_is_not_simply_a_file_is_told_apart(
    injure: Callable[[Path], None], kind: str, leaves: bool, tmp_path: Path
) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    injure(checkpoint / "optimizer.pt")
    (entry,) = (entry for entry in look(checkpoint).entries if entry.path == "optimizer.pt")
    assert (entry.kind, entry.leaves) == (kind, leaves)


def test_a_folder_beside_whose_name_begins_alike_is_outside(tmp_path: Path) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-1", 1)
    other = make_hf_checkpoint(tmp_path / "checkpoint-10", 10)
    (checkpoint / "optimizer.pt").unlink()
    (checkpoint / "optimizer.pt").symlink_to(other / "optimizer.pt")
    assert [entry.path for entry in look(checkpoint).entries if entry.leaves] == ["optimizer.pt"]


def test_a_link_reaches_as_far_as_its_target(tmp_path: Path) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    size = (checkpoint / "optimizer.pt").stat().st_size
    hurt.put_link_out_in_place(checkpoint / "optimizer.pt")
    assert {entry.path: entry.size for entry in look(checkpoint).entries}["optimizer.pt"] == size


def test_a_hole_is_seen(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(1 << 20)
    assert [entry.sparse for entry in look(tmp_path).entries] == [True]


def test_a_name_that_is_not_text_is_listed_all_the_same(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.bin", "wb") as file:
        file.write(b"x")
    assert [os.fsencode(entry.path) for entry in look(tmp_path).entries] == [b"\xff.bin"]
    assert len(look(tmp_path).fingerprint) == 32


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        pytest.param("gone", "no such folder", id="nothing there"),
        pytest.param("file", "is a file, and a checkpoint is a folder", id="a file"),
    ],
)
def test_what_is_no_folder_is_refused(name: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(NotACheckpoint, match=complaint):
        look(tmp_path / name)
