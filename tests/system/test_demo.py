"""A job that is killed anywhere ends as if nothing had happened; and the demo, which tells of it."""

from __future__ import annotations

import fcntl
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import torch

import demo
from comparing import identical, losses_of
from example_job import LAST, STEPS, assert_same, ended, process_as_it_was, save_small_model, started, uninterrupted
from lastgood import client
from running import SHORT, both, wait_for
from stage import Failed, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from running import Watcher

# From Python 3.12 on, because NumPy has threads of its own; none of them is at work.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

SEED: Final = int(os.environ.get("PROVE_SEED", "1"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with process_as_it_was():
        return save_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def right(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a job wrote that nobody interrupted."""
    return uninterrupted(tmp_path_factory.mktemp("right") / "output", small)


@pytest.fixture(scope="module")
def watcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watcher]:
    """Of a folder of runs."""
    place = tmp_path_factory.mktemp("watched")
    (place / "runs").mkdir()
    with both(place / "runs", place / "place", **SHORT) as watching:
        yield watching


@pytest.mark.parametrize("seed", range(5))
def test_a_job_that_was_killed_at_a_random_moment_ends_as_if_it_had_not_been(
    watcher: Watcher, small: Path, right: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    kill_and_go_on(watcher, small, right, monkeypatch, f"seed-{seed}", random.Random(seed))


@pytest.mark.prove
@pytest.mark.timeout(0)
def test_fifty_jobs_that_were_killed_end_as_if_they_had_not_been(
    watcher: Watcher, small: Path, right: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, told = random.Random(SEED), Counter[str]()
    for number in range(50):
        told[kill_and_go_on(watcher, small, right, monkeypatch, f"kill-{number}", chance)] += 1
    print(f"seed {SEED}: {told.total()} kills: {', '.join(f'{count} {when}' for when, count in told.items())}")


def kill_and_go_on(
    watcher: Watcher, small: Path, right: Path, monkeypatch: pytest.MonkeyPatch, run: str, chance: random.Random
) -> str:
    """When it was killed. Afterwards it goes on from where the service says, and is held against the uninterrupted."""
    output = watcher.root / run
    job = started(output, "--pretrained-model", str(small))
    moment = chance.randrange(1, STEPS - 1)
    wait_for(f"step {moment}", lambda: len(losses_of(output)) >= moment)
    threading.Event().wait(chance.uniform(0, 0.04))  # the random moment itself
    os.kill(job, signal.SIGKILL)
    assert ended(job) == -signal.SIGKILL
    saved = {path.name for path in output.glob("checkpoint-*")}
    drafts = list(output.glob(".tmp-*"))
    if saved:
        watcher.wait(f"the saves of {run} to be seen", lambda: saved <= watcher.records(run).keys())
    monkeypatch.setenv("LASTGOOD_URL", watcher.url)
    for other_way in ("answer_in_file", "own_look"):
        monkeypatch.setattr(client, other_way, lambda *_, **__: pytest.fail("the service was not asked"))
    model = [] if saved else ["--pretrained-model", str(small)]  # where something is saved, that tells which one
    assert ended(started(output, "--resume-from-checkpoint", "latest", *model)) == 0
    assert_same(output, right)
    return "in mid-save" if drafts else "between saves" if saved else "before the first save"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param(1.5, 1.5, True, id="a number"),
        pytest.param(math.nan, math.nan, True, id="not a number"),
        pytest.param(0.0, -0.0, False, id="two zeros"),
        pytest.param(1, 1.0, False, id="two kinds of number"),
        pytest.param({"a": [1, (2,)]}, {"a": [1, (2,)]}, True, id="what holds others"),
        pytest.param({"a": 1}, {"a": 1, "b": 2}, False, id="one more"),
        pytest.param([torch.tensor([0.0, math.nan])], [torch.tensor([0.0, math.nan])], True, id="tensors"),
        pytest.param(torch.tensor([0.0]), torch.tensor([-0.0]), False, id="tensors of two zeros"),
        pytest.param(torch.tensor([1]), torch.tensor([[1]]), False, id="tensors of two shapes"),
        pytest.param(torch.tensor([0]), torch.tensor([0.0]), False, id="tensors of two types"),
    ],
)
def test_what_counts_as_the_same_is_the_same_to_the_last_bit(one: object, other: object, same: bool) -> None:
    assert identical(one, other) is same


def spoil_a_loss(output: Path) -> None:
    path = output / "losses.jsonl"
    path.write_text(path.read_text().replace('"loss": ', '"loss": 1', 1))


def spoil_the_weights(output: Path) -> None:
    demo.flip_a_bit(output / LAST / "model.safetensors")


def forget_the_rest(output: Path) -> None:
    path = output / "losses.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:40]))


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        pytest.param(spoil_a_loss, "one: 1 losses, from step 1 on;", id="one loss"),
        pytest.param(spoil_the_weights, "one: weights;", id="one bit of the weights"),
        pytest.param(forget_the_rest, "one: 10 losses, from step 41 on;", id="a run that ended early"),
    ],
)
def test_the_demo_fails_where_anything_differs(
    tmp_path: Path, right: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for output in (demo.OUTPUT, demo.UNINTERRUPTED):
        shutil.copytree(right, output)
    spoil(demo.OUTPUT)
    unwatched = Stage()
    monkeypatch.setattr(unwatched, "wait", lambda *_: None)
    with pytest.raises(Failed, match=f"the interrupted run is not the uninterrupted {complaint}"):
        demo.tell_of_the_end(unwatched)


@pytest.mark.timeout(400)
def test_the_demo_tells_the_whole_story_and_stays_up_where_it_is_told_to(tmp_path: Path) -> None:
    playing = Demo(tmp_path, "--keep")
    try:
        playing.wait_for(r"lastgood goes on watching until Ctrl-C; its page: (\S+)", 300)
        told = playing.said()
        url = told.rpartition("its page: ")[2].strip()
        assert "lastgood" in httpx.get(url, trust_env=False).text
    finally:
        code = playing.interrupt()
    assert code == 0
    for line in (
        r"SIGKILL, while it saved checkpoint-(\d+)\. What is left of that, in \.demo/output/\.tmp-checkpoint-\1:",
        r"model\.safetensors  5,773,136 of 5,773,136 bytes",
        r"/\.demo/output/checkpoint-\d+\n   \(from the service: verdict complete",
        r"goes on at step \d+ from /.*/\.demo/output/checkpoint-\d+",
        r"132 of 132 losses are the same to the last bit; [1-9]\d* of them were computed twice",
        r"to the last bit: weights,",
        r"checkpoint-132 is corrupt: model\.safetensors: its bytes are not those that were (saved|verified)",
        r"/\.demo/output/checkpoint-120\n   \(from the service: verdict complete",
        r"not checkpoint-132: it is corrupt",
    ):
        assert re.search(line, told), f"{line}\n{told}"
    assert not re.search(r"Traceback|Warning", told)


def test_whoever_ends_the_demo_ends_all_that_it_started(tmp_path: Path) -> None:
    playing = Demo(tmp_path)
    try:
        playing.wait_for(r"--model-output \.demo/output", 60)
        assert len(playing.descendants()) >= 4  # watcher, worker, service, a job
    finally:
        code = playing.interrupt()
    assert code == 130


def test_two_demos_do_not_play_in_one_folder(tmp_path: Path) -> None:
    (tmp_path / ".demo").mkdir()
    descriptor = os.open(tmp_path / ".demo", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        playing = Demo(tmp_path)
        assert playing.ended() == 1
    finally:
        os.close(descriptor)
    assert playing.said() == "\nThe demo failed: another demo is running in .demo: end it first\n"


class Demo:
    """examples/demo.py in a folder of its own."""

    def __init__(self, place: Path, *flags: str) -> None:
        self._story = place / "story"
        with self._story.open("wb") as story:
            self._process = subprocess.Popen(
                [sys.executable, demo.__file__, *flags],
                cwd=place,
                stdout=story,
                stderr=story,
                # What a shell starts in the background is deaf to Ctrl-C, and so would be all below it.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - as those that it tests do
            )

    def said(self) -> str:
        return self._story.read_text()

    def wait_for(self, line: str, seconds: float) -> None:
        def trouble() -> str | None:
            return self.said() if self._process.poll() is not None else None

        wait_for(line, lambda: re.search(line, self.said()), seconds, trouble)

    def descendants(self) -> list[int]:
        """Every process below it."""
        found, fresh = [], [self._process.pid]
        while fresh:
            fresh = [child for parent in fresh for child in _children_of(parent)]
            found += fresh
        return found

    def ended(self) -> int:
        """Its exit code."""
        return self._process.wait(60)

    def interrupt(self) -> int:
        """As Ctrl-C does. Its exit code, once nothing is left of what it started."""
        below = self.descendants()
        self._process.send_signal(signal.SIGINT)
        code = self.ended()
        # What the worker has below it ends by itself, a moment later.
        wait_for("all of them to end", lambda: not any(map(_is_at_work, below)), 60)
        return code


def _children_of(process: int) -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def _is_at_work(process: int) -> bool:
    """Not where it has ended, and nobody has taken note of it yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False
