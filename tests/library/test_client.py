"""Asking from a training job: the service, then its file, then our own look; a refusal never falls back."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from builders import hf_files, make_hf_checkpoint, write_file, write_files
from lastgood import client
from lastgood.client import Lease, Service
from lastgood.errors import (
    CannotTell,
    NoCheckpointsYet,
    NoneAcceptable,
    NotACheckpoint,
    NotAllowed,
    NotReady,
    RunAmbiguous,
    SettingsError,
    Unknown,
    Unreachable,
)
from lastgood.facts import Component
from lastgood.findings import Verdict
from lastgood.inventory import take_inventory
from lastgood.own_look import own_look
from lastgood.resume import Wishes
from pretending import answering, listening
from worker_world import World, world_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WISHES = Wishes()


@pytest.fixture
def nobody() -> Service:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Service(f"http://127.0.0.1:{probe.getsockname()[1]}")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_in(tmp_path) as made:
        yield made


def save(world: World, *steps: int) -> None:
    """Saved and judged, each at a time long ago, so that what comes later is later by more than a second."""
    for step in steps:
        for file in make_hf_checkpoint(world.path(step), step).iterdir():
            os.utime(file, (1e9 + step, 1e9 + step))
        (world.path(step) / "trainer_state.json").chmod(0o644)  # the newest by ctime, as when it was written last
        world.settle()


# --- the service ---


def test_a_service_that_watches_the_folder_is_believed(tmp_path: Path) -> None:
    answer = {"name": "checkpoint-100", "path": "/there/checkpoint-100", "relative_path": "checkpoint-100"}
    with answering((200, answer), tmp_path) as made:
        found = client.latest_in(
            str(tmp_path), made.service, client.Question(Wishes(accept=Verdict.PARTIAL, max_step=300))
        )
    assert found == answer | {"source": "service"}
    assert made.asked[1] == "/checkpoints/latest?run=.&accept=partial&max_step=300"


@pytest.mark.parametrize("kind", [NoCheckpointsYet, NoneAcceptable, RunAmbiguous, Unknown])
def test_a_refusal_is_an_answer_and_nothing_falls_back(kind: type[NoneAcceptable], tmp_path: Path) -> None:
    make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    refusal = {"code": kind.code, "status": 404, "title": "no", "type": "urn:x", "detail": "because", "refused": [1]}
    with answering((404, refusal), tmp_path) as made, pytest.raises(kind, match="because") as caught:
        client.latest_in(str(tmp_path), made.service, client.Question(WISHES))
    assert caught.value.details == {"refused": [1]}


def test_a_root_that_is_away_is_no_reason_to_look_ourselves(tmp_path: Path) -> None:
    make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    refusal = {"code": "not-ready", "detail": "frozen", "obstacles": [{"code": "root-frozen", "root": str(tmp_path)}]}
    with answering((503, refusal), tmp_path) as made, pytest.raises(NotReady):
        client.latest_in(str(tmp_path), made.service, client.Question(WISHES))


def test_a_silent_worker_stops_no_job(tmp_path: Path) -> None:
    make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    refusal = {"code": "not-ready", "detail": "silent", "obstacles": [{"code": "worker-silent", "root": None}]}
    with answering((503, refusal), tmp_path) as made:
        found = client.latest_in(str(tmp_path), made.service, client.Question(WISHES))
    assert (found["name"], found["source"]) == ("checkpoint-100", "own look")


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({"obstacles": [{"code": "worker-silent", "message": "dead", "root": None}]}, id="the worker died"),
        pytest.param({}, id="it has not seen them yet"),
    ],
)
def test_that_nothing_was_saved_is_not_said_while_checkpoints_lie_there(status: dict[str, Any], tmp_path: Path) -> None:
    make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    with answering((404, {}), tmp_path, runs=[], **status) as made:
        assert client.latest_in(str(tmp_path), made.service, client.Question(WISHES))["name"] == "checkpoint-100"


def test_where_nothing_was_saved_yet_it_is_said(tmp_path: Path) -> None:
    with answering((404, {}), tmp_path, runs=[]) as made, pytest.raises(NoCheckpointsYet):
        client.latest_in(str(tmp_path), made.service, client.Question(WISHES))


@pytest.mark.parametrize(
    ("name", "target"),
    [
        pytest.param("checkpoint-100", "../elsewhere", id="a link to a checkpoint"),
        pytest.param("checkpoint-100", "/disk/that/is/away/checkpoint-100", id="a link to a disk that is away"),
        pytest.param("checkpoint-100", "checkpoint-100", id="a link to itself"),
        pytest.param("best_model", None, id="a folder that bears the name of a copy"),
        pytest.param("epoch=1-step=100.ckpt", "../elsewhere/model.safetensors", id="a file that is a whole checkpoint"),
    ],
)
def test_where_copies_and_links_lie_alone_nothing_is_no_answer(name: str, target: str | None, tmp_path: Path) -> None:
    run = tmp_path / "run"
    saved = make_hf_checkpoint(tmp_path / "elsewhere", 100)
    run.mkdir()
    if target is None:
        saved.rename(run / name)
    else:
        (run / name).symlink_to(target)
    with pytest.raises(NoneAcceptable, match=f"but (copies|single files) .{name}.,"):
        own_look(str(run), WISHES)
    with (
        answering((404, {}), run, runs=[]) as made,
        pytest.raises(NoneAcceptable, match=f"but (copies|single files) .{name}.,"),
    ):
        client.latest_in(str(run), made.service, client.Question(WISHES))


def test_a_run_is_found_by_its_name_or_by_its_folder(tmp_path: Path) -> None:
    runs = [{"name": f"output/{name}", "path": str(tmp_path / name)} for name in ("a", "b")]
    with answering((200, {"name": "checkpoint-1"}), tmp_path, runs=runs) as made:
        for run in ("output/a", "a"):
            client.latest_in(str(tmp_path), made.service, client.Question(WISHES, run=run))
            assert made.asked[-1].startswith("/checkpoints/latest?run=output%2Fa&")
        with pytest.raises(RunAmbiguous, match="output/a, output/b"):
            client.latest_in(str(tmp_path), made.service, client.Question(WISHES))
        with pytest.raises(NotACheckpoint, match="misspelt"):
            client.latest_in(str(tmp_path), made.service, client.Question(WISHES, run="misspelt"))
        (tmp_path / "new").mkdir()
        with pytest.raises(NoCheckpointsYet):
            client.latest_in(str(tmp_path), made.service, client.Question(WISHES, run="new"))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("<html>hello</html>", id="a web page"),
        pytest.param({"status": "ok"}, id="another service"),
        pytest.param([1, 2], id="a list"),
        pytest.param("[" * 100_000, id="lists without end"),
        pytest.param({"watch": [1], "runs": [], "obstacles": []}, id="much the same"),
    ],
)
def test_a_server_that_is_not_lastgood_is_passed_by(content: Any, tmp_path: Path) -> None:
    make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    with listening({"/status": (200, content)}) as made:
        assert client.latest_in(str(tmp_path), made.service, client.Question(WISHES))["source"] == "own look"


def test_an_error_of_the_service_is_no_answer(tmp_path: Path) -> None:
    make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    with answering((500, {"detail": "oops"}), tmp_path) as made:
        assert client.latest_in(str(tmp_path), made.service, client.Question(WISHES))["source"] == "own look"
        with pytest.raises(Unreachable, match="oops"):
            client.latest_from_service(made.service, client.Question(WISHES))


def test_a_service_that_watches_another_folder_is_not_asked(tmp_path: Path) -> None:
    make_hf_checkpoint(tmp_path / "mine/checkpoint-100", 100)
    (tmp_path / "other").mkdir()
    with answering((200, {"name": "checkpoint-900"}), tmp_path / "other") as made:
        assert (
            client.latest_in(str(tmp_path / "mine"), made.service, client.Question(WISHES))["name"] == "checkpoint-100"
        )


def test_a_folder_that_is_not_there_is_no_run_without_checkpoints(nobody: Service, tmp_path: Path) -> None:
    with pytest.raises(NotACheckpoint, match="no such folder"):
        client.latest_in(str(tmp_path / "misspelt"), nobody, client.Question(WISHES))


# --- leases ---

LEASE = {"id": 7, "checkpoint_id": 3, "holder": "a job", "until": "2026-01-05T13:00:00+00:00", "pin": False}
POINT = {"id": 3, "name": "checkpoint-100", "path": "/there/checkpoint-100", "relative_path": "checkpoint-100"}
LEASED = {"lease": LEASE, "resume_point": POINT}


@pytest.mark.parametrize(
    ("wishes", "how", "said"),
    [
        pytest.param(WISHES, {}, {"run": ".", "accept": "complete"}, id="nothing but the run"),
        pytest.param(WISHES, {"accept_as_set": True}, {"run": "."}, id="whatever the service has set"),
        pytest.param(
            Wishes(Verdict.PARTIAL, frozenset({Component.RNG}), world_size=2, max_step=9, strict=True),
            {"wait": 1.5},
            {
                "run": ".",
                "accept": "partial",
                "require": ["rng"],
                "world_size": 2,
                "max_step": 9,
                "strict": True,
                "wait": 1.5,
            },
            id="everything",
        ),
    ],
)
def test_a_lease_is_asked_for_with_the_same_wishes(
    wishes: Wishes, how: dict[str, Any], said: dict[str, Any], tmp_path: Path
) -> None:
    with answering((500, {}), tmp_path) as made:
        made.answers["/leases"] = (201, LEASED)
        found = client.latest_in(str(tmp_path), made.service, client.Question(wishes, lease=Lease(90, "a job"), **how))
    assert found == POINT | {"lease": LEASE, "source": "service"}
    assert made.sent == [("POST", "/leases", said | {"holder": "a job", "seconds": 90})]


@pytest.mark.parametrize("kind", [NoCheckpointsYet, NoneAcceptable, RunAmbiguous, Unknown, NotAllowed])
def test_a_refused_lease_is_an_answer_too(kind: type[NoneAcceptable], tmp_path: Path) -> None:
    make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    with answering((200, POINT), tmp_path) as made:
        made.answers["/leases"] = (404, {"code": kind.code, "detail": "because"})
        with pytest.raises(kind, match="because"):
            client.latest_in(str(tmp_path), made.service, client.Question(WISHES, lease=Lease()))


def test_a_job_without_the_token_is_told_and_goes_on_without_a_lease(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with answering((200, POINT), tmp_path) as made:
        made.answers["/leases"] = (401, {"code": "not-allowed", "detail": "send the token"})
        found = client.latest_held_in(str(tmp_path), made.service, client.Question(WISHES, lease=Lease()))
    assert found == POINT | {"source": "service"}
    assert "nothing keeps the resume point from being removed while it is loaded: send the token" in caplog.text


def test_without_a_service_nothing_is_held_and_that_is_said(
    nobody: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    found = client.latest_held_in(str(tmp_path), nobody, client.Question(WISHES, lease=Lease()))
    assert (found["name"], found["source"], "lease" in found) == ("checkpoint-100", "own look", False)
    assert "nothing keeps what is found" in caplog.text


@pytest.mark.parametrize("seconds", [0, 0.5, -1, 31 * 86_400, float("nan")])
def test_a_lease_that_cannot_be_is_refused_here(seconds: float) -> None:
    with pytest.raises(SettingsError, match="from a second to 30 days"):
        Lease(seconds)


@pytest.mark.parametrize(
    ("trouble", "outcome"),
    [
        pytest.param(None, {"outcome": "ok"}, id="it went well"),
        pytest.param("size mismatch", {"outcome": "failed", "error": "size mismatch"}, id="it failed"),
        pytest.param("x" * 9999, {"outcome": "failed", "error": "x" * 1000}, id="with a long story"),
        pytest.param("no \udcff", {"outcome": "failed", "error": "no ?"}, id="over a name that is no text"),
    ],
)
def test_what_was_leased_is_given_back_with_word_of_how_it_went(trouble: str | None, outcome: dict[str, str]) -> None:
    with listening({"/checkpoints/3/outcome": (202, {}), "/leases/7": (204, "")}) as made:
        client.give_back(made.service, POINT | {"lease": LEASE}, trouble)
    assert made.sent == [("POST", "/checkpoints/3/outcome", outcome), ("DELETE", "/leases/7", None)]


def test_what_was_not_leased_is_not_given_back() -> None:
    with listening({}) as made:
        client.give_back(made.service, POINT, None)
    assert made.sent == []


def test_a_service_that_does_not_take_it_back_stops_nobody(nobody: Service) -> None:
    client.give_back(nobody, POINT | {"lease": LEASE}, None)
    outcome_refused = {"/checkpoints/3/outcome": (404, {"code": "unknown", "detail": "gone"}), "/leases/7": (204, "")}
    with listening(outcome_refused) as made:
        client.give_back(made.service, POINT | {"lease": LEASE}, None)
    assert made.sent[-1] == ("DELETE", "/leases/7", None)


def test_each_method_of_the_service_says_what_is_said_and_leaves_out_what_is_not() -> None:
    with listening({"/a": (200, {"found": 1}), "/b": (204, "")}) as made:
        assert made.service.get("/a", {"x": 1, "y": None}) == {"found": 1}
        assert made.service.post("/a", {"x": 1, "y": None}) == {"found": 1}
        assert made.service.put("/a") == {"found": 1}
        assert made.service.delete("/b") is None
    assert made.asked == ["/a?x=1"]
    assert made.sent == [("POST", "/a", {"x": 1}), ("PUT", "/a", {}), ("DELETE", "/b", None)]


# --- where mounts differ ---


def test_the_path_is_seen_from_here_where_mounts_differ(tmp_path: Path) -> None:
    run = tmp_path / "llama"
    make_hf_checkpoint(run / "checkpoint-100", 100)
    status = {"watch": {"roots": ["/data"]}, "runs": [{"name": "llama", "path": "/data/llama"}]}
    answer = {"path": "/data/llama/checkpoint-7", "relative_path": "llama/checkpoint-7"}
    with answering((200, answer), tmp_path, **status) as made:
        found = client.latest_in(str(run), made.service, client.Question(WISHES, root=str(tmp_path)))
    assert found["source"] == "service"
    assert client.rebased(found, str(tmp_path)) == str(run / "checkpoint-7")
    assert client.rebased(found, "") == "/data/llama/checkpoint-7"


def test_what_we_found_ourselves_lies_where_we_saw_it(nobody: Service, tmp_path: Path) -> None:
    make_hf_checkpoint(tmp_path / "llama/checkpoint-100", 100)
    found = client.latest_in(str(tmp_path / "llama"), nobody, client.Question(WISHES, root=str(tmp_path)))
    assert client.rebased(found, str(tmp_path)) == str(tmp_path / "llama/checkpoint-100")


# --- the file ---


def test_without_the_service_its_file_is_believed_while_it_holds(world: World, nobody: Service) -> None:
    save(world, 100, 200)
    found = client.latest_in(str(world.root), nobody, client.Question(WISHES))
    assert (found["name"], found["source"]) == ("checkpoint-200", "file")


def _touch(world: World) -> None:
    path = world.path(200) / "optimizer.pt"
    path.write_bytes(b"x" * path.stat().st_size)


def _save_later(world: World) -> None:
    make_hf_checkpoint(world.path(300), 300)


def _start_again_from_scratch(world: World) -> None:
    make_hf_checkpoint(world.path(50), 50)


def _break_file(world: World, text: str = '{"name": ') -> None:
    (world.root / ".lastgood/latest.json").write_text(text)


def _nest_file(world: World) -> None:
    _break_file(world, "[" * 100_000)


def _spoil_entry(world: World) -> None:
    _break_file(
        world, (world.root / ".lastgood/latest.json").read_text().replace('"components": {', '"components": [], "": {')
    )


@pytest.mark.parametrize(
    ("happens", "name"),
    [
        pytest.param(_touch, "checkpoint-100", id="the checkpoint was rewritten, and is broken now"),
        pytest.param(_save_later, "checkpoint-300", id="a later one was saved"),
        pytest.param(_start_again_from_scratch, "checkpoint-50", id="a new training began at a smaller step"),
        pytest.param(_break_file, "checkpoint-200", id="the file is damaged"),
        pytest.param(_nest_file, "checkpoint-200", id="the file is nested without end"),
        pytest.param(_spoil_entry, "checkpoint-200", id="an entry of the file is something else"),
    ],
)
def test_a_file_that_no_longer_holds_is_passed_by(world: World, nobody: Service, happens: Any, name: str) -> None:
    save(world, 100, 200)
    happens(world)
    found = client.latest_in(str(world.root), nobody, client.Question(WISHES))
    assert (found["name"], found["source"]) == (name, "own look")


def test_a_file_written_for_stricter_wishes_is_passed_by(world: World, nobody: Service) -> None:
    save(world, 100)
    write_files(world.path(200), [file for file in hf_files(200) if file[0] != "scheduler.pt"])
    world.settle()
    assert client.latest_in(str(world.root), nobody, client.Question(WISHES))["name"] == "checkpoint-100"
    found = client.latest_in(str(world.root), nobody, client.Question(Wishes(accept=Verdict.PARTIAL)))
    assert found["name"] == "checkpoint-200"


def test_what_the_watcher_saw_to_be_a_mixture_of_two_saves_is_not_taken_for_whole(
    world: World, nobody: Service
) -> None:
    save(world, 100)
    write_files(world.path(100), hf_files(100)[:4])
    world.settle(10)
    save(world, 200)
    world.settle()
    (world.path(200) / "optimizer.pt").unlink()
    world.settle(10)
    world.stop()
    with pytest.raises(NoneAcceptable) as caught:
        client.latest_in(str(world.root), nobody, client.Question(WISHES))
    assert {found["name"]: found["reason"] for found in caught.value.details["refused"]}[
        "checkpoint-100"
    ] == "incomplete"
    write_files(world.path(100), hf_files(100))
    assert client.latest_in(str(world.root), nobody, client.Question(WISHES))["name"] == "checkpoint-100"


# --- our own look ---


def test_our_own_look_takes_the_newest_that_is_good(tmp_path: Path) -> None:
    for step in (100, 200, 300):
        make_hf_checkpoint(tmp_path / f"checkpoint-{step}", step)
    (tmp_path / "checkpoint-300/optimizer.pt").write_bytes(b"no zip")
    found = own_look(str(tmp_path), WISHES)
    assert found["name"] == "checkpoint-200"
    assert [skipped["name"] for skipped in found["skipped"]] == ["checkpoint-300"]
    assert found["fingerprint"] == take_inventory(found["path"]).fingerprint


def test_an_empty_folder_of_a_killed_save_stops_nobody(tmp_path: Path) -> None:
    make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    (tmp_path / "checkpoint-200").mkdir()
    assert own_look(str(tmp_path), WISHES)["name"] == "checkpoint-100"


def test_a_checkpoint_that_the_disk_does_not_list_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (100, 200):
        make_hf_checkpoint(tmp_path / f"checkpoint-{step}", step)

    def scandir(path: str) -> Any:
        if str(path).endswith("checkpoint-200"):
            raise OSError(5, "Input/output error")
        return real(path)

    real = os.scandir
    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(CannotTell):
        take_inventory(str(tmp_path / "checkpoint-200"))
    assert own_look(str(tmp_path), WISHES)["name"] == "checkpoint-100"


def test_what_somebody_writes_at_this_moment_is_not_handed_out(tmp_path: Path) -> None:
    for step in (100, 200):
        make_hf_checkpoint(tmp_path / f"checkpoint-{step}", step)
    with (tmp_path / "checkpoint-200/optimizer.pt").open("r+b"):
        found = own_look(str(tmp_path), WISHES)
    assert found["name"] == "checkpoint-100"
    assert found["skipped"][0]["reason"] == "evidence"


def test_where_nothing_is_good_every_reason_is_told(tmp_path: Path) -> None:
    write_files(tmp_path / "checkpoint-100", hf_files(100)[:3])
    with pytest.raises(NoneAcceptable) as caught:
        own_look(str(tmp_path), WISHES)
    assert [found["reason"] for found in caught.value.details["refused"]] == ["incomplete"]


def test_links_and_other_runs_are_not_looked_at(tmp_path: Path) -> None:
    make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    make_hf_checkpoint(tmp_path / "other/checkpoint-900", 900)
    (tmp_path / "checkpoint-800").symlink_to(tmp_path / "other/checkpoint-900")
    assert own_look(str(tmp_path), WISHES)["name"] == "checkpoint-100"
    write_file(tmp_path, "notes.txt", b"")


@pytest.mark.parametrize(
    ("content", "token"), [pytest.param("secret\n", "secret", id="its line"), pytest.param(None, "", id="no such file")]
)
def test_the_token_is_read_where_there_is_one(content: str | None, token: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    assert client.token_from(str(tmp_path / "token")) == token
