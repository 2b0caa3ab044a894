"""Mending beside those who write there: what another saves meanwhile is neither lost nor replaced."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from typing import TYPE_CHECKING, Any, Final

import pytest

import injuries as hurt
from builders import make_hf_checkpoint, make_plain_checkpoint
from commanding import run, settle_in
from lastgood import durable
from lastgood.errors import CannotMend, CannotTell
from lastgood.mending import carry_out, journal, neighbours_of, plan_repairs, swapping, take_back
from lastgood.mending.making import maker
from lastgood.verify import examine, verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lastgood.mending import Plan

STATE: Final = "training_state.pt"
SAVED: Final = b"what the trainer saved meanwhile"


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that lacks random states and a configuration, beside a sound one."""
    settle_in(tmp_path, monkeypatch)
    make_plain_checkpoint(tmp_path / "run" / "checkpoint-100", 100)
    found = make_plain_checkpoint(tmp_path / "run" / "checkpoint-200", 200)
    hurt.leave_out("rng_states")(found / STATE)
    (found / "config.json").unlink()
    return found


def plan_of(checkpoint: Path) -> Plan:
    facts, report = examine(str(checkpoint))
    return plan_repairs(facts, report, neighbours_of(facts, report))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def save(path: Path) -> None:
    """As a trainer does that saves well: beside it, and renamed."""
    beside = path.with_name("trainer.tmp")
    beside.write_bytes(SAVED)
    beside.replace(path)


def while_it_is_made(checkpoint: Path, file: Path, _patch: pytest.MonkeyPatch) -> None:
    plan = plan_of(checkpoint)
    make = maker(plan)

    def make_late(repair: Any, path: str) -> None:
        make(repair, path)
        save(file)

    carry_out(plan, make_late)


def as_it_is_put_there(checkpoint: Path, file: Path, patch: pytest.MonkeyPatch) -> None:
    before: dict[str, Callable[..., Any]] = {
        name: getattr(durable, name) for name in ("exchange", "rename_to_free_name")
    }

    def late(name: str, source: str, target: str) -> Any:
        if target == str(file):
            save(file)
        return before[name](source, target)

    for name in before:
        patch.setattr(durable, name, lambda source, target, name=name: late(name, source, target))
    plan = plan_of(checkpoint)
    carry_out(plan, maker(plan))


def while_it_is_judged(checkpoint: Path, file: Path, _patch: pytest.MonkeyPatch) -> None:
    def accepts(_report: object) -> str:
        save(file)
        return "will not do"

    plan = plan_of(checkpoint)
    carry_out(plan, maker(plan), backup=False, accepts=accepts)


@pytest.mark.parametrize("fix", [while_it_is_made, as_it_is_put_there, while_it_is_judged])
@pytest.mark.parametrize("name", [STATE, "config.json"])
def test_what_is_saved_meanwhile_stays_and_all_else_is_as_it_was(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, fix: Callable[..., None], name: str
) -> None:
    before = contents(checkpoint)
    with pytest.raises(CannotMend):
        fix(checkpoint, checkpoint / name, monkeypatch)
    after = contents(checkpoint)
    backups = {file: after.pop(file) for file in list(after) if file.endswith(".backup")}
    assert after == before | {name: SAVED}
    assert set(backups.values()) <= {before.get(name)}  # what the trainer itself replaced may have a second name


def test_a_backup_that_is_not_ours_is_not_taken_away(checkpoint: Path) -> None:
    def accepts(_report: object) -> None:
        save(checkpoint / f"{STATE}.backup")

    plan = plan_of(checkpoint)
    carry_out(plan, maker(plan), backup=False, accepts=accepts)
    assert (checkpoint / f"{STATE}.backup").read_bytes() == SAVED


def test_where_names_cannot_change_places_and_links_are_unknown_it_is_mended_all_the_same(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_names: str, **_options: bool) -> None:
        raise PermissionError("Operation not permitted")

    before = (checkpoint / STATE).read_bytes()
    monkeypatch.setattr(durable, "exchange", lambda _one, _other: False)
    monkeypatch.setattr(os, "link", refuse)
    assert run("fix", checkpoint)[0] == 0
    assert (checkpoint / f"{STATE}.backup").read_bytes() == before
    assert verify(str(checkpoint)).verdict == "complete"


def test_a_run_folder_in_which_nothing_may_be_written_is_no_hindrance(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkpoint.parent / ".lastgood").write_text("in the way of the note to the worker")
    assert run("fix", checkpoint)[0] == 0


def cut_short(checkpoint: Path, patch: pytest.MonkeyPatch) -> None:
    """As by a kill while it is judged: nothing is taken back."""
    with patch.context() as patched:
        patched.setattr(swapping, "_take_all_back", lambda *_: None)
        plan = plan_of(checkpoint)
        with pytest.raises(CannotMend):
            carry_out(plan, maker(plan), accepts=lambda _report: "will not do")


