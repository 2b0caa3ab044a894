"""The list of checkpoints, one of them, events, requests, and the job's word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lastgood.findings import Verdict
from lastgood_service.schemas import CheckpointDetail, CheckpointPage, EventPage, RequestShape
from service_world import FILES, World, problem

if TYPE_CHECKING:
    from starlette.testclient import TestClient


def _names(answer: Any) -> list[str]:
    return [item["name"] for item in answer.json()["items"]]


def test_checkpoints_are_listed_newest_first_as_the_schema_says(world: World, client: TestClient) -> None:
    for step in (100, 200, 300):
        world.save(step)
    answer = client.get("/checkpoints")
    assert _names(answer) == ["checkpoint-300", "checkpoint-200", "checkpoint-100"]
    CheckpointPage.model_validate(answer.json())


def test_pages_follow_each_other_without_gap_or_repeat(world: World, client: TestClient) -> None:
    for step in range(1, 8):
        world.save(step)
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        query: dict[str, Any] = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        answer = client.get("/checkpoints", params=query)
        found += _names(answer)
        cursor, pages = answer.json()["next_cursor"], pages + 1
    assert found == [f"checkpoint-{step}" for step in range(7, 0, -1)]
    assert pages == 3


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"run": "bert"}, ["checkpoint-300"]),
        ({"run": "nobody"}, []),
        ({"verdict": "corrupt"}, ["checkpoint-200"]),
        ({"state": "landing"}, ["checkpoint-400"]),
        ({"state": "gone"}, ["checkpoint-500"]),
        ({"verdict": "complete", "run": "llama"}, ["checkpoint-100"]),
    ],
)
def test_the_list_is_narrowed(world: World, client: TestClient, query: dict[str, str], names: list[str]) -> None:
    world.save(100)
    world.save(200, Verdict.CORRUPT)
    world.save(300, run="bert")
    world.land(400)
    world.catalog.vanished(world.save(500))
    assert _names(client.get("/checkpoints", params=query)) == names


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("/checkpoints?limit=0", "query.limit"),
        ("/checkpoints?limit=501", "query.limit"),
        ("/checkpoints?cursor=nonsense", "query.cursor"),
        ("/checkpoints?cursor=", "query.cursor"),
        ("/checkpoints?cursor=%C3%A9", "query.cursor"),
        ("/checkpoints?verdict=splendid", "query.verdict"),
        ("/checkpoints?page=2", "query.page"),
        ("/checkpoints/first", "path.id"),
        ("/checkpoints/99999999999999999999", "path.id"),
        ("/copies?limit=0", "query.limit"),
        ("/copies?cursor=nonsense", "query.cursor"),
        ("/copies?state=splendid", "query.state"),
        ("/events?since=-1", "query.since"),
        ("/events?limit=501", "query.limit"),
        ("/requests/0", "path.id"),
    ],
)
def test_a_malformed_question_is_refused_and_the_place_named(client: TestClient, address: str, where: str) -> None:
    found = problem(client.get(address))
    assert (found["status"], found["code"]) == (422, "invalid")
    assert [error["where"] for error in found["errors"]] == [where]


def test_one_checkpoint_comes_with_its_report_and_files(world: World, client: TestClient) -> None:
    made = world.save(100, Verdict.CORRUPT)
    found = client.get(f"/checkpoints/{made}").json()
    CheckpointDetail.model_validate(found)
    assert [finding["code"] for finding in found["report"]["findings"]] == ["zip-record-crc"]
    assert [file["path"] for file in found["files"]] == sorted(FILES)


def test_one_that_was_not_judged_has_no_report_yet(world: World, client: TestClient) -> None:
    found = client.get(f"/checkpoints/{world.land(100)}").json()
    CheckpointDetail.model_validate(found)
    assert (found["report"], found["files"], found["verdict"]) == (None, [], None)


@pytest.mark.parametrize("address", ["/checkpoints/77", "/requests/77"])
def test_what_is_not_there_is_a_404(client: TestClient, address: str) -> None:
    assert (problem(client.get(address))["status"], problem(client.get(address))["code"]) == (404, "unknown")


def test_events_are_followed_by_their_ids(world: World, client: TestClient) -> None:
    for number in range(5):
        world.log(f"event {number}")
    first = client.get("/events", params={"limit": 3}).json()
    EventPage.model_validate(first)
    rest = client.get("/events", params={"since": first["next"]}).json()
    assert [e["message"] for e in first["items"] + rest["items"]] == [f"event {n}" for n in range(5)]
    nothing = client.get("/events", params={"since": rest["next"]}).json()
    assert nothing == {"items": [], "next": rest["next"]}


@pytest.mark.parametrize("address", ["/checkpoints", "/checkpoints/1", "/runs", "/status", "/events"])
def test_what_is_polled_answers_304_until_something_happens(world: World, client: TestClient, address: str) -> None:
    made = world.land(100)
    world.log("it landed")
    etag = client.get(address).headers["etag"]
    world.times.pass_seconds(5)
    world.beat()
    for known in (etag, f'W/{etag}, "other"', "*"):
        assert client.get(address, headers={"If-None-Match": known}).status_code == 304
    world.settle(made)
    world.log("it settled")
    assert client.get(address, headers={"If-None-Match": etag}).status_code == 200


# --- the job's word ---


def test_the_jobs_word_becomes_a_request_that_can_be_followed(world: World, client: TestClient) -> None:
    said = {"run": "llama", "name": "checkpoint-100"}
    answer = client.post("/checkpoints/landed", json=said, headers=world.authorized)
    assert answer.status_code == 202
    (request,) = world.catalog.open_requests()
    assert (request.kind, request.run, request.name) == ("landed", "llama", "checkpoint-100")
    followed = client.get(answer.headers["location"]).json()
    assert followed == answer.json()
    RequestShape.model_validate(followed)
    world.catalog.close_request(request.id, done=True, result="checkpoint-100 is settled", now=world.now)
    assert client.get(answer.headers["location"]).json()["state"] == "done"


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ({"run": "llama", "name": "../checkpoint-1"}, "body.name"),
        ({"run": "llama", "name": "a/checkpoint-1"}, "body.name"),
        ({"run": "llama", "name": "checkpoint-1/"}, "body.name"),
        ({"run": "llama", "name": "checkpoint-1\n"}, "body.name"),
        ({"run": "llama", "name": "best_model"}, "body.name"),
        ({"run": "llama", "name": ""}, "body.name"),
        ({"run": "/etc", "name": "checkpoint-1"}, "body.run"),
        ({"run": "a/../b", "name": "checkpoint-1"}, "body.run"),
        ({"run": "a\x00b", "name": "checkpoint-1"}, "body.run"),
        ({"run": "", "name": "checkpoint-1"}, "body.run"),
        ({"name": "checkpoint-1"}, "body.run"),
        ({"run": "llama", "name": "checkpoint-1", "path": "/etc"}, "body.path"),
    ],
)
def test_names_that_are_no_names_are_refused(
    world: World, client: TestClient, said: dict[str, str], where: str
) -> None:
    found = problem(client.post("/checkpoints/landed", json=said, headers=world.authorized))
    assert (found["status"], [error["where"] for error in found["errors"]]) == (422, [where])
    assert world.catalog.open_requests() == []


@pytest.mark.parametrize("run", [".", "a", "a/b/c", "müller's run"])
def test_names_of_runs_are_taken_as_they_are(world: World, client: TestClient, run: str) -> None:
    said = {"run": run, "name": "checkpoint-1"}
    assert client.post("/checkpoints/landed", json=said, headers=world.authorized).json()["run"] == run
