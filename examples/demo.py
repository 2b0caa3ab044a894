"""A real training job is killed in the middle of a save, asks where to go on, and ends as if nothing had happened.

Everything lies in .demo/. With --keep the watcher and its page stay up afterwards, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any, Final

from comparing import Losses, compared, losses_of, losses_that_differ
from stage import LASTGOOD, PLACE, Failed, Program, Stage, place_of_our_own, show

if TYPE_CHECKING:
    from pathlib import Path

OUTPUT, UNINTERRUPTED = PLACE / "output", PLACE / "uninterrupted"
FLAGS: Final = ("--epochs", "2", "--checkpoint-every-n-steps", "20")
KILLED_FROM_STEP: Final = 80  # the fourth save, in the second epoch
A_PART: Final = 1_000_000  # bytes, of the twelve million of a training_state.pt
WIDTH: Final = 22
WORDS: Final = {"dataloader": "position in the data", "rng_states": "random states"}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="leave the watcher and its page up, until Ctrl-C")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # whatever ends us ends what we started
    try:
        with place_of_our_own(), Stage() as stage:
            tell(stage)
            if options.keep:
                stay(stage)
    except Failed as failure:
        print(f"\nThe demo failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nEnded, with everything that was started.", file=sys.stderr)
        return 130
    return 0


def tell(stage: Stage) -> None:
    began = time.monotonic()
    print("A small language model is trained, killed in the middle of a save, and goes on. It takes about a minute.")
    head("1. lastgood watches a folder, and a job trains into it")
    stage.watch(OUTPUT)
    show(f"its page: {stage.url}/")
    unharmed = stage.train("uninterrupted", UNINTERRUPTED, *FLAGS)
    show("(the same job, in a folder that nobody watches: left in peace, it will show what is right)")
    job = stage.train("killed", OUTPUT, *FLAGS)
    draft = kill_in_mid_save(stage, job)

    head("2. The job is killed in the middle of a save")
    lost = losses_of(OUTPUT)
    tell_of_the_kill(stage, draft)

    head("3. Where can it go on?")
    start = tell_of_latest(stage, "--wait", "60")

    head("4. It goes on from there")
    resumed = stage.train("resumed", OUTPUT, *FLAGS, "--resume-from-checkpoint", "latest")
    stage.wait("the job to go on", lambda: resumed.code is not None or resumed.said("goes on"))
    show(resumed.said("goes on"))
    for program in (resumed, unharmed):
        stage.wait_for_end(program)
    tell_of_losses(start["step"], lost)

    head("5. Is that what would have come without the kill?")
    last = tell_of_the_end(stage)

    head("6. One bit of the newest checkpoint flips")
    tell_of_damage(stage, OUTPUT / last)
    print(f"\nDone in {time.monotonic() - began:.0f} s. Everything lies in {PLACE}/, with a log of each program.")


def kill_in_mid_save(stage: Stage, job: Program) -> Path:
    """SIGKILL, while a draft of the save lies there and nothing under its final name. The draft."""
    soon = KILLED_FROM_STEP - 5
    stage.wait(f"step {soon}", lambda: job.code is not None or steps_done() >= soon)
    while job.code is None:
        draft = next(OUTPUT.glob(".tmp-checkpoint-*"), None)
        if draft and (size_of(draft / "training_state.pt") or 0) > A_PART:
            job.kill()
            if draft.is_dir() and not final_of(draft).exists():
                return draft
            show("(that save had just ended: once more)")
            job = stage.train("killed again", OUTPUT, *FLAGS, "--resume-from-checkpoint", "latest")
        time.sleep(0.001)
    raise job.failure() if job.code else Failed("no save could be caught in the middle; start it once more")


def final_of(draft: Path) -> Path:
    return draft.with_name(draft.name.removeprefix(".tmp-"))


def size_of(file: Path) -> int | None:
    """None where it is not there."""
    try:
        return file.stat().st_size
    except OSError:
        return None


def steps_done() -> int:
    return max((step for step, _loss in losses_of(OUTPUT)), default=0)


def tell_of_the_kill(stage: Stage, draft: Path) -> None:
    name = final_of(draft).name
    show(f"SIGKILL, while it saved {name}. What is left of that, in {draft}:")
    for whole in sorted(max(OUTPUT.glob("checkpoint-*"), key=step_of).iterdir()):
        written = size_of(draft / whole.name)
        found = "not there" if written is None else f"{written:,} of {whole.stat().st_size:,} bytes"
        show(f"  {whole.name:<18} {found}")
    show(f"Under the name {name} there is nothing: nobody can take it for a checkpoint.")
    show(f"What lastgood lists: {', '.join(sorted(stage.verdicts(), key=step_in))}.")


def step_of(checkpoint: Path) -> int:
    return step_in(checkpoint.name)


def step_in(name: str) -> int:
    return int(name.rpartition("-")[2])


def tell_of_latest(stage: Stage, *flags: str) -> dict[str, Any]:
    """The answer of `lastgood latest`, which is shown."""
    show(" ".join(["$ lastgood latest", str(OUTPUT), *flags]))
    command = [*LASTGOOD, "latest", str(OUTPUT), *flags, "--json"]
    done = subprocess.run(command, env=stage.environ, text=True, capture_output=True, check=False)
    if done.returncode:
        raise Failed(done.stderr.strip())
    found: dict[str, Any] = json.loads(done.stdout)
    show(found["path"])
    exact = "possible" if found["exact_resume"] else "not possible"
    told = f"verdict {found['verdict']}, evidence {found['evidence']}, exact continuation {exact}"
    show(f"(from the {found['source']}: {told})")
    return found


def tell_of_losses(start: int, lost: Losses) -> None:
    """The losses around the kill, side by side."""
    first, right = dict(lost), dict(losses_of(UNINTERRUPTED))
    again = dict(losses_of(OUTPUT)[len(lost) :])
    killed = max(first)
    show("")
    show(f"{'loss of step':<14}{'the killed job':<{WIDTH}}{'the one that went on':<{WIDTH}}{'uninterrupted':<{WIDTH}}")
    for step in (start - 1, start, start + 1, start + 2, None, killed - 1, killed, killed + 1, killed + 2):
        if step is None:
            show("...")
            continue
        row = [repr(losses[step]) if step in losses else "-" for losses in (first, again, right)]
        show(f"{step:<14}" + "".join(f"{value:<{WIDTH}}" for value in row).rstrip())


def tell_of_the_end(stage: Stage) -> str:
    """Compares both runs. The last checkpoint's name; Failed where anything differs."""
    right, computed = dict(losses_of(UNINTERRUPTED)), losses_of(OUTPUT)
    others = sorted({*losses_that_differ(computed, right), *(right.keys() - dict(computed).keys())})
    wrong = [f"{len(others)} losses, from step {others[0]} on"] if others else []
    last = max(UNINTERRUPTED.glob("checkpoint-*"), key=step_of).name
    stage.wait(f"a verdict on {last}", lambda: stage.latest() == last)
    parts = compared(OUTPUT / last, UNINTERRUPTED / last)
    wrong += [word(name) for name, same in parts.items() if not same]
    if wrong:
        raise Failed(f"the interrupted run is not the uninterrupted one: {', '.join(wrong)}; see {PLACE}/*/{last}")
    twice = len(computed) - len(dict(computed))
    show(f"{len(right)} of {len(right)} losses are the same to the last bit; {twice} of them were computed twice.")
    same = f"{last} is the same in both folders, to the last bit: {', '.join(word(name) for name in parts)}."
    for line in textwrap.wrap(same, 90):
        show(line)
    return last


def word(key: str) -> str:
    return WORDS.get(key, key.removesuffix("_state_dict").replace("_", " "))


def tell_of_damage(stage: Stage, newest: Path) -> None:
    flip_a_bit(newest / "model.safetensors")
    show(f"It lies in {newest}/model.safetensors, whose size and time stay as they were.")
    stage.wait("lastgood to notice", lambda: stage.verdicts().get(newest.name) == "corrupt")
    found = tell_of_latest(stage)
    if found["name"] == newest.name:
        raise Failed(f"{newest.name} is damaged, and was handed out")
    for skipped in found["skipped"]:
        show(f"not {skipped['name']}: {skipped['message']}")


def flip_a_bit(file: Path) -> None:
    before = file.stat()
    with file.open("r+b") as opened:
        opened.seek(before.st_size // 2)
        byte = opened.read(1)[0]
        opened.seek(before.st_size // 2)
        opened.write(bytes([byte ^ 1]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def stay(stage: Stage) -> None:
    print(f"lastgood goes on watching until Ctrl-C; its page: {stage.url}/", flush=True)
    try:
        stage.watcher.process.wait()
    except KeyboardInterrupt:
        return
    raise stage.watcher.failure()


def head(title: str) -> None:
    print(f"\n{title}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
