"""Pins and leases: what they hold is not removed."""

from __future__ import annotations

import os
import shutil
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request

from lastgood.errors import Conflict
from lastgood.findings import Verdict
from lastgood_service.schemas import CheckpointDetail, HoldShape, Leased
from service_world import World, problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.testclient import TestClient

DAY = 86_400


def take(world: World, client: TestClient, **question: Any) -> Any:
    return client.post("/leases", json=question, headers=world.authorized)


def holders(world: World, checkpoint_id: int) -> list[str]:
    return [str(hold) for hold in world.catalog.holds(world.now).get(checkpoint_id, ())]


# --- pins ---


@pytest.mark.parametrize(
    ("said", "holder"),
    [
        pytest.param(None, "a person", id="nobody in particular"),
        pytest.param({}, "a person", id="nobody named"),
        pytest.param({"holder": "alice"}, "alice", id="somebody by name"),
    ],
)
def test_a_pin_holds_until_it_is_taken_away(world: World, client: TestClient, said: Any, holder: str) -> None:
    made = world.save(100)
    answer = client.put(f"/checkpoints/{made}/pin", json=said, headers=world.authorized)
    assert answer.status_code == 200
    assert HoldShape.model_validate(answer.json()).pin
    assert (answer.json()["checkpoint_id"], answer.json()["holder"], answer.json()["until"]) == (made, holder, None)
    assert client.get(f"/checkpoints/{made}").json()["holds"] == [answer.json()]
    world.times.pass_seconds(1000 * DAY)
    assert holders(world, made) == [f"pinned by {holder}"]
    gone = client.delete(f"/checkpoints/{made}/pin", headers=world.authorized)
    assert (gone.status_code, gone.content) == (204, b"")
    assert holders(world, made) == []


def test_a_second_pin_is_the_first_one_and_a_second_unpinning_does_nothing(world: World, client: TestClient) -> None:
    made = world.save(100)
    pins = [client.put(f"/checkpoints/{made}/pin", headers=world.authorized).json() for _ in range(2)]
    assert pins[0] == pins[1]
    for _ in range(2):
        assert client.delete(f"/checkpoints/{made}/pin", headers=world.authorized).status_code == 204


def _landing(world: World) -> int:
    return world.land(100)


def _settled(world: World) -> int:
    world.settle(made := world.land(100))
    return made


def _verified(world: World) -> int:
    return world.save(100, Verdict.CORRUPT)


def _removing(world: World) -> int:
    made = world.save(100)
    world.catalog.choose(made, trash="100", until=world.now, now=world.now)
    return made


def _trashed(world: World) -> int:
    world.discard(made := world.save(100))
    return made


def _gone(world: World) -> int:
    world.catalog.vanished(made := world.save(100))
    return made


@pytest.mark.parametrize(
    ("make", "status"),
    [(_landing, 200), (_settled, 200), (_verified, 200), (_removing, 409), (_trashed, 409), (_gone, 409)],
)
def test_what_lies_in_its_place_can_be_pinned(
    world: World, client: TestClient, make: Callable[[World], int], status: int
) -> None:
    answer = client.put(f"/checkpoints/{make(world)}/pin", headers=world.authorized)
    assert answer.status_code == status
    if status == 409:
        assert problem(answer)["code"] == "conflict"


# --- leases ---


def test_a_lease_is_taken_on_the_resume_point_and_comes_with_it(world: World, client: TestClient) -> None:
    world.save(100)
    newest = world.save(200)
    answer = take(world, client, holder="trainer-0")
    assert answer.status_code == 201
    found = answer.json()
    Leased.model_validate(found)
    assert found["resume_point"] == client.get("/checkpoints/latest").json()
    assert (found["lease"]["checkpoint_id"], found["lease"]["holder"]) == (newest, "trainer-0")
    assert answer.headers["location"] == f"/leases/{found['lease']['id']}"
    assert holders(world, newest) == [f"leased by trainer-0 until {(world.now + timedelta(hours=1)).isoformat()}"]


