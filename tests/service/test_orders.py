"""What is asked of the worker: written down at once, with a place to follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lastgood_service.schemas import RequestShape
from service_world import World, problem

if TYPE_CHECKING:
    from starlette.testclient import TestClient


@pytest.mark.parametrize(
    ("method", "address", "said", "kind", "arguments"),
    [
        ("post", "/verify", None, "verify", {}),
        ("post", "/undo", None, "undo", {}),
        ("delete", "", None, "remove", {}),
        ("post", "/outcome", {"outcome": "ok"}, "outcome", {"outcome": "ok", "error": None}),
        (
            "post",
            "/outcome",
            {"outcome": "failed", "error": "size mismatch"},
            "outcome",
            {"outcome": "failed", "error": "size mismatch"},
        ),
    ],
)
def test_what_is_asked_about_a_checkpoint_becomes_a_request_that_can_be_followed(
    world: World, client: TestClient, method: str, address: str, said: Any, kind: str, arguments: dict[str, Any]
) -> None:
    world.save(50)
    made = world.save(100)
    answer = client.request(method, f"/checkpoints/{made}{address}", json=said, headers=world.authorized)
    assert answer.status_code == 202
    (request,) = world.catalog.open_requests()
    assert (request.kind, request.run, request.name, request.checkpoint_id) == (kind, "llama", "checkpoint-100", made)
    assert request.arguments == arguments
    followed = client.get(answer.headers["location"]).json()
    assert followed == answer.json()
    RequestShape.model_validate(followed)
    world.catalog.close_request(request.id, done=False, result="it is kept: a job would start from it", now=world.now)
    refused = client.get(answer.headers["location"]).json()
    assert (refused["state"], refused["result"]) == ("refused", "it is kept: a job would start from it")


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ({}, "body.outcome"),
        ({"outcome": "splendid"}, "body.outcome"),
        ({"outcome": "failed", "error": "x" * 2001}, "body.error"),
        ({"outcome": "ok", "checkpoint": 3}, "body.checkpoint"),
    ],
)
def test_an_outcome_that_is_none_is_refused(world: World, client: TestClient, said: dict[str, Any], where: str) -> None:
    made = world.save(100)
    found = problem(client.post(f"/checkpoints/{made}/outcome", json=said, headers=world.authorized))
    assert (found["status"], [error["where"] for error in found["errors"]]) == (422, [where])
    assert world.catalog.open_requests() == []


def test_what_jobs_could_not_start_from_is_shown_as_such(world: World, client: TestClient) -> None:
    made = world.save(100)
    shown = []
    for failures in (0, 1, 2):
        world.catalog.count_failures(made, failures)
        found = client.get(f"/checkpoints/{made}").json()
        shown.append((found["failures"], found["failed"]))
    assert shown == [(0, False), (1, False), (2, True)]
    assert problem(client.get("/checkpoints/latest"))["refused"][0]["reason"] == "failed"


# --- retention, now ---


@pytest.mark.parametrize("confirm", [None, "3f1c0a9be2d4"])
def test_the_word_to_apply_names_the_only_run_itself(world: World, client: TestClient, confirm: str | None) -> None:
    world.save(100)
    said = {"confirm": confirm} if confirm else {}
    answer = client.post("/retention/apply", json=said, headers=world.authorized)
    assert (answer.status_code, answer.headers["location"]) == (202, "/requests/1")
    RequestShape.model_validate(answer.json())
    (request,) = world.catalog.open_requests()
    assert (request.kind, request.run, request.name, request.checkpoint_id) == ("apply", "llama", "", None)
    assert request.arguments == {"confirm": confirm}


@pytest.mark.parametrize(
    ("runs", "said", "status", "code"),
    [
        ([], {}, 404, "no-checkpoints-yet"),
        (["llama", "bert"], {}, 409, "run-ambiguous"),
        (["llama"], {"run": "bert"}, 404, "unknown"),
        (["llama"], {"confirm": "x" * 65}, 422, "invalid"),
        (["llama"], {"plan": "x"}, 422, "invalid"),
    ],
)
def test_the_word_to_apply_may_be_refused(
    world: World, client: TestClient, runs: list[str], said: dict[str, str], status: int, code: str
) -> None:
    for run in runs:
        world.save(100, run=run)
    found = problem(client.post("/retention/apply", json=said, headers=world.authorized))
    assert (found["status"], found["code"]) == (status, code)
    assert world.catalog.open_requests() == []
