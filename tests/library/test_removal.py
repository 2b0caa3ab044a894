"""Into the trash, back, and away for good: each a rename that replaces nothing."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builders import make_hf_checkpoint
from lastgood import durable, removal
from lastgood.errors import Obstructed
from lastgood.inventory import take_inventory
from lastgood.removal import Found
from recording import record

if TYPE_CHECKING:
    from lastgood.records import Record

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def discarded(tmp_path: Path) -> Record:
    """The record of a checkpoint that is to go, and lies in its place."""
    make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    made = record(
        100,
        7,
        root=str(tmp_path),
        relative_path="checkpoint-100",
        fingerprint=take_inventory(str(tmp_path / "checkpoint-100")).fingerprint,
    )
    return replace(made, trash=removal.trash_name(made))


def names(folder: str) -> set[str]:
    return set(os.listdir(folder))


def test_there_and_back_it_is_the_same(discarded: Record) -> None:
    before = names(discarded.path)
    removal.discard(discarded)
    assert removal.found(discarded) is Found.IN_TRASH
    assert names(removal.trash_path(discarded)) == before
    removal.take_back(discarded)
    assert removal.found(discarded) is Found.IN_PLACE
    assert take_inventory(discarded.path).fingerprint == discarded.fingerprint


def test_nothing_in_the_trash_is_called_like_a_checkpoint(discarded: Record) -> None:
    removal.discard(discarded)
    trash = Path(removal.trash_path(discarded))
    assert trash.parent == Path(discarded.root, ".lastgood/trash")
    assert trash.name == f"checkpoint-100.8-{discarded.fingerprint[:8]}"


def test_what_was_written_to_since_stays(discarded: Record) -> None:
    Path(discarded.path, "more.bin").touch()
    with pytest.raises(Obstructed, match="is not what was read any more"):
        removal.discard(discarded)
    assert removal.found(discarded) is Found.OTHER


def test_what_is_written_to_in_the_moment_of_the_rename_goes_straight_back(
    discarded: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = durable.rename_to_free_name

    def write_and_rename(source: str, target: str) -> None:
        Path(source, "more.bin").touch()
        monkeypatch.setattr(durable, "rename_to_free_name", rename)
        rename(source, target)

    monkeypatch.setattr(durable, "rename_to_free_name", write_and_rename)
    with pytest.raises(Obstructed, match="was written to just now"):
        removal.discard(discarded)
    assert "more.bin" in names(discarded.path)
    assert names(os.path.dirname(removal.trash_path(discarded))) == set()


def test_a_link_in_its_place_is_not_taken_for_it(discarded: Record) -> None:
    elsewhere = discarded.path + ".real"
    os.rename(discarded.path, elsewhere)
    os.symlink(elsewhere, discarded.path)
    with pytest.raises(Obstructed):
        removal.discard(discarded)
    assert os.path.isdir(elsewhere)


def test_a_trash_on_another_filesystem_is_refused_and_nothing_is_copied(
    discarded: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    def across(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source, None, target)

    monkeypatch.setattr(durable, "rename_to_free_name", across)
    with pytest.raises(Obstructed, match="lies on another filesystem"):
        removal.discard(discarded)
    assert removal.found(discarded) is Found.IN_PLACE


@pytest.mark.parametrize("made", ["folder", "file"])
def test_nothing_is_put_over_what_took_its_name(discarded: Record, made: str) -> None:
    removal.discard(discarded)
    Path(discarded.path).mkdir() if made == "folder" else Path(discarded.path).touch()
    with pytest.raises(Obstructed, match="there is something at"):
        removal.take_back(discarded)
    assert removal.found(discarded) is Found.IN_TRASH


def test_what_somebody_changed_in_the_trash_does_not_come_back_as_what_was_read(discarded: Record) -> None:
    removal.discard(discarded)
    Path(removal.trash_path(discarded), "model.safetensors").write_bytes(b"another one")
    with pytest.raises(Obstructed, match="is not what was removed"):
        removal.take_back(discarded)


def test_a_deletion_begins_with_the_file_that_is_written_last_and_goes_on_where_it_stopped(
    discarded: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    removal.discard(discarded)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda _path: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
        with pytest.raises(Obstructed, match="cannot be deleted: Input/output error"):
            removal.purge(discarded)
    assert removal.found(discarded) is Found.PURGING
    assert "trainer_state.json" not in names(removal.trash_path(discarded) + ".purging")
    removal.purge(discarded)
    assert removal.found(discarded) is Found.NOWHERE
    removal.purge(discarded)


def test_a_deletion_follows_no_link(tmp_path: Path) -> None:
    precious, doomed = tmp_path / "precious", tmp_path / "doomed"
    precious.mkdir()
    doomed.mkdir()
    (precious / "kept").touch()
    (doomed / "link").symlink_to(precious)
    removal.remove_tree(str(doomed))
    removal.remove_tree(str(doomed))
    assert not doomed.exists()
    assert (precious / "kept").exists()


def test_what_somebody_wrote_to_in_the_trash_is_not_deleted(discarded: Record) -> None:
    removal.discard(discarded)
    Path(removal.trash_path(discarded), "model.safetensors").write_bytes(b"another one")
    with pytest.raises(Obstructed, match="was written to since it was removed"):
        removal.purge(discarded)
    assert removal.found(discarded) is Found.IN_TRASH


def test_no_tree_is_removed_but_here() -> None:
    sources = [path for top in ("src", "worker", "service") for path in (REPOSITORY / top).rglob("*.py")]
    assert {path.name for path in sources if "rmtree" in path.read_text()} == {"removal.py"}
