"""`wait=`: the answer is held while a newer one is in work, and not a moment longer."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from lastgood.findings import Verdict
from service_world import World, problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.testclient import TestClient

LATEST = "/checkpoints/latest"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """With the real clock: these tests are about waiting."""
    made = World(tmp_path, real_clock=True)
    made.beat()
    yield made
    made.catalog.close()


def _landing(world: World) -> int:
    return world.land(200)


def _settled(world: World) -> int:
    world.settle(made := world.land(200))
    return made


@pytest.mark.parametrize("begin", [_landing, _settled], ids=["landing with a live writer", "being verified"])
@pytest.mark.parametrize("before", [True, False], ids=["with an older one to hand out", "with none yet"])
def test_the_answer_is_held_until_the_newer_one_is_judged(
    world: World, client: TestClient, begin: Callable[[World], int], *, before: bool
) -> None:
    if before:
        world.save(100)
    newer = begin(world)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(client.get, LATEST, params={"wait": 30})
        _until(lambda: bool(client.app.state.desk.answers._kept))  # type: ignore[attr-defined]
        assert not asked.done()
        if begin is _landing:
            world.settle(newer)
        world.judge(newer)
        assert asked.result(timeout=20).json()["name"] == "checkpoint-200"


def test_a_lease_is_taken_on_the_newer_one_once_it_is_judged(world: World, client: TestClient) -> None:
    world.save(100)
    newer = _settled(world)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(client.post, "/leases", json={"wait": 30}, headers=world.authorized)
        _until(lambda: bool(client.app.state.desk.answers._kept))  # type: ignore[attr-defined]
        assert not asked.done()
        world.judge(newer)
        assert asked.result(timeout=20).json()["resume_point"]["name"] == "checkpoint-200"
    assert list(world.catalog.holds(world.now)) == [newer]


def test_the_answer_comes_at_the_time_limit_all_the_same(world: World, client: TestClient) -> None:
    world.save(100)
    world.land(200)
    began = time.monotonic()
    answer = client.get(LATEST, params={"wait": 0.3}).json()
    assert answer["name"] == "checkpoint-100"
    assert [p["name"] for p in answer["pending"]] == ["checkpoint-200"]
    assert 0.3 <= time.monotonic() - began < 15


def test_a_refusal_comes_at_the_time_limit_too(world: World, client: TestClient) -> None:
    world.land(200)
    assert problem(client.get(LATEST, params={"wait": 0.2}))["code"] == "none-acceptable"


def _nothing(world: World) -> None:
    """There is nothing newer."""


def _dead_save(world: World) -> None:
    world.land(200, active=False)


def _older_in_work(world: World) -> None:
    world.land(50)


@pytest.mark.parametrize(
    "also",
    [
        pytest.param(_nothing, id="nothing is in work"),
        pytest.param(_dead_save, id="a dead save is not waited for"),
        pytest.param(_older_in_work, id="what is older is not waited for"),
    ],
)
def test_it_is_not_held_when(world: World, client: TestClient, also: Callable[[World], None]) -> None:
    also(world)
    world.times.pass_seconds(1)
    world.save(100)
    began = time.monotonic()
    assert client.get(LATEST, params={"wait": 30}).json()["name"] == "checkpoint-100"
    assert time.monotonic() - began < 15


def test_nobody_waits_when_all_were_refused_and_none_is_in_work(world: World, client: TestClient) -> None:
    world.save(100, Verdict.CORRUPT)
    began = time.monotonic()
    assert problem(client.get(LATEST, params={"wait": 30}))["code"] == "none-acceptable"
    assert time.monotonic() - began < 15


def test_a_save_that_dies_meanwhile_lets_the_answer_go(world: World, client: TestClient) -> None:
    world.save(100)
    dying = world.land(200)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(client.get, LATEST, params={"wait": 30})
        _until(lambda: bool(client.app.state.desk.answers._kept))  # type: ignore[attr-defined]
        world.catalog.vanished(dying)
        assert asked.result(timeout=20).json()["name"] == "checkpoint-100"


def test_the_service_lets_go_of_held_answers_when_it_ends(world: World, client: TestClient) -> None:
    world.save(100)
    world.land(200)
    client.app.state.desk.closing.set()  # type: ignore[attr-defined]
    began = time.monotonic()
    assert client.get(LATEST, params={"wait": 30}).json()["name"] == "checkpoint-100"
    assert time.monotonic() - began < 15


def _until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.01)
