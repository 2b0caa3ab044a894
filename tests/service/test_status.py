"""Runs, the object for a dashboard, and the probes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lastgood.findings import Verdict
from lastgood_service.schemas import Alive, Ready, Runs, RunShape, StatusShape
from service_world import World, problem

if TYPE_CHECKING:
    from starlette.testclient import TestClient


def test_every_run_comes_with_its_answer_or_its_refusal(world: World, client: TestClient) -> None:
    world.save(100, run="bert")
    world.save(100, Verdict.CORRUPT, run="llama")
    found = client.get("/runs").json()
    Runs.model_validate(found)
    bert, llama = found["items"]
    assert bert["resume_point"] == client.get("/checkpoints/latest?run=bert").json()
    assert bert["refusal"] is None
    assert (llama["resume_point"], llama["refusal"]["code"]) == (None, "none-acceptable")


@pytest.mark.parametrize(
    ("run", "address"),
    [
        ("llama", "/runs/llama"),
        ("llama/a/b", "/runs/llama/a/b"),
        ("llama/a", "/runs/llama%2Fa"),
        (".", "/runs/%2E"),
        (".", "/runs/"),
    ],
)
def test_one_run_is_the_same_object_as_in_the_list(world: World, client: TestClient, run: str, address: str) -> None:
    world.save(100, run=run)
    world.save(100, run="other")
    found = client.get(address)
    RunShape.model_validate(found.json())
    assert found.json() in client.get("/runs").json()["items"]
    assert found.json()["name"] == run
    assert client.get(address, headers={"If-None-Match": found.headers["etag"]}).status_code == 304


def test_a_run_that_there_is_not_is_a_404_with_those_there_are(world: World, client: TestClient) -> None:
    world.save(100)
    found = problem(client.get("/runs/bert"))
    assert (found["status"], found["code"], found["runs"]) == (404, "unknown", ["llama"])


def test_a_run_counts_what_is_there_by_verdict_and_branch(world: World, client: TestClient) -> None:
    sizes = [world.catalog.record(world.save(step))[0].bytes for step in (100, 200)]
    world.save(150, Verdict.PARTIAL, branch=2)
    world.catalog.vanished(world.save(50))
    world.land(300)
    (run,) = client.get("/runs").json()["items"]
    assert run["counts"]["verdicts"] == {"complete": 2, "partial": 1}
    assert run["counts"]["states"] == {"landing": 1, "verified": 3}
    assert run["counts"]["bytes"] == 2 * sum(sizes)
    assert [(b["branch"], b["first_step"], b["last_step"], b["checkpoints"]) for b in run["branches"]] == [
        (1, 50, 300, 3),
        (2, 150, 150, 1),
    ]


def test_the_status_says_all_that_a_dashboard_shows(world: World, client: TestClient) -> None:
    world.save(100)
    world.settle(reading := world.land(200))
    for number in range(25):
        world.log(f"event {number}")
    progress = {"checkpoint_id": reading, "run": "llama", "name": "checkpoint-200"}
    rate = {"bytes_done": 10, "bytes_total": 100, "bytes_per_second": 9}
    world.beat(progress=progress | rate)
    found = client.get("/status").json()
    StatusShape.model_validate(found)
    assert (found["ready"], found["obstacles"], found["worker"]["alive"]) == (True, [], True)
    assert found["runs"] == client.get("/runs").json()["items"]
    assert found["progress"]["seconds_left"] == 10.0
    assert [event["message"] for event in found["events"]] == [f"event {n}" for n in range(5, 25)]
    assert found["watch"]["mode"] == "events"


def test_a_degraded_watch_is_shown_with_its_reason(world: World, client: TestClient) -> None:
    world.beat(watch={"mode": "polling", "degraded": True, "reason": "no events come", "roots": [world.root]})
    assert client.get("/status").json()["watch"] == {
        "mode": "polling",
        "degraded": True,
        "reason": "no events come",
        "roots": [world.root],
    }


def test_a_dead_worker_leaves_the_last_known_resume_point_in_sight(world: World, client: TestClient) -> None:
    world.save(100)
    world.times.pass_seconds(60)
    found = client.get("/status").json()
    StatusShape.model_validate(found)
    assert (found["ready"], found["worker"]["alive"]) == (False, False)
    assert found["worker"]["silent_since"] is not None
    (run,) = found["runs"]
    assert (run["resume_point"]["name"], run["refusal"]["code"]) == ("checkpoint-100", "not-ready")


def test_the_status_of_an_empty_world_is_whole_too(world: World, client: TestClient) -> None:
    found = client.get("/status").json()
    StatusShape.model_validate(found)
    assert (found["runs"], found["events"], found["progress"]) == ([], [], None)


def test_the_probe_of_life_needs_nothing(client: TestClient) -> None:
    Alive.model_validate(client.get("/livez").json())


@pytest.mark.parametrize("trouble", ["silent", "first-scan", "frozen"])
def test_the_probe_of_readiness_says_what_is_in_the_way(world: World, client: TestClient, trouble: str) -> None:
    Ready.model_validate(client.get("/readyz").json())
    if trouble == "silent":
        world.times.pass_seconds(16)
    elif trouble == "first-scan":
        world.beat(first_scan_done=False)
    else:
        world.freeze("it is not mounted")
    found = problem(client.get("/readyz"))
    assert (found["status"], found["code"], len(found["obstacles"])) == (503, "not-ready", 1)
    assert client.get("/livez").status_code == 200
    assert client.get("/status").json()["ready"] is False


def test_several_troubles_are_all_named(world: World, client: TestClient) -> None:
    world.times.pass_seconds(16)
    world.freeze("it is not mounted")
    codes = [obstacle["code"] for obstacle in problem(client.get("/readyz"))["obstacles"]]
    assert codes == ["worker-silent", "root-frozen"]
