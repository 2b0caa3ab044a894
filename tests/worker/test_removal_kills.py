"""SIGKILL at every system call of a removal, an undo and a deletion: a checkpoint is wholly there or wholly not."""

from __future__ import annotations

import hashlib
from collections import Counter
from multiprocessing import forkserver
from typing import TYPE_CHECKING, Any, Final

import pytest

from builders import make_hf_checkpoint
from injecting import calls_of, killed_at
from lastgood.life import State
from worker_world import World, world_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.needs("strace"), pytest.mark.timeout(300)]

#: What changes names and bytes on the disk, the catalog's among them, or brings them onto it.
CALLS: Final = (
    "mkdir,rename,renameat,renameat2,unlink,unlinkat,rmdir,fsync,fdatasync,write,pwrite64,ftruncate,fallocate"
)
POLICY: Final[dict[str, Any]] = {"keep_last": 2, "observe_for": 0}
TWO_DAYS: Final = 172_800.0


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[World]:
    """Three judged checkpoints, and no worker."""
    with world_in(tmp_path) as world:
        for step in (100, 200, 300):
            make_hf_checkpoint(world.path(step), step)
        world.settle()
        world.stop()
        yield world


def digest_of(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    told = [(str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    return repr(told)


def look_once(world: World, **settings: Any) -> None:
    """What the worker does in the child that is killed: a start, and two looks. It has nothing to judge."""
    forkserver.ensure_running = lambda: None  # our parent's; it is nobody's child here
    world.settings_changed = settings
    world.start()
    world.look()
    world.look()


def every_call(act: Callable[[], Any], log: Path, again: Callable[[], None]) -> Iterator[tuple[str, int]]:
    """Does it once to count its calls; then once for each of them, killed there. `again`: to be done before each."""
    calls = calls_of(act, log, CALLS)
    for name, number in calls:
        again()
        if killed_at(act, name, number):
            yield name, number


def where_it_lies(world: World) -> str:
    """Of checkpoint-100: "in place" or "in the trash"; nothing else is true of it."""
    trash = list((world.root / ".lastgood/trash").glob("checkpoint-100.*"))
    assert world.path(100).exists() + len(trash) == 1
    return "in the trash" if trash else "in place"


def check_and_recover(world: World, whole: str) -> str:
    """Where it lay after the kill; a new worker then agrees with the disk."""
    before = where_it_lies(world)
    (found,) = [world.path(100)] if before == "in place" else (world.root / ".lastgood/trash").glob("checkpoint-100.*")
    assert digest_of(found) == whole
    world.settings_changed = {}
    world.start()
    world.look()
    state = State.VERIFIED if where_it_lies(world) == "in place" else State.TRASHED
    assert [(r.name, r.state) for r in world.records() if r.name == "checkpoint-100"] == [("checkpoint-100", state)]
    assert world.latest() == "checkpoint-300"
    return before


def test_a_removal_that_is_killed_at_any_call_leaves_it_whole_in_one_place(stopped: World, tmp_path: Path) -> None:
    world, whole, found = stopped, digest_of(stopped.path(100)), Counter[str]()

    def bring_back() -> None:
        world.start()
        if where_it_lies(world) == "in the trash":
            assert world.ask("undo", "checkpoint-100").startswith("done")
        world.catalog.unpin(world.record("checkpoint-100").id)
        world.stop()

    for _call in every_call(lambda: look_once(world, **POLICY), tmp_path / "calls", bring_back):
        found[check_and_recover(world, whole)] += 1
        world.stop()
    print(f"killed at {found.total()} calls of a removal: {dict(found)}")
    assert set(found) == {"in place", "in the trash"}


def test_an_undo_that_is_killed_at_any_call_leaves_it_whole_in_one_place(stopped: World, tmp_path: Path) -> None:
    world, whole, found = stopped, digest_of(stopped.path(100)), Counter[str]()

    def remove_and_ask_for_it() -> None:
        world.start()
        world.catalog.unpin(world.record("checkpoint-100").id)
        if where_it_lies(world) == "in place":
            assert world.ask("remove", "checkpoint-100").startswith("done")
        about = world.record("checkpoint-100").id
        world.catalog.add_request("undo", run=".", name="checkpoint-100", now=world.now, checkpoint_id=about)
        world.stop()

    remove_and_ask_for_it()
    for _call in every_call(lambda: look_once(world), tmp_path / "calls", remove_and_ask_for_it):
        found[check_and_recover(world, whole)] += 1
        world.stop()
    print(f"killed at {found.total()} calls of an undo: {dict(found)}")
    assert set(found) == {"in place", "in the trash"}


def test_a_deletion_that_is_killed_at_any_call_leaves_nothing_that_looks_like_a_checkpoint(tmp_path: Path) -> None:
    found = Counter[str]()
    with world_in(tmp_path, **POLICY, trash_for=0) as world:
        trash = world.root / ".lastgood/trash"

        def throw_one_away() -> None:
            world.settings_changed = {"observe_for": 0, "trash_for": 86_400}
            world.restart()
            step = 100 * (1 + len(world.catalog.records()))
            make_hf_checkpoint(world.path(step), step)
            world.settings_changed = {**POLICY, "trash_for": 86_400}
            world.restart()
            world.settle()
            assert len(world.in_trash()) == 1
            world.at += TWO_DAYS
            world.stop()

        for step in (100, 200):
            make_hf_checkpoint(world.path(step), step)
        world.settle()
        throw_one_away()
        for _call in every_call(lambda: look_once(world, **POLICY), tmp_path / "calls", throw_one_away):
            left = list(trash.iterdir())
            found["whole" if left and ".purging" not in left[0].name else "begun" if left else "done"] += 1
            assert len(world.in_place()) == 2
            world.settings_changed = POLICY
            world.start()
            world.look()
            world.look()
            assert list(trash.iterdir()) == []
            assert {record.state for record in world.records()} == {State.VERIFIED}
    print(f"killed at {found.total()} calls of a deletion: {dict(found)}")
    assert set(found) == {"whole", "begun", "done"}