@pytest.mark.parametrize(
    ("question", "settings", "seconds"),
    [
        pytest.param({}, {}, 3600, id="as the setting says"),
        pytest.param({}, {"lease_for": 60}, 60, id="as another setting says"),
        pytest.param({}, {"lease_for": 0}, 1, id="no setting makes it end before it began"),
        pytest.param({}, {"lease_for": 1000 * DAY}, 30 * DAY, id="nor last for ever"),
        pytest.param({"seconds": 1.5}, {}, 1.5, id="as the asker says"),
    ],
)
def test_how_long_a_lease_lasts(
    world: World, question: dict[str, Any], settings: dict[str, Any], seconds: float
) -> None:
    world.save(100)
    with world.client(**settings) as client:
        lease = take(world, client, **question).json()["lease"]
    assert datetime.fromisoformat(lease["until"]) == world.now + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("question", "name"),
    [
        pytest.param({}, "checkpoint-100", id="complete, where nothing is said"),
        pytest.param({"accept": "partial"}, "checkpoint-200", id="partial, where that will do"),
        pytest.param({"accept": "partial", "require": ["rng"]}, "checkpoint-100", id="with what is required"),
        pytest.param({"max_step": 50}, "checkpoint-50", id="not above a step"),
        pytest.param({"world_size": 1, "strict": True}, "checkpoint-100", id="of one process, without warnings"),
    ],
)
def test_wishes_narrow_the_choice_as_they_do_without_a_lease(
    world: World, client: TestClient, question: dict[str, Any], name: str
) -> None:
    for step in (50, 100):
        world.save(step)
    world.save(200, Verdict.PARTIAL)
    assert take(world, client, **question).json()["resume_point"]["name"] == name


@pytest.mark.parametrize(
    ("question", "where"),
    [
        ({"seconds": 0}, "body.seconds"),
        ({"seconds": 30 * DAY + 1}, "body.seconds"),
        ({"holder": ""}, "body.holder"),
        ({"holder": "a\nb"}, "body.holder"),
        ({"holder": "x" * 201}, "body.holder"),
        ({"require": ["luck"]}, "body.require.0"),
        ({"accept": "corrupt"}, "body.accept"),
        ({"wait": 601}, "body.wait"),
        ({"run": "llama", "path": "/etc"}, "body.path"),
    ],
)
def test_a_malformed_wish_is_refused_and_named(
    world: World, client: TestClient, question: dict[str, Any], where: str
) -> None:
    world.save(100)
    found = problem(take(world, client, **question))
    assert (found["status"], [error["where"] for error in found["errors"]]) == (422, [where])
    assert world.catalog.holds(world.now) == {}


def _nothing(world: World) -> None:
    pass


def _damaged(world: World) -> None:
    world.save(100, Verdict.CORRUPT)


def _two_runs(world: World) -> None:
    world.save(100)
    world.save(100, run="bert")


def _silent(world: World) -> None:
    world.save(100)
    world.times.pass_seconds(60)


@pytest.mark.parametrize(
    ("happens", "question", "status", "code"),
    [
        pytest.param(_nothing, {}, 404, "no-checkpoints-yet", id="nothing was saved"),
        pytest.param(_damaged, {}, 404, "none-acceptable", id="nothing is good"),
        pytest.param(_damaged, {"run": "bert"}, 404, "unknown", id="no such run"),
        pytest.param(_two_runs, {}, 409, "run-ambiguous", id="several runs"),
        pytest.param(_silent, {}, 503, "not-ready", id="a worker that fell silent"),
    ],
)
def test_where_there_is_no_resume_point_there_is_no_lease(
    world: World, client: TestClient, happens: Callable[[World], None], question: dict[str, Any], status: int, code: str
) -> None:
    happens(world)
    found = problem(take(world, client, **question))
    assert (found["status"], found["code"]) == (status, code)
    assert world.catalog.holds(world.now) == {}


