"""Worker and service are killed again and again while a job goes on saving: no answer is wrong, nothing is lost."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import endless_job
from endless_job import Diary, digest_on_disk
from lastgood.catalog import Catalog
from lastgood.findings import Verdict
from lastgood.inventory import take_inventory
from running import SHORT, Asker, both, environ, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from running import Watcher

SEED: Final = int(os.environ.get("PROVE_SEED", "1"))
MINUTES: Final = float(os.environ.get("PROVE_MINUTES", "30"))
PROVE_KILLS: Final = 500


def test_twenty_kills_cost_no_answer_and_no_record(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, 20)


@pytest.mark.prove
@pytest.mark.timeout(0)
def test_five_hundred_kills_cost_no_answer_and_no_record(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, PROVE_KILLS, MINUTES * 60)


def kill_again_and_again(place: Path, kills: int, seconds: float = 600) -> None:
    """Kills worker and service in random order at random moments, at most for so many seconds, and then takes stock."""
    chance, told = random.Random(SEED), Counter[str]()
    output, diary_path = place / "output", place / "diary"
    output.mkdir()
    until = time.monotonic() + seconds
    with both(output, place / "place", **SHORT) as watcher:
        with Checker(watcher, diary_path) as asker:
            with endless(output, diary_path, place):
                watcher.wait("the first answer", lambda: asker.answers)
                for _ in range(kills):
                    if time.monotonic() > until:
                        break
                    if chance.random() < 0.3:  # otherwise it may well be killed while it starts
                        before = asker.answers
                        watcher.wait("an answer", lambda before=before: asker.answers > before)  # type: ignore[misc]
                    threading.Event().wait(chance.uniform(0.05, 0.6))  # the random moment itself
                    victim = chance.choice(("worker", "service"))
                    watcher.programs[victim].kill()
                    watcher.programs[victim].start()
                    told[f"{victim} killed"] += 1
            newest = Diary.read(diary_path).finished[-1]
            watcher.wait("the last save", lambda: watcher.latest_name() == newest)
            watcher.wait("nothing to be in work", lambda: all_judged(watcher))
        diary = Diary.read(diary_path)
        take_stock(watcher, output, diary)
        told |= Counter(saved=len(diary.finished), killed_in_mid_save=len(diary.killed), rotated=len(diary.removing))
        told |= Counter(answers=asker.answers, names=len(asker.first_seen), gone_when_read=asker.gone_when_read)
    print(f"seed {SEED}: " + ", ".join(f"{what} {count}" for what, count in told.items()))
    assert asker.answers > kills


class Checker(Asker):
    """Holds each answer, at once, against what the job says that it saved under that name."""

    def __init__(self, watcher: Watcher, diary: Path) -> None:
        super().__init__(watcher)
        self._diary = diary
        self.gone_when_read = 0

    def check(self, answer: Mapping[str, Any]) -> None:
        name = answer["name"]
        try:
            found = digest_on_disk(Path(answer["path"]))
        except OSError:
            found = "partly gone"
        diary = Diary.read(self._diary)
        assert name in diary.finished, f"{name} was handed out and never finished"
        if found != diary.digests[name]:
            assert name in diary.removing, f"{name} is not what was saved: {sorted(os.listdir(answer['path']))}"
            self.gone_when_read += 1


@contextmanager
def endless(output: Path, diary: Path, place: Path) -> Iterator[None]:
    """The job, at work; its last save is finished when this ends."""
    job = subprocess.Popen(
        [sys.executable, endless_job.__file__, str(output), str(diary), str(SEED)],
        stdin=subprocess.PIPE,
        env=environ(place),
    )
    assert job.stdin is not None
    try:
        yield
        job.stdin.close()
        wait_for("the job to end", lambda: job.poll() is not None)
        assert job.returncode == 0
    finally:
        job.kill()
        job.wait()


def all_judged(watcher: Watcher) -> bool:
    there = {path.name for path in watcher.root.glob("checkpoint-*")}
    records = watcher.records()
    return records.keys() == there and all(record["state"] == "verified" for record in records.values())


def take_stock(watcher: Watcher, output: Path, diary: Diary) -> None:
    """Catalog and disk agree, to the last folder."""
    folders = {path.name: path for path in output.glob("checkpoint-*")}
    catalog = Catalog(str(watcher.state_dir))
    records = catalog.records(gone=False)
    catalog.close()
    assert Counter(record.name for record in records) == Counter(list(folders))
    for record in records:
        assert record.fingerprint == take_inventory(str(folders[record.name])).fingerprint
        whole = digest_on_disk(folders[record.name]) == diary.digests[record.name]
        assert whole is (record.name in diary.finished)
        allowed = (Verdict.COMPLETE,) if whole else (Verdict.INCOMPLETE, Verdict.CORRUPT)
        assert record.verdict in allowed, f"{record.name}: {record.verdict}"
    newest = max((record for record in records if record.name in diary.finished), key=lambda record: record.number)
    assert watcher.latest_name() == newest.name == diary.finished[-1]
    with sqlite3.connect(watcher.state_dir / "catalog.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
