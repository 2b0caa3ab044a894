"""The plan for copies, what is asked of the worker about them, and the list of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from lastgood import rendering
from lastgood.cloud import CopyState, copy_as_answer, plan_of_copies
from lastgood.retention import remote_policy_of
from lastgood.settings_values import KeepBest
from lastgood_service.schemas import CopyPage, RequestShape, Retention
from service_world import NOON, REMOTE, World, errand, problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.testclient import TestClient


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    """Of a service with a place for copies, which the worker has looked through."""
    world.listed()
    with world.client(remote=REMOTE) as made:
        yield made


# --- retention ---


@pytest.fixture
def keeping(world: World) -> Iterator[TestClient]:
    """A service that keeps the last one here only, and that must have copies first."""
    world.known_since(world.now - timedelta(days=2))
    world.listed()
    with world.client(remote=REMOTE, keep_last=1, upload="required") as client:
        yield client


def _plan(client: TestClient) -> dict[str, Any]:
    found = client.get("/retention").json()
    Retention.model_validate(found)
    (plan,) = found["items"]
    return dict(plan)


def _reasons(client: TestClient) -> dict[int, list[str]]:
    return {d["step"]: [reason["why"] for reason in d["reasons"]] for d in _plan(client)["decisions"]}


def test_what_must_be_copied_first_is_kept_until_its_copy_is_proven(world: World, keeping: TestClient) -> None:
    ids = {step: world.save(step) for step in (100, 200, 300, 400)}
    world.copy(100, of=ids[100], state=CopyState.SENDING)
    world.copy(200, of=ids[200])
    assert _reasons(keeping)[100] == ["not-copied"]
    assert _reasons(keeping)[200] == ["unwanted"]
    detail = keeping.get(f"/checkpoints/{ids[100]}").json()
    assert (detail["retention"]["action"], detail["retention"]["reasons"][0]["why"]) == ("keep", "not-copied")
    world.copy(100, of=ids[100])
    assert _reasons(keeping)[100] == ["unwanted"]


def test_what_is_being_sent_stays_meanwhile_and_what_is_fetched_is_not_meant(world: World, keeping: TestClient) -> None:
    for step in (100, 200, 300, 400):
        world.copy(step, of=world.save(step))
    (first, *_) = (record.id for record in world.catalog.records())
    for kind, why in (("send", ["in-work"]), ("fetch", ["unwanted"])):
        world.beat(cloud=errand(kind, first))
        assert _reasons(keeping)[100] == why


def test_copies_are_planned_by_rules_of_their_own_as_the_worker_plans_them(world: World, client: TestClient) -> None:
    saved = world.save(500)
    copies = [world.copy(step, metrics={"eval_loss": step / 100}) for step in (100, 200, 300, 400)]
    copies.append(world.copy(500, of=saved))
    world.copy(600, state=CopyState.SENDING)
    assert {decision["action"] for decision in _plan(client)["copies"]["decisions"]} == {"keep"}
    chosen = {"remote": REMOTE, "remote_keep_last": 1, "remote_keep_best": KeepBest(1, "eval_loss", "min")}
    with world.client(**chosen) as keeping:
        planned = _plan(keeping)["copies"]
    policy = remote_policy_of(world.settings.model_copy(update=chosen), "llama")
    by_the_worker = plan_of_copies(copies, policy, {}, now=world.now, carried_out=None)
    assert planned["policy"] == "keep_last 1, keep_best 1 by eval_loss min, accept complete"
    assert planned["plan"] == by_the_worker.plan.id
    assert {d["step"]: d["action"] for d in planned["decisions"]} == {
        100: "keep",
        200: "remove",
        300: "remove",
        400: "keep",
        500: "keep",
    }
    assert planned["decisions"][0]["url"] == f"{REMOTE}/llama/checkpoint-100-000000000000"
    assert [reason["why"] for reason in planned["decisions"][0]["reasons"]] == ["keep-best"]


def test_a_pin_holds_the_copy_too_and_a_lease_does_not(world: World) -> None:
    ids = {step: world.save(step) for step in (100, 200, 300, 400)}
    for step, made in ids.items():
        world.copy(step, of=made)
    world.catalog.take_lease(ids[100], holder="a job", until=world.now + timedelta(hours=1), now=world.now)
    world.catalog.pin(ids[200], holder="alice", now=world.now)
    with world.client(remote=REMOTE, remote_keep_last=1) as client:
        copies = _plan(client)["copies"]["decisions"]
    assert [(d["step"], d["action"]) for d in copies[:2]] == [(100, "remove"), (200, "keep")]


def test_a_new_policy_for_copies_that_would_remove_most_of_them_waits_for_a_persons_word(world: World) -> None:
    world.save(900)
    for step in range(100, 600, 100):
        world.copy(step)
    with world.client(remote=REMOTE, remote_keep_last=1) as client:
        copies = _plan(client)["copies"]
        assert (copies["waits_for"]["code"], copies["plan"] in copies["waits_for"]["message"]) == ("confirm", True)
        printed = rendering.retention(client.get("/retention").json())
        assert "  copies in the cloud: keep_last 1, accept complete\n  REMOVE  checkpoint-100  step 100  " in printed
        assert (
            f"  would remove 3 of 5 copies; plan {copies['plan']}\n  waits: {copies['waits_for']['message']}\n"
            in printed
        )
        assert printed.endswith(f"lastgood retention --run llama --apply --confirm {copies['plan']}")
        world.catalog.remember_policy("llama", copies["policy"], remote=True)
        assert _plan(client)["copies"]["waits_for"] is None


def test_runs_that_are_in_the_cloud_alone_have_no_plan_here(world: World, client: TestClient) -> None:
    world.copy(100, run="bert")
    assert client.get("/retention").json() == {"items": []}
    assert problem(client.get("/retention", params={"run": "bert"}))["code"] == "unknown"


# --- what is asked of the worker ---


def _pushed(world: World) -> int:
    return world.save(100)


def _gone_and_proven(world: World) -> int:
    made = world.save(100)
    world.copy(100, of=made)
    world.catalog.vanished(made)
    return made


@pytest.mark.parametrize(("kind", "make"), [("push", _pushed), ("pull", _gone_and_proven)])
def test_a_copy_is_sent_or_fetched_on_request(world: World, client: TestClient, kind: str, make: Any) -> None:
    made = make(world)
    answer = client.post(f"/checkpoints/{made}/{kind}", headers=world.authorized)
    assert (answer.status_code, answer.headers["location"]) == (202, "/requests/1")
    RequestShape.model_validate(answer.json())
    (request,) = world.catalog.open_requests()
    assert (request.kind, request.run, request.name, request.checkpoint_id) == (kind, "llama", "checkpoint-100", made)
    assert client.get("/requests/1").json() == answer.json()


def test_the_store_is_looked_at_anew_on_request(world: World, client: TestClient) -> None:
    answer = client.post("/copies/probe", headers=world.authorized)
    assert (answer.status_code, answer.headers["location"]) == (202, "/requests/1")
    RequestShape.model_validate(answer.json())
    (request,) = world.catalog.open_requests()
    assert (request.kind, request.run, request.name, request.checkpoint_id) == ("probe", "", "", None)


@pytest.mark.parametrize("address", ["/checkpoints/1/push", "/checkpoints/1/pull", "/copies/probe"])
def test_none_of_it_is_done_without_the_token(world: World, client: TestClient, address: str) -> None:
    _gone_and_proven(world)
    assert problem(client.post(address))["status"] == 401
    assert world.catalog.open_requests() == []


def _no_copy(world: World) -> int:
    made = world.save(100)
    world.catalog.vanished(made)
    return made


def _not_proven(world: World) -> int:
    made = _no_copy(world)
    world.copy(100, of=made, state=CopyState.FAILED)
    return made


def _in_its_place(world: World) -> int:
    made = world.save(100)
    world.copy(100, of=made)
    return made


def _written_anew(world: World) -> int:
    made = _in_its_place(world)
    world.catalog.rewritten(made)
    world.land(100)
    return made


@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(_no_copy, "no proven copy of checkpoint-100 is known", id="it has no copy"),
        pytest.param(_not_proven, "no proven copy of checkpoint-100 is known", id="its copy is not proven"),
        pytest.param(_in_its_place, "is there already", id="it is in its place"),
        pytest.param(_written_anew, "is there already", id="a later one is in its place"),
    ],
)
def test_nothing_is_fetched_where_it_cannot_be(world: World, client: TestClient, make: Any, why: str) -> None:
    found = problem(client.post(f"/checkpoints/{make(world)}/pull", headers=world.authorized))
    assert (found["status"], found["code"], why in found["detail"]) == (409, "conflict", True)
    assert world.catalog.open_requests() == []


@pytest.mark.parametrize("kind", ["push", "pull"])
def test_where_no_place_for_copies_is_set_nothing_is_sent_or_fetched(world: World, kind: str) -> None:
    made = _gone_and_proven(world)
    with world.client() as client:
        found = problem(client.post(f"/checkpoints/{made}/{kind}", headers=world.authorized))
    assert (found["status"], found["code"]) == (409, "conflict")


@pytest.mark.parametrize("kind", ["push", "pull"])
def test_a_checkpoint_that_there_is_not_cannot_be_sent_or_fetched(world: World, client: TestClient, kind: str) -> None:
    found = problem(client.post(f"/checkpoints/77/{kind}", headers=world.authorized))
    assert (found["status"], found["code"]) == (404, "unknown")


# --- the list of copies ---


def test_all_copies_are_listed_the_newest_first(world: World, client: TestClient) -> None:
    made = world.save(100)
    first = world.copy(100, of=made)
    world.catalog.write_upload(world.remote.identity, replace(first, checked_at=NOON))
    world.copy(200, run="bert", state=CopyState.SENDING)
    found = client.get("/copies").json()
    CopyPage.model_validate(found)
    bert, llama = found["items"]
    assert llama == {
        **copy_as_answer(first, world.remote),
        "checkpoint_id": made,
        "checked_at": NOON.isoformat(),
    }
    assert (bert["run"], bert["state"], bert["checkpoint_id"], bert["checked_at"]) == ("bert", "sending", None, None)


@pytest.mark.parametrize(
    ("query", "steps"),
    [
        ({}, [400, 300, 100]),
        ({"run": "bert"}, [300]),
        ({"run": "nobody"}, []),
        ({"state": "failed"}, [400]),
        ({"state": "missing"}, [200]),
    ],
)
def test_the_list_of_copies_is_narrowed(
    world: World, client: TestClient, query: dict[str, str], steps: list[int]
) -> None:
    world.copy(100)
    world.copy(200, state=CopyState.MISSING)
    world.copy(300, run="bert")
    world.copy(400, state=CopyState.FAILED)
    assert [item["step"] for item in client.get("/copies", params=query).json()["items"]] == steps


def test_pages_of_copies_follow_each_other_without_gap_or_repeat(world: World, client: TestClient) -> None:
    for step in range(1, 8):
        world.copy(step)
    steps: list[int] = []
    query: dict[str, Any] = {"limit": 3}
    while query:
        found = client.get("/copies", params=query).json()
        steps += [item["step"] for item in found["items"]]
        query = {"limit": 3, "cursor": found["next_cursor"]} if found["next_cursor"] else {}
    assert steps == [7, 6, 5, 4, 3, 2, 1]


def test_the_list_of_copies_answers_304_until_one_changes(world: World, client: TestClient) -> None:
    world.copy(100)
    etag = client.get("/copies").headers["etag"]
    world.save(100)
    assert client.get("/copies", headers={"If-None-Match": etag}).status_code == 304
    world.copy(200)
    assert client.get("/copies", headers={"If-None-Match": etag}).status_code == 200
