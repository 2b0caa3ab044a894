"""Copies in the cloud, as the service tells of them: beside what lies here, and where nothing here will do."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lastgood.cloud import Capabilities, CopyState, Proof, copy_as_answer
from lastgood.findings import Verdict
from lastgood.settings import RunSettings
from lastgood.settings_values import UploadWhich
from lastgood_service.schemas import (
    CheckpointDetail,
    CheckpointPage,
    CloudCopyShape,
    Leased,
    ResumePoint,
    Runs,
    RunShape,
    StatusShape,
)
from service_world import NOON, REMOTE, World, errand, problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.testclient import TestClient

LATEST = "/checkpoints/latest"


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    """Of a service with a place for copies, which the worker has looked through."""
    world.listed()
    with world.client(remote=REMOTE) as made:
        yield made


# --- beside what lies here ---


def test_the_answer_tells_of_the_copy_of_what_it_hands_out(world: World, client: TestClient) -> None:
    first, second = world.save(100), world.save(200)
    world.copy(100, of=first)
    copy = world.copy(200, of=second)
    answer = client.get(LATEST).json()
    ResumePoint.model_validate(answer)
    assert answer["cloud_copy"] == copy_as_answer(copy, world.remote)
    assert answer["cloud_copy"]["url"] == f"{REMOTE}/llama/checkpoint-200-000000000000"
    assert (answer["cloud_copy"]["state"], answer["cloud_copy"]["proof"]) == ("proven", "full-object-crc64nvme")


def test_without_a_copy_or_a_place_for_copies_it_tells_of_none(world: World, client: TestClient) -> None:
    made = world.save(100)
    assert client.get(LATEST).json()["cloud_copy"] is None
    world.copy(100, of=made)
    with world.client() as elsewhere:
        assert elsewhere.get(LATEST).json()["cloud_copy"] is None
        assert elsewhere.get("/status").json()["cloud"] is None
        assert elsewhere.get("/runs").json()["items"][0]["cloud"] is None
        assert elsewhere.get("/retention").json()["items"][0]["copies"] is None
        assert elsewhere.get("/copies").json() == {"items": [], "next_cursor": None}


def test_copies_in_another_store_are_not_those_of_this_one(world: World) -> None:
    world.copy(100)
    with world.client(remote=REMOTE, remote_endpoint="https://elsewhere.example") as client:
        assert client.get("/copies").json()["items"] == []
        assert problem(client.get(LATEST))["code"] == "not-ready"


def test_an_answer_changes_as_soon_as_its_copy_does(world: World, client: TestClient) -> None:
    made = world.save(100)
    etags = [client.get(LATEST).headers["etag"]]
    for state in (CopyState.SENDING, CopyState.PROVEN):
        world.copy(100, of=made, state=state)
        answer = client.get(LATEST, headers={"If-None-Match": etags[-1]})
        assert (answer.status_code, answer.json()["cloud_copy"]["state"]) == (200, state.value)
        etags.append(answer.headers["etag"])
    world.times.pass_seconds(5)
    world.beat(cloud=errand("drill"))
    assert client.get(LATEST, headers={"If-None-Match": etags[-1]}).status_code == 304


def test_lists_details_leases_and_runs_tell_of_it_too(world: World, client: TestClient) -> None:
    made = world.save(100)
    world.land(200)
    said = copy_as_answer(world.copy(100, of=made), world.remote)
    listed = client.get("/checkpoints").json()
    CheckpointPage.model_validate(listed)
    assert [item["cloud_copy"] for item in listed["items"]] == [None, said]
    detail = client.get(f"/checkpoints/{made}").json()
    CheckpointDetail.model_validate(detail)
    assert detail["cloud_copy"] == said
    leased = client.post("/leases", json={}, headers=world.authorized).json()
    Leased.model_validate(leased)
    assert leased["resume_point"]["cloud_copy"] == said
    assert client.get("/runs/llama").json()["resume_point"]["cloud_copy"] == said


# --- where nothing here will do ---


@pytest.mark.parametrize("query", [{}, {"run": "llama"}], ids=["not named", "named"])
def test_a_run_that_is_in_the_cloud_alone_is_refused_with_the_way_to_fetch_it(
    world: World, client: TestClient, query: dict[str, str]
) -> None:
    world.copy(100)
    copy = world.copy(200)
    found = problem(client.get(LATEST, params=query))
    assert (found["status"], found["code"]) == (404, "none-acceptable")
    assert found["detail"].endswith("; a proven copy of step 200 is in the cloud: lastgood pull llama")
    assert found["cloud_copy"] == copy_as_answer(copy, world.remote)
    CloudCopyShape.model_validate(found["cloud_copy"])
    assert (found["pull_with"], found["refused"], found["pending"]) == ("lastgood pull llama", [], [])


@pytest.mark.parametrize(
    ("run", "command"),
    [(".", "lastgood pull"), ("a/b", "lastgood pull a/b"), ("my run", "lastgood pull 'my run'")],
)
def test_the_command_names_the_run_as_a_shell_takes_it(
    world: World, client: TestClient, run: str, command: str
) -> None:
    world.copy(100, run=run)
    assert problem(client.get(LATEST))["pull_with"] == command


def test_what_is_here_and_will_not_do_is_named_beside_the_copy(world: World, client: TestClient) -> None:
    world.save(100, Verdict.CORRUPT)
    world.save(200, Verdict.PARTIAL)
    world.copy(50)
    found = problem(client.get(LATEST))
    assert [one["name"] for one in found["refused"]] == ["checkpoint-200", "checkpoint-100"]
    assert found["best_partial"]["name"] == "checkpoint-200"
    assert (found["cloud_copy"]["step"], found["pull_with"]) == (50, "lastgood pull llama")


def test_a_run_that_was_emptied_is_refused_with_its_copy(world: World, client: TestClient) -> None:
    made = world.save(100)
    world.copy(100, of=made)
    shutil.rmtree(world.path(100))
    world.catalog.vanished(made)
    found = problem(client.get(LATEST))
    assert (found["code"], found["pull_with"]) == ("none-acceptable", "lastgood pull llama")


@pytest.mark.parametrize(
    ("query", "step"),
    [
        pytest.param({}, 200, id="complete alone, when nothing is said"),
        pytest.param({"accept": "partial"}, 300, id="partial where it is accepted"),
        pytest.param({"max_step": "150"}, 100, id="not above max_step"),
        pytest.param({"world_size": "2"}, 100, id="of as many processes"),
        pytest.param({"require": "dataloader"}, None, id="with what is required"),
    ],
)
def test_the_copy_that_is_named_is_one_that_the_asker_can_use(
    world: World, client: TestClient, query: dict[str, str], step: int | None
) -> None:
    world.copy(100, world_size=2)
    world.copy(200, world_size=1)
    world.copy(300, world_size=1, verdict=Verdict.PARTIAL)
    found = problem(client.get(LATEST, params=query))
    assert found["code"] == "none-acceptable"
    assert found.get("cloud_copy", {}).get("step") == step


def test_the_runs_own_setting_decides_which_copy_will_do(world: World) -> None:
    world.listed()
    world.copy(200)
    world.copy(300, verdict=Verdict.PARTIAL)
    with world.client(remote=REMOTE, runs={"llama": RunSettings(accept="partial")}) as client:
        assert problem(client.get(LATEST))["cloud_copy"]["step"] == 300


def test_where_no_copy_will_do_it_is_not_said_that_nothing_was_saved(world: World, client: TestClient) -> None:
    world.copy(300, verdict=Verdict.PARTIAL)
    found = problem(client.get(LATEST))
    assert found["code"] == "none-acceptable"
    assert found["detail"].endswith(
        "no copy in the cloud can be handed out; that of step 300 could be with accept=partial"
    )
    assert "pull_with" not in found


@pytest.mark.parametrize(
    ("state", "changes", "code"),
    [
        pytest.param(CopyState.CONFLICT, {}, "none-acceptable", id="something lies under its name"),
        pytest.param(CopyState.FAILED, {"proof": Proof.READ_BACK}, "none-acceptable", id="it came back damaged"),
        pytest.param(CopyState.FAILED, {}, "no-checkpoints-yet", id="it never got there"),
        pytest.param(CopyState.SENDING, {}, "no-checkpoints-yet", id="it is not there yet"),
        pytest.param(CopyState.RETIRED, {"proof": Proof.READ_BACK}, "no-checkpoints-yet", id="its rules let it go"),
        pytest.param(CopyState.MISSING, {"proof": Proof.READ_BACK}, "no-checkpoints-yet", id="somebody removed it"),
    ],
)
def test_what_is_no_proven_copy_is_not_offered(
    world: World, client: TestClient, state: CopyState, changes: dict[str, Any], code: str
) -> None:
    world.copy(100, state=state, **changes)
    found = problem(client.get(LATEST))
    assert (found["code"], found.get("pull_with")) == (code, None)


def test_the_copy_of_what_jobs_could_not_start_from_is_not_offered(world: World, client: TestClient) -> None:
    world.copy(100)
    made = world.save(200)
    world.copy(200, of=made)
    world.catalog.count_failures(made, 2)
    assert problem(client.get(LATEST))["cloud_copy"]["step"] == 100


def test_an_empty_store_that_was_looked_through_means_that_nothing_was_saved(client: TestClient) -> None:
    assert problem(client.get(LATEST))["code"] == "no-checkpoints-yet"
    assert client.get("/readyz").status_code == 200


def test_of_several_runs_in_the_cloud_one_has_to_be_named(world: World, client: TestClient) -> None:
    world.copy(100, run="bert")
    world.copy(200, run="llama")
    found = problem(client.get(LATEST))
    assert (found["status"], found["code"], found["runs"]) == (409, "run-ambiguous", ["bert", "llama"])
    assert problem(client.get(LATEST, params={"run": "bert"}))["cloud_copy"]["step"] == 100
    unknown = problem(client.get(LATEST, params={"run": "gpt"}))
    assert (unknown["code"], unknown["runs"]) == ("unknown", ["bert", "llama"])


def test_what_lies_here_is_the_only_run_whatever_is_in_the_cloud(world: World, client: TestClient) -> None:
    world.copy(900, run="bert")
    world.land(100)
    assert problem(client.get(LATEST))["pending"][0]["name"] == "checkpoint-100"
    world.save(200)
    assert client.get(LATEST).json()["run"] == "llama"


def test_once_nothing_lies_here_any_more_those_in_the_cloud_count_as_well(world: World, client: TestClient) -> None:
    world.catalog.vanished(world.save(100))
    world.copy(900, run="bert")
    assert problem(client.get(LATEST))["runs"] == ["bert", "llama"]
    assert problem(client.get(LATEST, params={"run": "llama"}))["code"] == "no-checkpoints-yet"


@pytest.mark.parametrize("trouble", [None, "Access Denied"])
@pytest.mark.parametrize("query", [{}, {"run": "llama"}], ids=["not named", "named"])
def test_before_the_copies_were_looked_for_nothing_is_said_of_what_is_not_here(
    world: World, client: TestClient, query: dict[str, str], trouble: str | None
) -> None:
    world.listed(listed_at=None, trouble=trouble)
    found = problem(response := client.get(LATEST, params=query))
    assert (found["status"], found["code"]) == (503, "not-ready")
    assert [obstacle["code"] for obstacle in found["obstacles"]] == ["cloud-unknown"]
    assert f"the copies in {REMOTE} are not known yet" in found["detail"]
    assert (trouble or "ask again") in found["detail"]
    assert int(response.headers["retry-after"]) > 0
    status = client.get("/status").json()
    assert (status["ready"], status["obstacles"]) == (False, found["obstacles"])
    assert problem(client.get("/readyz"))["obstacles"] == found["obstacles"]
    world.listed()
    assert problem(client.get(LATEST))["code"] == "no-checkpoints-yet"


def test_the_same_holds_of_a_run_that_was_emptied_and_of_a_store_that_nobody_ever_asked(world: World) -> None:
    world.catalog.vanished(world.save(100))
    with world.client(remote=REMOTE) as client:
        assert [o["code"] for o in problem(client.get(LATEST))["obstacles"]] == ["cloud-unknown"]
        assert client.get("/runs/llama").json()["refusal"]["code"] == "not-ready"


def test_what_lies_here_needs_no_word_from_the_cloud(world: World) -> None:
    world.save(100, run="llama")
    world.save(100, Verdict.CORRUPT, run="bert")
    with world.client(remote=REMOTE) as client:
        assert client.get(LATEST, params={"run": "llama"}).status_code == 200
        assert problem(client.get(LATEST, params={"run": "bert"}))["code"] == "none-acceptable"
        assert problem(client.get(LATEST, params={"run": "gpt"}))["obstacles"][0]["code"] == "cloud-unknown"
        assert client.get("/readyz").status_code == 200


def test_a_frozen_root_and_a_dead_worker_come_before_the_cloud(world: World, client: TestClient) -> None:
    world.copy(100)
    world.freeze("it is not mounted")
    found = problem(client.get(LATEST))
    assert [o["code"] for o in found["obstacles"]] == ["root-frozen"]
    world.times.pass_seconds(60)
    found = problem(client.get(LATEST, params={"run": "llama"}))
    assert [o["code"] for o in found["obstacles"]] == ["worker-silent"]


def test_a_lease_is_refused_in_the_same_words(world: World, client: TestClient) -> None:
    world.copy(100)
    found = problem(client.post("/leases", json={"run": "llama"}, headers=world.authorized))
    assert found == problem(client.get(LATEST))


def test_whoever_waits_for_a_save_in_work_is_told_of_the_copy_at_the_end(tmp_path: Any) -> None:
    world = World(tmp_path, real_clock=True)
    world.beat()
    world.listed()
    world.copy(50)
    world.land(100)
    with world.client(remote=REMOTE) as client:
        found = problem(client.get(LATEST, params={"wait": 0.2}))
    assert (found["pending"][0]["name"], found["cloud_copy"]["step"]) == ("checkpoint-100", 50)
    world.catalog.close()


def test_the_refusal_changes_as_soon_as_the_copies_do(world: World, client: TestClient) -> None:
    world.save(200, Verdict.CORRUPT)
    assert "cloud_copy" not in problem(client.get(LATEST))
    copy = world.copy(100)
    assert problem(client.get(LATEST))["cloud_copy"]["step"] == 100
    world.catalog.write_upload(world.remote.identity, replace(copy, state=CopyState.MISSING))
    assert "cloud_copy" not in problem(client.get(LATEST))


# --- runs and status ---


def test_a_run_counts_its_copies_and_names_those_that_are_still_to_be_made(world: World, client: TestClient) -> None:
    ids = {step: world.save(step) for step in (100, 200, 300, 400)}
    world.save(500, Verdict.CORRUPT)
    newest = world.copy(200, of=ids[200])
    world.copy(100, of=ids[100])
    world.copy(300, of=ids[300], state=CopyState.CONFLICT, error="another one's COMMIT is there")
    world.copy(400, of=ids[400], state=CopyState.FAILED, error="the store is away")
    found = client.get("/runs").json()
    Runs.model_validate(found)
    assert found["items"][0]["cloud"] == {
        "copies": 2,
        "bytes": 2000,
        "newest": copy_as_answer(newest, world.remote),
        "waiting": ["checkpoint-400"],
        "conflicts": ["checkpoint-300"],
    }


@pytest.mark.parametrize(
    ("settings", "waiting"),
    [
        pytest.param({}, ["checkpoint-300", "checkpoint-100"], id="all that are good"),
        pytest.param({"upload": "off"}, [], id="none where they are not copied"),
        pytest.param({"upload_accept": "partial"}, [f"checkpoint-{n}00" for n in (3, 2, 1)], id="partial ones too"),
        pytest.param({"upload_which": UploadWhich(all=False, pinned=True)}, ["checkpoint-100"], id="pinned ones"),
        pytest.param({"upload_which": UploadWhich(all=False, every=300)}, ["checkpoint-300"], id="by their steps"),
    ],
)
def test_what_is_still_to_be_copied_is_as_the_settings_say(
    world: World, settings: dict[str, Any], waiting: list[str]
) -> None:
    world.catalog.pin(world.save(100), holder="a person", now=world.now)
    world.save(200, Verdict.PARTIAL)
    world.save(300)
    with world.client(remote=REMOTE, **settings) as client:
        assert client.get("/status").json()["runs"][0]["cloud"]["waiting"] == waiting
        assert client.get("/runs/llama").json()["cloud"]["waiting"] == waiting


def test_runs_that_are_in_the_cloud_alone_are_listed_with_their_refusal(world: World, client: TestClient) -> None:
    world.save(100, run="llama")
    world.copy(300, run="bert", verdict=Verdict.PARTIAL)
    world.copy(100, run=".")
    world.copy(100, run="removed", state=CopyState.RETIRED)
    status = client.get("/status").json()
    StatusShape.model_validate(status)
    assert client.get("/runs").json()["items"] == status["runs"]
    here, bert, _ = status["runs"]
    assert [run["name"] for run in status["runs"]] == [".", "bert", "llama"]
    assert (here["root"], here["path"], bert["path"]) == (world.root, world.root, f"{world.root}/bert")
    assert (bert["resume_point"], bert["branches"], bert["space"]) == (None, [], None)
    assert bert["counts"]["checkpoints"] == 0
    assert (bert["refusal"]["code"], bert["cloud"]["newest"]["step"]) == ("none-acceptable", 300)
    assert here["refusal"]["details"]["pull_with"] == "lastgood pull"
    assert client.get("/runs/bert").json() == bert
    RunShape.model_validate(bert)


@pytest.mark.parametrize(
    ("run", "root", "path"),
    [
        pytest.param("fast/llama", "/data/fast", "/data/fast/llama", id="below the root it is called after"),
        pytest.param("slow", "/data/slow", "/data/slow", id="the root itself"),
        pytest.param("llama", "/data/fast", "/data/fast/llama", id="the first one, where it is called after none"),
    ],
)
def test_where_a_run_would_lie_is_told_by_its_name(
    world: World, client: TestClient, run: str, root: str, path: str
) -> None:
    roots = ["/data/fast", "/data/slow"]
    world.beat(watch={"mode": "events", "degraded": False, "reason": None, "roots": roots})
    world.copy(100, run=run)
    (found,) = client.get("/runs").json()["items"]
    assert (found["root"], found["path"]) == (root, path)


def test_the_status_tells_of_the_place_for_copies_before_anything_is_known_of_it(world: World) -> None:
    with world.client(remote=REMOTE) as client:
        found = client.get("/status").json()
    StatusShape.model_validate(found)
    known = ("trouble", "listed_at", "probed_at", "drilled_at", "proof", "conditional", "errand")
    assert found["cloud"] == {"url": REMOTE, **dict.fromkeys(known)}


def test_the_status_tells_what_the_place_can_do_and_what_is_wrong_with_it(world: World, client: TestClient) -> None:
    able = Capabilities(
        keeps_crc64=True, refuses_wrong_crc64=True, etag_is_md5_of_parts=True, puts_only_new=True, one_winner=True
    )
    world.listed(able=able, probed_at=NOON, drilled_at=NOON, trouble="Access Denied")
    found = client.get("/status").json()
    StatusShape.model_validate(found)
    assert found["cloud"] == {
        "url": REMOTE,
        "trouble": "Access Denied",
        "listed_at": NOON.isoformat(),
        "probed_at": NOON.isoformat(),
        "drilled_at": NOON.isoformat(),
        "proof": {"whole": "full-object-crc64nvme", "parts": "parts-md5"},
        "conditional": True,
        "errand": None,
    }
    assert found["ready"] is True


@pytest.mark.parametrize(
    ("told", "seconds_left"),
    [
        pytest.param(errand("send", 1), 20.0, id="rounded, so that the answer stays the same for a while"),
        pytest.param(errand("send", 1, bytes_done=0, bytes_per_second=0), None, id="not guessed before it began"),
        pytest.param(errand("list", run=None, name=None, bytes_total=0, bytes_per_second=0), None, id="a look"),
    ],
)
def test_the_status_tells_what_is_sent_and_how_long_it_will_take(
    world: World, client: TestClient, told: dict[str, Any], seconds_left: float | None
) -> None:
    world.beat(cloud=told)
    found = client.get("/status").json()
    StatusShape.model_validate(found)
    assert found["cloud"]["errand"] == {**told["errand"], "seconds_left": seconds_left}
    world.times.pass_seconds(60)
    assert client.get("/status").json()["cloud"]["errand"] is None


def test_while_nothing_happens_the_status_stays_the_same(world: World, client: TestClient) -> None:
    world.copy(100, of=world.save(100))
    etag = client.get("/status").headers["etag"]
    world.times.pass_seconds(5)
    world.beat()
    assert client.get("/status", headers={"If-None-Match": etag}).status_code == 304
    world.listed(trouble="Access Denied")
    assert client.get("/status", headers={"If-None-Match": etag}).status_code == 200
