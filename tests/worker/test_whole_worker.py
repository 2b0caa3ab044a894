"""The whole worker on real folders, by a model: whatever happens to it, what it hands out is good, and stays."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from builders import hf_files, make_hf_checkpoint, write_files
from lastgood import removal, resume
from lastgood.errors import Refusal
from lastgood.findings import Verdict
from lastgood.inventory import take_inventory
from lastgood.latest import is_as_verified, resume_point_now
from lastgood.life import State
from worker_world import World, rewrite_in_place

if TYPE_CHECKING:
    from lastgood.records import Record

POLICIES: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"keep_last": 1},
    {"keep_last": 2, "keep_every": 300},
    {"keep_within": "1m"},
    {"keep_last": 1, "accept": "partial"},
)
ALWAYS: Final[dict[str, Any]] = {"observe_for": 0, "sweep_seconds": 10}
SLOTS: Final = st.integers(0, 5)
MINUTES: Final = float(os.environ.get("PROVE_MINUTES", "30"))
PAUSES: Final = st.sampled_from((0.0, 1.0, 5.0, 5.0, 40.0))
TOLD: Final = Counter[str]()  #: what the workers of all lives told


class WholeWorker(RuleBasedStateMachine):
    """Each rule is something that happens in a life of weeks."""

    def __init__(self) -> None:
        super().__init__()
        self.ending = ExitStack()
        place = Path(tempfile.mkdtemp(prefix="lastgood-"))
        self.ending.callback(shutil.rmtree, place, ignore_errors=True)
        self.patch = pytest.MonkeyPatch()
        self.ending.callback(self.patch.undo)
        self.world = World(place, settings_changed=dict(ALWAYS))
        self.ending.callback(self.world.stop)
        self.finished: dict[str, str] = {}  #: by name, the digest of each finished save
        self.step = 0
        self.away = False
        discard = removal.discard

        def watched_discard(record: Record) -> None:
            self.check_removal(record)
            discard(record)

        self.patch.setattr(removal, "discard", watched_discard)

    def teardown(self) -> None:
        TOLD.update(self.world.kinds())
        self.ending.close()

    # --- the trainer ---

    @initialize(policy=st.sampled_from(POLICIES))
    def first(self, policy: dict[str, Any]) -> None:
        self.change_policy(policy)
        self.save(3, 5.0)

    @rule(count=st.integers(1, 4), then=PAUSES)
    def save(self, count: int, then: float) -> None:
        for _ in range(count):
            self.step += 100
            make_hf_checkpoint(self.path, self.step)
            self.note_finished()
            self.time_passes(then)

    @rule(then=PAUSES)
    def save_by_rename(self, then: float) -> None:
        self.step += 100
        draft = self.world.root / f"tmp-checkpoint-{self.step}"
        make_hf_checkpoint(draft, self.step)
        shutil.rmtree(self.path, ignore_errors=True)
        draft.rename(self.path)
        self.note_finished()
        self.time_passes(then)

    @rule(files=st.integers(1, 4), then=PAUSES)
    def save_that_is_killed(self, files: int, then: float) -> None:
        self.step += 100
        shutil.rmtree(self.path, ignore_errors=True)
        self.finished.pop(self.path.name, None)
        write_files(self.path, hf_files(self.step)[:files])
        self.time_passes(then)

    @rule(back=st.integers(1, 3))
    def roll_back(self, back: int) -> None:
        self.step = max(0, self.step - 100 * back)

    @rule(slot=SLOTS)
    def rotate(self, slot: int) -> None:
        """The trainer's own."""
        if folder := self.folder(slot):
            shutil.rmtree(folder)
            self.finished.pop(folder.name, None)

    @rule(slot=SLOTS)
    def write_into(self, slot: int) -> None:
        """While a save is landing it is a part of that; afterwards it is damage."""
        folder = self.folder(slot)
        if not folder or not (folder / "model.safetensors").exists():
            return
        rewrite_in_place(folder / "model.safetensors")
        landing = any(r.name == folder.name and r.state is State.LANDING for r in self.world.records())
        if landing and folder.name in self.finished:
            self.finished[folder.name] = digest_of(folder)
        else:
            self.finished.pop(folder.name, None)

    # --- people and jobs ---

    @rule(slot=SLOTS)
    def pin(self, slot: int) -> None:
        if record := self.verified(slot):
            self.world.catalog.pin(record.id, holder="a person", now=self.world.now)

    @rule(slot=SLOTS)
    def unpin(self, slot: int) -> None:
        if record := self.verified(slot):
            self.world.catalog.unpin(record.id)

    @rule(slot=SLOTS, seconds=st.integers(1, 100))
    def lease(self, slot: int, seconds: int) -> None:
        if record := self.verified(slot):
            until = self.world.now + timedelta(seconds=seconds)
            self.world.catalog.take_lease(record.id, holder="a job", until=until, now=self.world.now)

    @rule(slot=SLOTS)
    def fail_to_load(self, slot: int) -> None:
        if record := self.verified(slot):
            self.world.ask("outcome", record.name, outcome="failed", error="no reason")

    @rule(slot=SLOTS)
    def remove(self, slot: int) -> None:
        if record := self.verified(slot):
            self.world.ask("remove", record.name)

    @rule()
    def undo(self) -> None:
        trashed = [record for record in self.world.records() if record.state is State.TRASHED]
        if trashed:
            self.world.ask("undo", trashed[0].name)

    @rule(policy=st.sampled_from(POLICIES))
    def change_policy(self, policy: dict[str, Any]) -> None:
        self.world.settings_changed = {**ALWAYS, **policy}
        self.world.restart()

    # --- the machine ---

    @rule(seconds=PAUSES)
    def lose_the_disk_for_a_while(self, seconds: float) -> None:
        """It is unmounted, and mounted again."""
        away = self.world.folder / "away"
        self.world.root.rename(away)
        self.world.root.mkdir()
        self.away = True
        self.world.advance(seconds)
        assert list(self.world.root.iterdir()) == [], "nothing may be written below a root that is away"
        self.away = False
        self.world.root.rmdir()
        away.rename(self.world.root)

    @rule()
    def restart(self) -> None:
        self.world.restart()

    @rule(seconds=PAUSES)
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)
        if seconds > 1:
            self.world.judge()
        self.check_answers()

    @rule()
    def quiet(self) -> None:
        """Long enough for everything that is under way; then catalog and disk agree."""
        self.world.advance(40)
        self.world.judge()
        self.check_answers()
        self.check_agreement()

    # --- what must hold ---

    def check_removal(self, record: Record) -> None:
        """At the very moment: it is nobody's resume point, nobody holds it, and a better one stays."""
        assert not self.away
        records = [r for r in self.world.catalog.records() if r.state is not State.REMOVING] + [record]
        assert record.id not in self.world.catalog.holds(self.world.now)
        assert record.verdict is not Verdict.UNREADABLE
        before = [r if r.id != record.id else _as_verified(record) for r in records]
        for accept in (Verdict.COMPLETE, Verdict.PARTIAL):
            try:
                answer = resume_point_now(before, resume.Wishes(accept=accept))
            except Refusal:
                continue
            assert answer.record.id != record.id, f"{record.name} is the resume point"

    def check_answers(self) -> None:
        """What is handed out was verified as it is now, and is what the trainer finished under that name."""
        try:
            answer = self.world.answer().record
        except Refusal:
            return
        assert answer.state is State.VERIFIED
        assert answer.verdict is Verdict.COMPLETE
        assert is_as_verified(answer)
        assert digest_of(Path(answer.path)) == self.finished[answer.name]

    def check_agreement(self) -> None:
        world = self.world
        there = {path.name: path for path in world.root.glob("checkpoint-*")}
        in_place = {r.name: r for r in world.records() if r.state in (State.LANDING, State.SETTLED, State.VERIFIED)}
        assert in_place.keys() == there.keys()
        for name, record in in_place.items():
            assert record.fingerprint == take_inventory(str(there[name])).fingerprint
            assert record.verdict is None or (record.verdict is Verdict.COMPLETE) == (name in self.finished)
        trash = world.root / ".lastgood/trash"
        discarded = sorted(r.trash for r in world.records() if r.state is State.TRASHED and r.trash)
        assert sorted(os.listdir(trash) if trash.exists() else []) == discarded

    # --- what is there ---

    @property
    def path(self) -> Path:
        return self.world.path(self.step)

    def note_finished(self) -> None:
        self.finished[self.path.name] = digest_of(self.path)

    def folder(self, slot: int) -> Path | None:
        found = sorted(self.world.root.glob("checkpoint-*"), key=lambda path: path.name)
        return found[slot] if slot < len(found) else None

    def verified(self, slot: int) -> Record | None:
        found = [record for record in self.world.records() if record.state is State.VERIFIED]
        return found[slot] if slot < len(found) else None


