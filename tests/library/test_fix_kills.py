"""A mending that is killed at any system call loses nothing, and the next one ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import torch

import injuries as hurt
from builders import make_hf_checkpoint, make_plain_checkpoint
from commanding import settle_in
from injecting import calls_of, killed_at
from lastgood.mending import carry_out, neighbours_of, plan_repairs, take_back
from lastgood.mending.making import maker
from lastgood.training import CheckpointManager
from lastgood.verify import examine, verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.needs("strace"), pytest.mark.timeout(300)]

#: By which what lies in the checkpoint is changed.
CALLS: Final = "rename,renameat,renameat2,link,linkat,unlink,unlinkat,utimensat,fchmod,chmod,fsync,ftruncate"


def fix(checkpoint: Path, *, backup: bool = True) -> None:
    take_back(str(checkpoint))
    facts, report = examine(str(checkpoint))
    plan = plan_repairs(facts, report, neighbours_of(facts, report))
    if plan.repairs:
        carry_out(plan, maker(plan), backup=backup)


def lacking_two_things(checkpoint: Path) -> Path:
    make_plain_checkpoint(checkpoint.with_name("checkpoint-100"), 100)
    make_plain_checkpoint(checkpoint, 200)
    hurt.leave_out("rng_states")(checkpoint / "training_state.pt")
    (checkpoint / "config.json").unlink()
    return checkpoint


def shards_without_index(checkpoint: Path) -> Path:
    make_hf_checkpoint(checkpoint, 200, shards=2)
    (checkpoint / "model.safetensors.index.json").unlink()
    (checkpoint / "rng_state.pth").unlink()
    return checkpoint


def wrapped_shards(checkpoint: Path) -> Path:
    """Half of them without the wrapper's names, and half with them, say which tensor is called what no more."""
    make_hf_checkpoint(checkpoint, 200, shards=2)
    hurt.wrap("module.")(checkpoint)
    return checkpoint


def with_a_list_of_its_files(checkpoint: Path) -> Path:
    model = torch.nn.ModuleDict({"module": torch.nn.Linear(4, 4)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model["module"](torch.ones(1, 4)).sum().backward()
    optimizer.step()
    CheckpointManager.save_checkpoint(checkpoint, model, optimizer, global_step=200)
    return checkpoint


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("backup", [True, False])
@pytest.mark.parametrize("make", [lacking_two_things, shards_without_index, wrapped_shards, with_a_list_of_its_files])
def test_a_mending_killed_at_any_system_call_loses_nothing_and_twice_is_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path], *, backup: bool
) -> None:
    settle_in(tmp_path, monkeypatch)
    torch.set_num_threads(1)
    checkpoint = make(tmp_path / "counted" / "checkpoint-200")
    points = calls_of(lambda: fix(checkpoint, backup=backup), tmp_path / "calls", CALLS)
    assert verify(str(checkpoint)).verdict == "complete"
    killed = 0
    for name, number in points[:: 1 if backup else 3]:
        checkpoint = make(tmp_path / f"{name}-{number}" / "checkpoint-200")
        before = contents(checkpoint)
        killed += killed_at(lambda folder=checkpoint: fix(folder, backup=backup), name, number)  # type: ignore[misc]

        after = contents(checkpoint)
        for file, content in before.items():
            kept = [after[found] for found in after if found == file or found.startswith(f"{file}.backup")]
            is_mended = file in after and after[file] != content
            assert content in kept or (is_mended and not backup), f"{file} is lost by a kill at {name} {number}"
        fix(checkpoint, backup=backup)
        assert verify(str(checkpoint)).verdict == "complete"
        once = contents(checkpoint)
        assert not [file for file in once if "mending" in file]
        fix(checkpoint, backup=backup)
        assert contents(checkpoint) == once
    assert killed > 5
