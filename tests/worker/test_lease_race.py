"""A reader takes a lease in the very moment in which the worker removes: one of them loses, and no file does."""

from __future__ import annotations

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from builders import make_hf_checkpoint
from lastgood.catalog import Catalog
from lastgood.errors import Conflict
from lastgood.latest import is_as_verified

if TYPE_CHECKING:
    from pathlib import Path

    from worker_world import World

ROUNDS: Final = 200


def test_a_reader_that_was_given_a_lease_loses_no_file_to_retention(world: World) -> None:
    for step in (100, 200, 300):
        make_hf_checkpoint(world.path(step), step)
    world.settle()
    record = world.record("checkpoint-100")
    bytes_of = {path.name: path.read_bytes() for path in world.path(100).iterdir()}
    readers, chance, told = Catalog(world.settings.state_dir), random.Random(1), Counter[str]()
    both = threading.Barrier(2)

    def read(pause: float) -> str:
        both.wait()
        threading.Event().wait(pause)  # the race itself
        try:
            lease = readers.take_lease(record.id, holder="reader", until=world.now + timedelta(hours=1), now=world.now)
        except Conflict:
            return "the worker was first"
        for _ in range(5):  # as a job does that loads it
            assert is_as_verified(record)
            assert {path.name: path.read_bytes() for path in world.path(100).iterdir()} == bytes_of
        readers.end_lease(lease.id)
        return "the reader was first"

    with ThreadPoolExecutor(1) as reader:
        for _ in range(ROUNDS):
            reading = reader.submit(read, chance.uniform(0, 0.02))
            both.wait()
            answer = world.ask("remove", "checkpoint-100")
            told[reading.result()] += 1
            assert answer.startswith("done") or "leased by reader" in answer or "somebody holds it" in answer
            give_back(world, world.path(100))
    readers.close()
    print(f"{ROUNDS} rounds: {dict(told)}")
    assert set(told) == {"the worker was first", "the reader was first"}


def give_back(world: World, path: Path) -> None:
    """As it was before the round."""
    if not path.exists():
        assert world.ask("undo", path.name).startswith("done")
    world.catalog.unpin(world.record(path.name).id)
