"""`GET /checkpoints/latest`: the answer, the refusals, and how long an answer is believed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builders import hf_files, write_files
from lastgood.catalog import Root
from lastgood.errors import REFUSALS
from lastgood.findings import Code, Finding, Verdict
from lastgood.latest import resume_point_now
from lastgood.records import Evidence
from lastgood.resume import Wishes, answer_as_json
from lastgood.settings import RunSettings
from lastgood_service import answers
from lastgood_service.schemas import ResumePoint
from service_world import World, problem

if TYPE_CHECKING:
    from starlette.testclient import TestClient

LATEST = "/checkpoints/latest"
WARNING = Finding(Code.STEP_DISAGREES, "trainer_state.json", "the name says 300, the state 290")


def test_the_newest_good_checkpoint_is_handed_out(world: World, client: TestClient) -> None:
    world.save(100)
    world.save(200)
    answer = client.get(LATEST).json()
    assert (answer["name"], answer["step"], answer["path"]) == ("checkpoint-200", 200, world.path(200).rstrip("/"))
    assert (answer["verdict"], answer["evidence"], answer["exact_resume"]) == ("complete", "marker", True)


def test_the_answer_is_what_the_library_makes_and_what_the_schema_declares(world: World, client: TestClient) -> None:
    world.save(100)
    world.save(200, Verdict.CORRUPT)
    world.land(300)
    answer = client.get(LATEST).json()
    made = answer_as_json(resume_point_now(world.catalog.records(), Wishes()))
    assert answer == made
    assert set(answer) == set(ResumePoint.model_fields)
    ResumePoint.model_validate(answer)


def test_newer_ones_that_were_passed_over_are_named_with_the_reason(world: World, client: TestClient) -> None:
    world.save(100)
    world.save(200, Verdict.CORRUPT)
    world.save(300, evidence=Evidence.QUIET)
    skipped = client.get(LATEST).json()["skipped"]
    assert [(one["name"], one["reason"]) for one in skipped] == [
        ("checkpoint-300", "evidence"),
        ("checkpoint-200", "corrupt"),
    ]


@pytest.mark.parametrize(
    ("bytes_done", "rate", "seconds_left"),
    [
        pytest.param(0, 100, 10.0, id="ten seconds are ten"),
        pytest.param(70, 100, 10.0, id="a little less is still ten, so that the answer stays the same"),
        pytest.param(900, 100, 5.0, id="the last second is shown as five"),
        pytest.param(0, 7, 150.0, id="long ones are rounded to half minutes"),
        pytest.param(0, 0, None, id="nothing is guessed before anything was read"),
    ],
)
def test_what_is_being_read_carries_a_coarse_estimate(
    world: World, client: TestClient, bytes_done: int, rate: float, seconds_left: float | None
) -> None:
    world.save(100)
    world.settle(reading := world.land(200))
    progress = {"checkpoint_id": reading, "run": "llama", "name": "checkpoint-200", "bytes_total": 1000}
    world.beat(progress=progress | {"bytes_done": bytes_done, "bytes_per_second": rate})
    (pending,) = client.get(LATEST).json()["pending"]
    assert (pending["name"], pending["seconds_left"]) == ("checkpoint-200", seconds_left)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        pytest.param({}, "checkpoint-100", id="complete alone, when nothing is said"),
        pytest.param({"accept": "partial"}, "checkpoint-200", id="partial where it is accepted"),
        pytest.param({"accept": "partial", "require": "weights,rng"}, "checkpoint-100", id="with what is required"),
        pytest.param({"accept": "partial", "max_step": "150"}, "checkpoint-100", id="not above max_step"),
        pytest.param({"strict": "true"}, "checkpoint-50", id="strict refuses warnings"),
        pytest.param({"world_size": "1"}, "checkpoint-100", id="of as many processes"),
    ],
)
def test_the_asker_narrows_the_choice(world: World, client: TestClient, query: dict[str, str], name: str) -> None:
    world.save(50)
    world.save(100, Verdict.COMPLETE, WARNING)
    world.save(200, Verdict.PARTIAL)
    assert client.get(LATEST, params=query).json()["name"] == name


def test_the_default_of_accept_is_the_setting(world: World) -> None:
    world.save(100)
    world.save(200, Verdict.PARTIAL)
    with world.client(accept="partial") as client:
        assert client.get(LATEST).json()["name"] == "checkpoint-200"
        assert client.get(LATEST, params={"accept": "complete"}).json()["name"] == "checkpoint-100"


def test_a_run_may_have_its_own_default_of_accept(world: World) -> None:
    for run in ("bert", "llama"):
        world.save(100, run=run)
        world.save(200, Verdict.PARTIAL, run=run)
    with world.client(runs={"bert": RunSettings(accept="partial")}) as client:
        names = {run: client.get(LATEST, params={"run": run}).json()["name"] for run in ("bert", "llama")}
        listed = {run["name"]: run["resume_point"]["name"] for run in client.get("/runs").json()["items"]}
        shown = {run["name"]: run["resume_point"]["name"] for run in client.get("/status").json()["runs"]}
    assert names == listed == shown == {"bert": "checkpoint-200", "llama": "checkpoint-100"}


@pytest.mark.parametrize(("order", "name"), [("landed", "checkpoint-50"), ("step", "checkpoint-200")])
def test_which_save_is_the_newest_is_the_setting_too(world: World, order: str, name: str) -> None:
    world.save(100)
    world.save(200)
    world.save(50, branch=2)
    with world.client(order=order) as client:
        assert client.get(LATEST).json()["name"] == name
        (run,) = client.get("/runs").json()["items"]
        assert run["resume_point"]["name"] == name


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ({"accept": "corrupt"}, "accept"),
        ({"require": "weights,luck"}, "require"),
        ({"wait": "601"}, "wait"),
        ({"wait": "nan"}, "wait"),
        ({"max_step": "-1"}, "max_step"),
        ({"world_size": "0"}, "world_size"),
        ({"max_steps": "100"}, "max_steps"),
    ],
)
def test_a_malformed_wish_is_refused_and_named(client: TestClient, query: dict[str, str], where: str) -> None:
    found = problem(client.get(LATEST, params=query))
    assert (found["status"], found["code"]) == (422, "invalid")
    assert [error["where"] for error in found["errors"]] == [f"query.{where}"]


def test_nothing_saved_yet_is_a_404(world: World, client: TestClient) -> None:
    found = problem(client.get(LATEST))
    assert (found["status"], found["code"]) == (404, "no-checkpoints-yet")


def test_copies_that_nothing_was_saved_beside_are_no_fresh_start(world: World, client: TestClient) -> None:
    write_files(Path(world.root) / "best_model", hf_files(100))
    found = problem(client.get(LATEST))
    assert (found["status"], found["code"]) == (404, "none-acceptable")
    assert "nothing here but copies (best_model)" in found["detail"]


def test_copies_are_no_fresh_start_once_what_was_saved_beside_them_is_gone(world: World, client: TestClient) -> None:
    world.discard(world.save(100))
    assert problem(client.get(LATEST))["code"] == "no-checkpoints-yet"
    write_files(Path(world.path(100)).parent / "last_checkpoint", hf_files(100))
    world.times.pass_seconds(answers.STAT_LASTS + 0.1)
    assert problem(client.get(LATEST))["code"] == "none-acceptable"


def test_a_run_without_any_record_does_not_count(world: World, client: TestClient) -> None:
    world.catalog.add_run("empty", world.root, "empty", world.now)
    world.save(100)
    assert client.get(LATEST).json()["run"] == "llama"


def test_the_first_one_in_work_is_named_in_the_refusal(world: World, client: TestClient) -> None:
    world.land(100)
    found = problem(client.get(LATEST))
    assert (found["code"], [p["name"] for p in found["pending"]]) == ("none-acceptable", ["checkpoint-100"])


def test_where_none_is_acceptable_every_reason_is_given_and_the_way_to_a_partial_one(
    world: World, client: TestClient
) -> None:
    world.save(100, Verdict.PARTIAL)
    world.save(200, Verdict.CORRUPT)
    found = problem(client.get(LATEST))
    assert (found["status"], found["code"]) == (404, "none-acceptable")
    assert [one["name"] for one in found["refused"]] == ["checkpoint-200", "checkpoint-100"]
    assert found["best_partial"]["name"] == "checkpoint-100"
    assert found["accept_with"] == "lastgood latest --run llama --accept partial"


def test_with_several_runs_one_has_to_be_named(world: World, client: TestClient) -> None:
    world.save(100, run="llama")
    world.save(100, run="bert")
    found = problem(client.get(LATEST))
    assert (found["status"], found["code"], found["runs"]) == (409, "run-ambiguous", ["bert", "llama"])
    assert client.get(LATEST, params={"run": "bert"}).json()["run"] == "bert"


def test_an_unknown_run_is_refused_with_those_there_are(world: World, client: TestClient) -> None:
    world.save(100)
    found = problem(client.get(LATEST, params={"run": "../etc"}))
    assert (found["status"], found["code"], found["runs"]) == (404, "unknown", ["llama"])
    assert found["detail"].endswith("; there are: 'llama'")  # a run may be called by a dot
    assert "llama" in found["detail"]


def test_runs_of_a_root_that_is_not_watched_today_do_not_count(world: World, client: TestClient) -> None:
    other = str(world.folder / "yesterday")
    world.catalog.remember_root(Root(other, "marker", 1, None))
    world.save(900, run="old", root=other)
    world.save(100)
    assert client.get(LATEST).json()["name"] == "checkpoint-100"
    world.beat(watch={"mode": "events", "degraded": False, "reason": None, "roots": [world.root, other]})
    assert problem(client.get(LATEST))["code"] == "run-ambiguous"


def test_every_refusal_can_be_read_back_by_its_code(world: World, client: TestClient) -> None:
    assert problem(client.get(LATEST))["code"] in REFUSALS


# --- how long an answer is believed ---


def test_an_unchanged_answer_costs_the_asker_a_304(world: World, client: TestClient) -> None:
    world.save(100)
    first = client.get(LATEST)
    again = client.get(LATEST, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    world.save(200)
    changed = client.get(LATEST, headers={"If-None-Match": first.headers["etag"]})
    assert (changed.status_code, changed.json()["name"]) == (200, "checkpoint-200")


def test_heartbeats_leave_the_answer_as_it_is(world: World, client: TestClient) -> None:
    world.save(100)
    first = client.get(LATEST)
    world.times.pass_seconds(5)
    world.beat()
    assert client.get(LATEST, headers={"If-None-Match": first.headers["etag"]}).status_code == 304


@pytest.mark.parametrize(
    "injure",
    [
        pytest.param(lambda path: _write(path, b"rewritten"), id="rewritten"),
        pytest.param(os.unlink, id="a file removed"),
        pytest.param(lambda path: shutil.rmtree(os.path.dirname(path)), id="all removed"),
        pytest.param(lambda path: _write(path + ".new", b""), id="a file added"),
    ],
)
def test_what_changed_on_disk_is_passed_over_within_a_second(world: World, client: TestClient, injure: Any) -> None:
    world.save(100)
    world.save(200)
    assert client.get(LATEST).json()["name"] == "checkpoint-200"
    injure(world.path(200, "model.safetensors"))
    world.times.pass_seconds(1.01)
    answer = client.get(LATEST).json()
    assert (answer["name"], answer["skipped"][0]["reason"]) == ("checkpoint-100", "changed")


def test_a_change_in_the_catalog_shows_at_once(world: World, client: TestClient) -> None:
    world.save(100)
    assert client.get(LATEST).json()["name"] == "checkpoint-100"
    world.save(200)
    assert client.get(LATEST).json()["name"] == "checkpoint-200"


def test_many_kinds_of_wishes_do_not_fill_the_memory(
    world: World, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.save(100)
    monkeypatch.setattr(answers, "_KEPT", 8)
    for step in range(20):
        client.get(LATEST, params={"max_step": 100 + step})
    assert len(client.app.state.desk.answers._kept) == 8  # type: ignore[attr-defined]


# --- when nothing can be vouched for ---


def test_without_a_worker_nothing_is_vouched_for(tmp_path: Any) -> None:
    world = World(tmp_path)
    world.save(100)
    with world.client() as client:
        found = problem(response := client.get(LATEST))
    assert (found["status"], found["code"]) == (503, "not-ready")
    assert [o["code"] for o in found["obstacles"]] == ["worker-never-started"]
    assert int(response.headers["retry-after"]) > 0
    world.catalog.close()


@pytest.mark.parametrize(("silence", "status"), [(14.9, 200), (15.1, 503)], ids=["within its allowance", "beyond it"])
def test_a_worker_that_falls_silent_is_said_to_be(
    world: World, client: TestClient, silence: float, status: int
) -> None:
    world.save(100)
    world.times.pass_seconds(silence)
    assert client.get(LATEST).status_code == status


def test_before_the_first_scan_is_done_nothing_is_vouched_for(world: World, client: TestClient) -> None:
    world.save(100)
    world.beat(first_scan_done=False)
    assert [o["code"] for o in problem(client.get(LATEST))["obstacles"]] == ["first-scan"]


def test_a_frozen_root_refuses_its_own_runs_alone(world: World, client: TestClient) -> None:
    other = str(world.folder / "other")
    world.save(100)
    world.save(100, run="bert", root=other)
    world.beat(watch={"mode": "events", "degraded": False, "reason": None, "roots": [world.root, other]})
    world.freeze("it is not mounted", other)
    found = problem(client.get(LATEST, params={"run": "bert"}))
    assert (found["code"], found["obstacles"][0]["code"]) == ("not-ready", "root-frozen")
    assert "it is not mounted" in found["detail"]
    assert client.get(LATEST, params={"run": "llama"}).status_code == 200


def test_a_run_that_nobody_knows_may_lie_in_the_frozen_root(world: World, client: TestClient) -> None:
    world.freeze("it is not mounted")
    assert problem(client.get(LATEST, params={"run": "bert"}))["code"] == "not-ready"
    assert problem(client.get(LATEST))["code"] == "not-ready"


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
