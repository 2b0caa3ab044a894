"""However many ask, the disk is asked once."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from lastgood.errors import CannotTell
from lastgood_service import sharing
from lastgood_service.knowledge import Knowledge, estimate, group, is_watched
from lastgood_service.sharing import Shared

if TYPE_CHECKING:
    from service_world import World


def test_who_asks_at_once_shares_one_piece_of_work_in_another_thread() -> None:
    threads: list[int] = []

    def work() -> int:
        threads.append(threading.get_ident())
        return len(threads)

    async def ask() -> list[int]:
        shared = Shared(work, "/data")
        return await asyncio.gather(*(shared.result() for _ in range(50)))

    assert set(asyncio.run(ask())) == {1}
    assert threads != [threading.get_ident()]


def test_one_who_goes_away_does_not_take_the_work_from_the_others() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        may_end.wait(5)
        return "done"

    async def ask() -> str:
        shared = Shared(work, "/data")
        leaving, staying = (asyncio.ensure_future(shared.result()) for _ in range(2))
        await asyncio.to_thread(begun.wait, 5)
        leaving.cancel()
        may_end.set()
        return await staying

    assert asyncio.run(ask()) == "done"


def test_who_asks_for_fresh_work_does_not_get_what_had_begun_before() -> None:
    world, begun, may_end = ["old"], threading.Event(), threading.Event()

    def work() -> str:
        found = world[0]
        begun.set()
        may_end.wait(5)
        return found

    async def ask() -> list[str]:
        shared = Shared(work, "/data")
        first = asyncio.ensure_future(shared.result())
        await asyncio.to_thread(begun.wait, 5)
        world[0] = "new"
        later = [asyncio.ensure_future(shared.fresh()) for _ in range(3)]
        await asyncio.sleep(0)  # they wait for what runs
        may_end.set()
        return [await first, *await asyncio.gather(*later)]

    assert asyncio.run(ask()) == ["old", "new", "new", "new"]


def test_a_disk_that_does_not_answer_in_time_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "_PATIENCE", 0.05)
    may_end = threading.Event()

    async def ask() -> None:
        with pytest.raises(CannotTell, match="/data"):
            await Shared(lambda: may_end.wait(5), "/data").result()
        may_end.set()

    asyncio.run(ask())


def test_the_catalog_is_read_again_only_where_it_changed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = world.save(100)
    fetched: list[list[int]] = []
    records_since = world.catalog.records_since

    def watched(revision: int) -> Any:
        found = records_since(revision)
        fetched.append([record.id for record in found])
        return found

    async def ask() -> None:
        knowledge = Knowledge(world.catalog)
        await asyncio.gather(*(knowledge.now() for _ in range(20)))
        world.beat()
        known = await knowledge.now()
        second = world.save(200)
        assert [record.id for record in (await knowledge.now()).records["llama"]] == [first, second]
        assert known.records["llama"][0].name == "checkpoint-100"
        assert fetched == [[first], [second]]

    monkeypatch.setattr(world.catalog, "records_since", watched)
    asyncio.run(ask())


def test_a_run_that_is_renamed_takes_its_records_along(world: World) -> None:
    world.save(100)

    async def ask() -> None:
        knowledge = Knowledge(world.catalog)
        assert list((await knowledge.now()).records) == ["llama"]
        world.catalog.add_run("output/llama", world.root, "llama", world.now)
        assert list((await knowledge.now()).records) == ["output/llama"]

    asyncio.run(ask())


def test_without_a_word_of_the_worker_every_root_counts() -> None:
    assert is_watched("/data", ())
    assert is_watched("/data", ("/data", "/more"))
    assert not is_watched("/old", ("/data",))
    assert group([], {}) == {}


def test_more_read_than_expected_is_nothing_left() -> None:
    progress = {"checkpoint_id": 1, "bytes_total": 10, "bytes_done": 20, "bytes_per_second": 5}
    assert estimate(progress) == {1: 0.0}