def test_a_dry_run_says_that_an_earlier_mending_was_cut_short_and_touches_nothing(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_short(checkpoint, monkeypatch)
    before = contents(checkpoint)
    code, _printed, complaint = run("fix", checkpoint, "--dry-run")
    assert (code, "an earlier mending was cut short" in complaint) == (1, True)
    assert contents(checkpoint) == before


@pytest.mark.parametrize("name", [STATE, "config.json"])
def test_what_was_saved_since_an_earlier_mending_was_killed_stays(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = contents(checkpoint)
    cut_short(checkpoint, monkeypatch)
    save(checkpoint / name)
    take_back(str(checkpoint))
    after = contents(checkpoint)
    after.pop(f"{STATE}.backup", None)
    assert after == before | {name: SAVED}


def copied_elsewhere(checkpoint: Path) -> Path:
    shutil.copytree(checkpoint.parent, checkpoint.parent.with_name("copy"))
    return checkpoint.parent.with_name("copy") / checkpoint.name


def touched(checkpoint: Path) -> Path:
    for file in checkpoint.iterdir():
        file.touch()
    return checkpoint


@pytest.mark.parametrize("change", [copied_elsewhere, touched])
def test_a_mending_that_was_killed_is_ended_where_it_was_copied_or_touched_since(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], Path]
) -> None:
    """Half of the shards bear a wrapper's names: only what was there before tells what to do."""
    wrapped = make_hf_checkpoint(checkpoint.with_name("checkpoint-300"), 300, shards=2)
    hurt.wrap("module.")(wrapped)
    puts = 0
    put = swapping._put

    def put_one(folder: str, swap: journal.Swap) -> None:
        nonlocal puts
        puts += 1
        if puts == 2:
            raise CannotMend("killed")
        put(folder, swap)

    with monkeypatch.context() as patched:
        patched.setattr(swapping, "_put", put_one)
        patched.setattr(swapping, "_take_all_back", lambda *_: None)
        plan = plan_of(wrapped)
        with pytest.raises(CannotMend, match="killed"):
            carry_out(plan, maker(plan))
    found = change(wrapped)
    assert run("fix", found)[0] == 0
    assert verify(str(found)).verdict == "complete"
    assert not [file for file in contents(found) if "mending" in file]


def test_what_fails_once_all_is_in_place_leaves_no_mixture(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = journal.write

    def fail(folder: str, told: journal.Journal) -> None:
        write(folder, told)
        if told.done:
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(journal, "write", fail)
        assert run("fix", checkpoint)[0] == 2
    assert verify(str(checkpoint)).verdict == "complete"
    assert run("fix", checkpoint)[:2] == (0, f"{checkpoint}: nothing is damaged\n")
    assert not [file for file in contents(checkpoint) if "mending" in file]


def test_what_a_trainer_saved_survives_a_disk_that_fails_while_it_is_given_back(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def fail(source: str, target: str) -> None:
        if target == str(checkpoint / STATE) and "mending" in source:
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail)
        with pytest.raises(CannotTell):
            as_it_is_put_there(checkpoint, checkpoint / STATE, patched)
    take_back(str(checkpoint))
    assert (checkpoint / STATE).read_bytes() == SAVED


def test_while_another_mends_it_a_dry_run_says_so(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_short(checkpoint, monkeypatch)
    folder = os.open(checkpoint, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        assert "another process is mending it" in run("fix", checkpoint, "--dry-run")[2]
    finally:
        os.close(folder)


def test_the_note_to_the_worker_belongs_to_whom_the_run_belongs(checkpoint: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs to be root, to give files away")
    os.chown(checkpoint.parent, 12_345, 12_345)
    assert run("fix", checkpoint)[0] == 0
    made = checkpoint.parent / ".lastgood"
    assert {path.stat().st_uid for path in (made, *made.rglob("*"))} == {12_345}


@pytest.mark.parametrize(
    "told",
    [
        "",
        "{}",
        "[" * 100_000,
        '{"lastgood_mending": 2}',
        '{"lastgood_mending": 1, "swaps": [{"file": "../other", "kept": null}]}',
        '{"lastgood_mending": 1, "swaps": [{"file": "a\\u0000", "kept": null}]}',
        '{"lastgood_mending": 1, "swaps": [{"file": "a", "kept": null, "before": [1e400, 0, 0]}]}',
    ],
    ids=["nothing", "an empty one", "a deep one", "a later version", "another folder", "no name", "an endless number"],
)
def test_a_journal_that_tells_nothing_is_said_and_nothing_is_touched(checkpoint: Path, told: str) -> None:
    (checkpoint / ".lastgood-mending.json").write_text(told)
    before = contents(checkpoint)
    code, _printed, complaint = run("fix", checkpoint)
    assert (code, "does not tell what an earlier mending did" in complaint) == (1, True)
    assert contents(checkpoint) == before


def test_a_journal_that_names_what_lies_elsewhere_is_not_followed(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_short(checkpoint, monkeypatch)
    journal = checkpoint / ".lastgood-mending.json"
    journal.write_text(journal.read_text().replace('"config.json"', '"../checkpoint-100/config.json"'))
    assert "does not tell what an earlier mending did" in run("fix", checkpoint)[2]
    assert (checkpoint.parent / "checkpoint-100" / "config.json").exists()
