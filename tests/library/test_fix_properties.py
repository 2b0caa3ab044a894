"""Whatever is broken, and however much of it at once: mended as was promised, or refused and left as it was."""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import injuries as hurt
from builders import make_hf_checkpoint, make_plain_checkpoint
from lastgood.errors import CannotMend
from lastgood.findings import SOUND
from lastgood.mending import carry_out, neighbours_of, plan_repairs
from lastgood.mending.making import maker
from lastgood.verify import examine, verify

if TYPE_CHECKING:
    from collections.abc import Callable

    Injure = Callable[[Path], Any]

STEP: Final = 200
MAKERS: Final = (
    make_plain_checkpoint,
    make_hf_checkpoint,
    lambda folder, step: make_hf_checkpoint(folder, step, shards=3),
    lambda folder, step: make_hf_checkpoint(folder, step, ranks=2),
)
OF_ANY_FILE: Final[tuple[Injure, ...]] = (
    hurt.remove, hurt.empty, hurt.cut_in_half, hurt.cut_last_byte, hurt.fill_with_zeros, hurt.write_text,
)  # fmt: skip
OF_STATE: Final = tuple(
    hurt.leave_out(key)
    for key in ("rng_states", "optimizer_state_dict", "scheduler_state_dict", "best_loss", "epoch", "global_step")
)


def break_something(checkpoint: Path, chance: random.Random) -> None:
    """From one to three injuries, each of a file that is there."""
    for _ in range(chance.randint(1, 3)):
        files = sorted(path for path in checkpoint.iterdir() if path.is_file())
        state, index = checkpoint / "training_state.pt", checkpoint / "model.safetensors.index.json"
        kind = chance.random()
        try:
            if kind < 0.3 and state.exists():
                chance.choice(OF_STATE)(state)
            elif kind < 0.45:
                hurt.wrap(chance.choice(["module.", "_orig_mod.", "module._orig_mod."]))(checkpoint)
            elif kind < 0.55 and index.exists():
                hurt.forget_a_tensor(index)
            elif files:
                chance.choice(OF_ANY_FILE)(chance.choice(files))
        except Exception:  # noqa: BLE001 - it is too broken by now to be broken so
            continue


def mended_or_refused(seed: int) -> str:
    """What became of one broken checkpoint."""
    chance = random.Random(seed)
    make = chance.choice(MAKERS)
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        for step in (100, STEP, 300):
            make(run / f"checkpoint-{step}", step)
        checkpoint = run / f"checkpoint-{STEP}"
        break_something(checkpoint, chance)
        before = state_of(checkpoint)
        if not before:
            return "nothing left"
        facts, report = examine(str(checkpoint))
        try:
            plan = plan_repairs(facts, report, neighbours_of(facts, report))
        except CannotMend:
            assert state_of(checkpoint) == before
            return "refused"
        if not plan.repairs:
            assert report.verdict in SOUND
            return "nothing amiss"
        _facts, after = carry_out(plan, maker(plan))
        assert after.verdict == plan.promised == verify(str(checkpoint)).verdict
        assert after.verdict in SOUND
        written = {repair.file for repair in plan.repairs}
        now = state_of(checkpoint)
        assert {name: now[name] for name in before if name not in written} == {
            name: content for name, content in before.items() if name not in written
        }
        assert {name: now[f"{name}.backup"] for name in written & before.keys()} == {
            name: before[name] for name in written & before.keys()
        }
        facts, report = examine(str(checkpoint))
        with contextlib.suppress(CannotMend):  # what is still missing is said again
            assert plan_repairs(facts, report, neighbours_of(facts, report)).repairs == ()
        return f"mended to {after.verdict}"


def state_of(checkpoint: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in checkpoint.iterdir()}


@pytest.mark.parametrize("seed", range(120, 160))
def test_what_is_broken_at_random_is_mended_as_promised_or_left_alone(seed: int) -> None:
    mended_or_refused(seed)


@pytest.mark.prove
def test_many_more_of_them() -> None:
    seed = int(os.environ.get("PROVE_SEED", "1")) * 1_000_000
    until = time.monotonic() + 60 * min(float(os.environ.get("PROVE_MINUTES", "30")), 10)
    counts: Counter[str] = Counter()
    while time.monotonic() < until:
        counts[mended_or_refused(seed)] += 1
        seed += 1
    print(f"broken checkpoints: {dict(counts)}")
    assert min(counts["refused"], counts["mended to complete"], counts["mended to partial"]) > 10