def test_what_the_worker_chose_for_removal_in_between_is_not_leased(
    world: World, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = world.save(100), world.save(200)
    real = world.catalog.take_lease

    def chosen_first(checkpoint_id: int, **how: Any) -> Any:
        if checkpoint_id == newer:
            world.catalog.choose(newer, trash="200", until=world.now, now=world.now)
        return real(checkpoint_id, **how)

    monkeypatch.setattr(world.catalog, "take_lease", chosen_first)
    assert take(world, client).json()["resume_point"]["name"] == "checkpoint-100"
    assert list(world.catalog.holds(world.now)) == [older]


def test_what_was_rewritten_in_between_is_not_leased_either(
    world: World, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = world.save(100), world.save(200)
    assert client.get("/checkpoints/latest").json()["id"] == newer  # believed for a second from here on
    real = world.catalog.take_lease

    def rewritten_first(checkpoint_id: int, **how: Any) -> Any:
        if checkpoint_id == newer and os.path.exists(world.path(200)):
            shutil.rmtree(world.path(200))
        return real(checkpoint_id, **how)

    monkeypatch.setattr(world.catalog, "take_lease", rewritten_first)
    assert take(world, client).json()["resume_point"]["name"] == "checkpoint-100"
    assert list(world.catalog.holds(world.now)) == [older]


def test_what_is_to_be_read_again_is_not_leased(
    world: World, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = world.save(100), world.save(200)
    real = world.catalog.take_lease

    def reread_first(checkpoint_id: int, **how: Any) -> Any:
        if checkpoint_id == newer:
            world.catalog.recheck(newer, "somebody asked for it")
        return real(checkpoint_id, **how)

    monkeypatch.setattr(world.catalog, "take_lease", reread_first)
    assert take(world, client).json()["resume_point"]["name"] == "checkpoint-100"
    assert list(world.catalog.holds(world.now)) == [older]


def test_checkpoints_that_change_all_the_time_are_said_to_do_so(
    world: World, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.save(100)

    def always_too_late(*_: Any, **__: Any) -> None:
        raise Conflict("the checkpoint is removing")

    monkeypatch.setattr(world.catalog, "take_lease", always_too_late)
    answer = take(world, client)
    assert (problem(answer)["status"], problem(answer)["code"]) == (503, "not-ready")
    assert answer.headers["retry-after"]


def test_nobody_who_has_gone_away_gets_a_lease(
    world: World, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(_: Request) -> bool:
        return True

    world.save(100)
    monkeypatch.setattr(Request, "is_disconnected", gone)
    take(world, client)
    assert world.catalog.holds(world.now) == {}


def test_a_lease_is_renewed_from_now_on_and_given_back(world: World, client: TestClient) -> None:
    made = world.save(100)
    lease = take(world, client, seconds=60).json()["lease"]
    world.times.pass_seconds(50)
    answer = client.put(f"/leases/{lease['id']}", json={"seconds": 60}, headers=world.authorized)
    HoldShape.model_validate(answer.json())
    assert datetime.fromisoformat(answer.json()["until"]) == world.now + timedelta(seconds=60)
    assert client.put(f"/leases/{lease['id']}", headers=world.authorized).status_code == 200
    assert client.delete(f"/leases/{lease['id']}", headers=world.authorized).status_code == 204
    assert holders(world, made) == []


@pytest.mark.parametrize("method", ["put", "delete"])
def test_a_lease_that_was_given_back_is_unknown(world: World, client: TestClient, method: str) -> None:
    world.save(100)
    lease = take(world, client).json()["lease"]
    client.delete(f"/leases/{lease['id']}", headers=world.authorized)
    again = getattr(client, method)(f"/leases/{lease['id']}", headers=world.authorized)
    assert (problem(again)["status"], problem(again)["code"]) == (404, "unknown")


def test_a_lease_that_has_run_out_cannot_be_renewed(world: World, client: TestClient) -> None:
    world.save(100)
    lease = take(world, client, seconds=60).json()["lease"]
    world.times.pass_seconds(61)
    assert problem(client.put(f"/leases/{lease['id']}", headers=world.authorized))["status"] == 404


def test_a_pin_is_no_lease(world: World, client: TestClient) -> None:
    pin = client.put(f"/checkpoints/{world.save(100)}/pin", headers=world.authorized).json()
    for method in (client.put, client.delete):
        assert problem(method(f"/leases/{pin['id']}", headers=world.authorized))["status"] == 404


def test_one_checkpoint_shows_the_leases_and_pins_that_are_in_force(world: World, client: TestClient) -> None:
    made = world.save(100)
    take(world, client, seconds=60, holder="short")
    take(world, client, seconds=600, holder="long")
    client.put(f"/checkpoints/{made}/pin", headers=world.authorized)
    world.times.pass_seconds(61)
    found = client.get(f"/checkpoints/{made}").json()
    CheckpointDetail.model_validate(found)
    assert [(hold["holder"], hold["pin"]) for hold in found["holds"]] == [("long", False), ("a person", True)]


CHANGES = [
    ("put", "/checkpoints/1/pin"),
    ("delete", "/checkpoints/1/pin"),
    ("post", "/leases"),
    ("put", "/leases/1"),
    ("delete", "/leases/1"),
    ("post", "/checkpoints/1/verify"),
    ("post", "/checkpoints/1/outcome"),
    ("post", "/checkpoints/1/undo"),
    ("delete", "/checkpoints/1"),
    ("post", "/retention/apply"),
]


@pytest.mark.parametrize(("method", "address"), CHANGES)
def test_nothing_of_this_is_done_without_the_token(world: World, client: TestClient, method: str, address: str) -> None:
    world.save(100)
    assert problem(client.request(method, address))["status"] == 401
    assert (world.catalog.open_requests(), world.catalog.holds(world.now)) == ([], {})


@pytest.mark.parametrize(("method", "address"), [c for c in CHANGES if "/1" in c[1]])
def test_what_is_not_there_is_a_404(world: World, client: TestClient, method: str, address: str) -> None:
    said = {"outcome": "ok"} if address.endswith("outcome") else None
    found = problem(client.request(method, address, json=said, headers=world.authorized))
    assert (found["status"], found["code"]) == (404, "unknown")
    assert world.catalog.open_requests() == []