def _as_verified(record: Record) -> Record:
    return replace(record, state=State.VERIFIED)


def digest_of(folder: Path) -> str:
    told = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        told.update(path.name.encode() + path.read_bytes())
    return told.hexdigest()


HEALTH: Final = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)


def live(lives: int, steps: int, **how: Any) -> None:
    chosen = settings(
        max_examples=lives, stateful_step_count=steps, deadline=None, suppress_health_check=HEALTH, database=None, **how
    )
    run_state_machine_as_test(WholeWorker, settings=chosen)


def told() -> str:
    kinds = ("landing", "verified", "damaged", "latest", "removed", "undone", "removed-externally", "marked-failed")
    return ", ".join(f"{kind} {TOLD[kind]}" for kind in kinds)


@pytest.mark.timeout(300)
def test_whatever_happens_what_is_handed_out_is_good_and_stays() -> None:
    live(10, 30, derandomize=True)
    print(told())
    assert TOLD["removed"] > 10


@pytest.mark.prove
@pytest.mark.timeout(0)
def test_whatever_happens_in_many_lives_what_is_handed_out_is_good_and_stays() -> None:
    until, lives = time.monotonic() + MINUTES * 60 / 5, 0
    while time.monotonic() < until:
        lives += 20
        live(20, 50)
    print(f"{lives} lives: {told()}")
