"""The plan with every reason, as it is served."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from lastgood import errors
from lastgood.catalog import Root
from lastgood.findings import Verdict
from lastgood.retention import plan, policy_of
from lastgood_service.schemas import CheckpointDetail, Retention
from lastgood_service.sharing import Shared
from service_world import World, problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.testclient import TestClient

TWO_DAYS = timedelta(days=2)


@pytest.fixture
def keeping(world: World) -> Iterator[TestClient]:
    """A client of a service that keeps the last one only, on a root that has long been known."""
    world.known_since(world.now - TWO_DAYS)
    with world.client(keep_last=1) as client:
        yield client


def _plan(client: TestClient, **query: str) -> dict[str, Any]:
    found = client.get("/retention", params=query).json()
    Retention.model_validate(found)
    (item,) = found["items"]
    made: dict[str, Any] = item
    return made


def _actions(client: TestClient) -> dict[str, str]:
    return {decision["name"].removeprefix("checkpoint-"): decision["action"] for decision in _plan(client)["decisions"]}


def test_every_decision_comes_with_its_reasons(world: World, keeping: TestClient) -> None:
    for step in (100, 200, 300):
        world.save(step)
    found = _plan(keeping)
    assert (found["run"], found["policy"]) == ("llama", "keep_last 1, accept complete")
    assert _actions(keeping) == {"100": "remove", "200": "keep", "300": "keep"}
    reasons = {d["name"]: [reason["why"] for reason in d["reasons"]] for d in found["decisions"]}
    assert reasons["checkpoint-300"] == ["resume-point", "last-sound", "keep-last"]
    assert reasons["checkpoint-100"] == ["unwanted"]
    assert found["bytes_freed"] == found["decisions"][0]["bytes"] > 0


def test_the_plan_is_the_one_that_the_library_makes(world: World, keeping: TestClient) -> None:
    for step in (100, 200, 300):
        world.save(step)
    settings = world.settings.model_copy(update={"keep_last": 1})
    made = plan(world.catalog.records(), policy_of(settings, "llama"), {})
    assert _plan(keeping)["plan"] == made.id


def test_without_a_rule_nothing_is_removed_and_nothing_waits(world: World, client: TestClient) -> None:
    for step in (100, 200, 300):
        world.save(step)
    found = _plan(client)
    assert set(_actions(client).values()) == {"keep"}
    assert (found["bytes_freed"], found["waits_for"]) == (0, None)
    assert found["policy"] == "no rule: nothing is removed"


def _observing(world: World) -> None:
    world.known_since(world.now - timedelta(hours=1))


def _frozen(world: World) -> None:
    world.catalog.remember_root(Root(world.root, "marker", 1, "it is not mounted", world.now - TWO_DAYS))


def _nothing(world: World) -> None:
    pass


def _one_more(world: World) -> None:
    world.save(400)
    world.save(500)


@pytest.mark.parametrize(
    ("happens", "code"),
    [
        pytest.param(_nothing, None, id="nothing stands before it"),
        pytest.param(_observing, "observing", id="the root is new"),
        pytest.param(_frozen, "frozen", id="the root is away"),
        pytest.param(_one_more, "confirm", id="more than half would go, and the policy is new"),
    ],
)
def test_what_the_plan_waits_for_is_said(world: World, keeping: TestClient, happens: Any, code: str | None) -> None:
    for step in (100, 200, 300):
        world.save(step)
    happens(world)
    wait = _plan(keeping)["waits_for"]
    assert (wait and wait["code"]) == code
    if code == "observing":
        assert wait["until"] == (world.now + timedelta(hours=23)).isoformat()


def test_a_policy_that_was_carried_out_before_needs_nobodys_word(world: World, keeping: TestClient) -> None:
    for step in (100, 200, 300, 400, 500):
        world.save(step)
    assert _plan(keeping)["waits_for"]["code"] == "confirm"
    world.catalog.remember_policy("llama", "keep_last 1, accept complete")
    assert _plan(keeping)["waits_for"] is None


def test_each_run_has_its_own_policy_and_an_unknown_one_has_none(world: World) -> None:
    from lastgood.settings import RunSettings

    for run in ("bert", "llama/a"):
        for step in (100, 200, 300):
            world.save(step, run=run)
    with world.client(keep_last=1, runs={"llama/a": RunSettings(keep_last=0)}) as client:
        policies = {item["run"]: item["policy"] for item in client.get("/retention").json()["items"]}
        assert _plan(client, run="llama/a")["policy"] == policies["llama/a"]
        assert problem(client.get("/retention", params={"run": "gpt"}))["runs"] == ["bert", "llama/a"]
    assert policies == {"bert": "keep_last 1, accept complete", "llama/a": "no rule: nothing is removed"}


def test_what_changed_on_disk_is_not_relied_on(world: World, keeping: TestClient) -> None:
    for step in (100, 200, 300):
        world.save(step)
    shutil.rmtree(world.path(300))
    found = _plan(keeping)
    assert _actions(keeping) == {"100": "keep", "200": "keep", "300": "keep"}
    assert [reason["why"] for reason in found["decisions"][2]["reasons"]] == ["unsure"]


def test_what_is_leased_or_pinned_is_kept_as_soon_as_it_is_and_no_longer(world: World, keeping: TestClient) -> None:
    first = world.save(100)
    world.save(200)
    world.save(300)
    etag = keeping.get("/retention").headers["etag"]
    world.catalog.take_lease(first, holder="a job", until=world.now + timedelta(seconds=60), now=world.now)
    assert keeping.get("/retention", headers={"If-None-Match": etag}).status_code == 200
    assert _actions(keeping)["100"] == "keep"
    world.times.pass_seconds(61)
    world.beat()
    assert _actions(keeping)["100"] == "remove"
    world.catalog.pin(first, holder="alice", now=world.now)
    assert _plan(keeping)["decisions"][0]["reasons"] == [{"why": "pinned", "message": "pinned by alice"}]


def test_what_is_being_read_again_is_kept_meanwhile(world: World, keeping: TestClient) -> None:
    first = world.save(100)
    world.save(200)
    world.save(300)
    reading = {"checkpoint_id": first, "run": "llama", "name": "checkpoint-100"}
    world.beat(progress=reading | {"bytes_done": 1, "bytes_total": 9, "bytes_per_second": 1})
    assert [reason["why"] for reason in _plan(keeping)["decisions"][0]["reasons"]] == ["in-work"]


def test_the_trash_is_listed_until_when_it_can_be_had_back(world: World, keeping: TestClient) -> None:
    world.save(200)
    until = world.discard(world.save(100))
    found = _plan(keeping)
    assert [(one["name"], one["until"]) for one in found["trash"]] == [("checkpoint-100", until.isoformat())]
    assert [decision["name"] for decision in found["decisions"]] == ["checkpoint-200"]


def test_while_nothing_happens_the_plan_stays_the_same(world: World, keeping: TestClient) -> None:
    world.save(100)
    etag = keeping.get("/retention").headers["etag"]
    world.times.pass_seconds(5)
    world.beat()
    assert keeping.get("/retention", headers={"If-None-Match": etag}).status_code == 304
    world.save(200)
    assert keeping.get("/retention", headers={"If-None-Match": etag}).status_code == 200


def test_where_nothing_was_saved_there_is_no_plan(client: TestClient) -> None:
    assert client.get("/retention").json() == {"items": []}


# --- one checkpoint ---


def test_one_checkpoint_shows_what_becomes_of_it(world: World, keeping: TestClient) -> None:
    ids = [world.save(step) for step in (100, 200, 300)]
    shown = []
    for checkpoint_id in ids:
        found = keeping.get(f"/checkpoints/{checkpoint_id}").json()
        CheckpointDetail.model_validate(found)
        shown.append((found["retention"]["action"], found["retention"]["reasons"][0]["why"]))
    assert shown == [("remove", "unwanted"), ("keep", "last-sound"), ("keep", "resume-point")]


def test_of_what_is_not_in_its_place_nothing_becomes_any_more(world: World, keeping: TestClient) -> None:
    world.save(300)
    until = world.discard(trashed := world.save(100))
    world.catalog.vanished(gone := world.save(200))
    for checkpoint_id, ends in ((trashed, until.isoformat()), (gone, None)):
        found = keeping.get(f"/checkpoints/{checkpoint_id}").json()
        CheckpointDetail.model_validate(found)
        assert (found["retention"], found["until"]) == (None, ends)


def test_of_a_run_that_is_not_watched_today_nothing_is_planned(world: World, keeping: TestClient) -> None:
    made = world.save(100)
    world.beat(watch={"mode": "events", "degraded": False, "reason": None, "roots": ["/elsewhere"]})
    assert keeping.get(f"/checkpoints/{made}").json()["retention"] is None


def test_a_disk_that_does_not_answer_hides_the_plan_and_not_the_checkpoint(
    world: World, keeping: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = world.save(100, Verdict.CORRUPT)

    async def time_out(_: Any) -> None:
        raise errors.CannotTell("reading", "llama", TimeoutError(110, "Connection timed out"))

    keeping.get("/status")
    monkeypatch.setattr(Shared, "fresh", time_out)
    found = keeping.get(f"/checkpoints/{made}").json()
    assert (found["verdict"], found["retention"]) == ("corrupt", None)
    assert problem(keeping.get("/retention"))["code"] == "cannot-tell"
