"""A job that finds nothing to start from where it runs takes the last good copy from the cloud, and no other's."""

from __future__ import annotations

import json
import logging
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

import lastgood
from builders import hf_files, make_hf_checkpoint, write_files
from cloud_world import Cloud, cloud_in
from commanding import run
from lastgood import client
from lastgood.calling import Service
from lastgood.errors import (
    Conflict,
    NoCheckpointsYet,
    NoneAcceptable,
    NotACheckpoint,
    NotReady,
    RemoteError,
    RunAmbiguous,
    SettingsError,
)
from lastgood.facts import Component
from lastgood.findings import Verdict
from lastgood.inventory import take_inventory
from lastgood.placing import run_meant
from lastgood.resume import Wishes
from lastgood.returning import read_note
from lastgood.settings import read_settings
from pretending import answering
from running import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from s3_servers import S3Server

NOBODY = Service("http://127.0.0.1:1")
UNKNOWN_COPIES = {"code": "cloud-unknown", "message": "the copies are not known yet", "root": None}


@pytest.fixture(scope="module")
def stock(seaweed: S3Server, bucket: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Copies of two runs below `stock` in the bucket, for all tests that only read them. The last one is partial."""
    place = tmp_path_factory.mktemp("stock")
    with pytest.MonkeyPatch.context() as monkeypatch:
        cloud = cloud_in(seaweed, bucket, "stock", monkeypatch)
        cloud.save(place, "team/llama", 100, 200)
        cloud.save(place, "bert", 700)
        lacking = [file for file in hf_files(300) if file[0] != "scheduler.pt"]
        cloud.upload(write_files(place / "team/llama/checkpoint-300", lacking), "team/llama")


@pytest.fixture
def stocked(place: Path, seaweed: S3Server, bucket: str, stock: None, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    return cloud_in(seaweed, bucket, "stock", monkeypatch)


def latest_in(folder: Path, service: Service = NOBODY, wishes: Wishes | None = None, **how: Any) -> dict[str, Any]:
    """As `lastgood latest DIR --fetch` asks."""
    settings = read_settings(os.environ)
    fetch = client.Fetch(settings)
    return client.latest_in(
        str(folder), service, client.Question(wishes or Wishes(), root=settings.root, fetch=fetch, **how)
    )


# --- an empty machine ---


def test_on_an_empty_machine_the_last_good_copy_is_fetched_and_its_path_printed(stocked: Cloud, place: Path) -> None:
    assert run("latest", "llama", "--fetch") == (0, f"{place}/llama/checkpoint-200\n", "")
    assert run("latest", "llama") == (0, f"{place}/llama/checkpoint-200\n", "")
    note = read_note(str(place / "llama"), "checkpoint-200")
    assert note is not None
    assert note.by == "job"


def test_the_answer_is_that_of_our_own_look_and_names_the_copy(stocked: Cloud, place: Path) -> None:
    fetched = json.loads(run("latest", "llama", "--fetch", "--json")[1])
    looked = json.loads(run("latest", "llama", "--json")[1])
    assert (fetched["source"], looked["source"]) == ("cloud", "own look")
    assert fetched["cloud_copy"]["url"].startswith(f"{stocked.store.remote.url()}/team/llama/checkpoint-200-")
    differing = {key for key in looked if fetched[key] != looked[key]}
    assert differing == {"source", "cloud_copy", "verified_at"}
    assert fetched["fingerprint"] == take_inventory(fetched["path"]).fingerprint


def test_the_library_fetches_as_the_command_does(stocked: Cloud, place: Path) -> None:
    assert lastgood.resume_point("llama", fetch=True) == f"{place}/llama/checkpoint-200"
    with pytest.raises(NotACheckpoint, match="no such folder"):
        lastgood.resume_point("bert")


@pytest.mark.parametrize(
    ("wishes", "name"),
    [
        pytest.param(Wishes(accept=Verdict.PARTIAL), "checkpoint-300", id="a partial one will do"),
        pytest.param(Wishes(max_step=150), "checkpoint-100", id="nothing later"),
        pytest.param(Wishes(require=frozenset({Component.OPTIMIZER}), world_size=1), "checkpoint-200", id="its parts"),
    ],
)
def test_a_copy_is_chosen_as_a_checkpoint_here_would_be(stocked: Cloud, place: Path, wishes: Wishes, name: str) -> None:
    assert latest_in(place / "llama", wishes=wishes)["name"] == name


@pytest.mark.parametrize("arguments", [["--max-step", "50"], ["--or-none", "--max-step", "50"]], ids=" ".join)
def test_that_there_are_copies_and_none_will_do_is_no_fresh_start(
    stocked: Cloud, place: Path, arguments: list[str]
) -> None:
    code, printed, complaint = run("latest", "llama", "--fetch", *arguments)
    assert (code, printed) == (1, "")
    assert "none of 3 copies of run team/llama in the cloud can be started from" in complaint
    assert not (place / "llama").exists()


def test_where_only_a_partial_copy_would_do_it_is_said_how_to_ask_for_it(cloud: Cloud, place: Path) -> None:
    lacking = [file for file in hf_files(100) if file[0] != "scheduler.pt"]
    cloud.upload(write_files(place / "there/checkpoint-100", lacking), "llama")
    with pytest.raises(NoneAcceptable, match="checkpoint-100 could be with accept=partial"):
        latest_in(place / "llama")


def test_where_nothing_was_ever_copied_a_job_may_start_from_scratch(cloud: Cloud, place: Path) -> None:
    assert lastgood.resume_point("llama", fetch=True) is None
    assert run("latest", "llama", "--fetch", "--or-none") == (0, "", "")


def test_a_store_that_does_not_answer_is_no_fresh_start(
    cloud: Cloud, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastgood.remote.listing.patiently", lambda doing, _patience: doing())
    monkeypatch.setenv("LASTGOOD_REMOTE_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(RemoteError, match="Could not connect"):
        lastgood.resume_point("llama", fetch=True)


def test_without_a_place_for_copies_nobody_is_told_that_nothing_was_saved(place: Path) -> None:
    (place / "llama").mkdir()
    with pytest.raises(SettingsError, match="no place for copies is set"):
        lastgood.resume_point("llama", fetch=True)
    assert run("latest", "llama", "--fetch", "--or-none")[:2] == (2, "")


def test_a_copy_needs_a_folder_to_come_to(stocked: Cloud) -> None:
    code, printed, complaint = run("latest", "--fetch")
    assert (code, printed) == (2, "")
    assert "lastgood latest DIR --fetch" in complaint


# --- where something lies there ---


def test_nothing_is_fetched_where_something_there_will_do(stocked: Cloud, place: Path) -> None:
    make_hf_checkpoint(place / "llama/checkpoint-50", 50)
    assert latest_in(place / "llama")["source"] == "own look"
    assert os.listdir(place / "llama") == ["checkpoint-50"]


def test_a_copy_is_fetched_beside_what_cannot_be_handed_out(stocked: Cloud, place: Path) -> None:
    write_files(place / "llama/checkpoint-250", hf_files(250)[:3])
    assert latest_in(place / "llama")["name"] == "checkpoint-200"
    assert sorted(os.listdir(place / "llama")) == [".lastgood", "checkpoint-200", "checkpoint-250"]


def test_a_copy_is_not_fetched_over_what_bears_its_name(stocked: Cloud, place: Path) -> None:
    damaged = make_hf_checkpoint(place / "llama/checkpoint-200", 200) / "optimizer.pt"
    damaged.write_bytes(b"no zip")
    with pytest.raises(Conflict, match="move it away first"):
        latest_in(place / "llama")
    assert damaged.read_bytes() == b"no zip"
    assert run("latest", "llama", "--fetch")[0] == 1


def test_a_copy_that_does_not_come_back_whole_is_passed_over(
    cloud: Cloud, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, newer = cloud.save(place / "there", "llama", 100, 200)
    size = (place / "there/llama/checkpoint-200/optimizer.pt").stat().st_size
    cloud.overwrite(f"{newer.key}/optimizer.pt", b"x" * size)
    assert latest_in(place / "llama")["name"] == "checkpoint-100"
    assert "optimizer.pt comes back as other bytes" in caplog.text


def test_what_jobs_could_not_start_from_here_is_not_fetched_again(stocked: Cloud, place: Path) -> None:
    refused = [{"name": "checkpoint-200", "step": 200, "reason": "failed", "message": "2 times in a row"}]
    refusal = {"code": "none-acceptable", "detail": "none of 1", "refused": refused}
    runs = [{"name": "team/llama", "path": str(place / "team/llama")}]
    with answering((404, refusal), place, runs=runs) as made:
        assert latest_in(place / "team/llama", made.service)["name"] == "checkpoint-100"


# --- which run ---


@pytest.mark.parametrize(
    ("folder", "run", "roots", "stored", "meant"),
    [
        pytest.param("/d/llama", None, [], ["llama", "bert"], ("llama", "/d/llama"), id="called like it"),
        pytest.param("/d/llama", None, [], ["team/llama", "bert"], ("team/llama", "/d/llama"), id="at its end"),
        pytest.param("/d/llama", None, [], ["."], (".", "/d/llama"), id="the only one has no name"),
        pytest.param("/d/llama", ".", [], ["llama"], ("llama", "/d/llama"), id="the folder itself"),
        pytest.param("/d/out", "llama", [], ["llama", "bert"], ("llama", "/d/out/llama"), id="named"),
        pytest.param("/d/out", "gpt", [], ["llama", "bert"], None, id="named, and never copied"),
        pytest.param("/d/llama", None, [], [], None, id="nothing was copied"),
        pytest.param("/d/llama", None, [], ["a/llama", "b/llama"], "a/llama, b/llama", id="two are called so"),
        pytest.param("/d/out", None, [], ["llama"], "llama", id="the only one is called otherwise"),
        pytest.param("/d/a/llama", None, ["/d"], ["a/llama", "llama"], ("a/llama", "/d/a/llama"), id="by its place"),
        pytest.param("/d/a/llama", None, ["/d"], ["llama", "b/llama"], None, id="another job's is not taken"),
        pytest.param("/d", None, ["/d"], ["a/llama"], ("a/llama", "/d/a/llama"), id="the only one below the folder"),
        pytest.param("/d", None, ["/d"], ["a", "b"], "a, b", id="several below the folder"),
        pytest.param("/d", "b", ["/d"], ["a", "b"], ("b", "/d/b"), id="one of them"),
        pytest.param("/d", ".", ["/d"], ["a", "."], (".", "/d"), id="the root itself"),
        pytest.param("/d/a", "a/llama", ["/d"], ["a/llama"], ("a/llama", "/d/a/llama"), id="by its whole name"),
        pytest.param("/d/a", "llama", ["/d"], ["a/llama", "llama"], ("a/llama", "/d/a/llama"), id="or from there"),
        pytest.param("/e/y", None, ["/d/x", "/e/y"], ["y", "x"], ("y", "/e/y"), id="one of several roots"),
    ],
)
def test_which_run_a_folder_is(
    folder: str, run: str | None, roots: list[str], stored: list[str], meant: tuple[str, str] | str | None
) -> None:
    if isinstance(meant, str):
        with pytest.raises(RunAmbiguous, match=f"copies[^:]*: {meant}; name one"):
            run_meant(folder, run, roots, stored)
    else:
        assert run_meant(folder, run, roots, stored) == meant


def test_a_folder_that_is_called_like_no_run_is_not_guessed(stocked: Cloud, place: Path) -> None:
    code, printed, complaint = run("latest", "output", "--fetch", "--or-none")
    assert (code, printed) == (2, "")
    assert f"nothing tells which run {place}/output is, of those with copies: bert, team/llama" in complaint
    assert run("latest", "output", "--run", "team/llama", "--fetch") == (
        0,
        f"{place}/output/team/llama/checkpoint-200\n",
        "",
    )


@pytest.mark.parametrize("setting", ["ROOT", "ROOTS"])
def test_a_folder_below_a_watched_one_is_the_run_of_that_place_and_no_other(
    setting: str, stocked: Cloud, place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(f"LASTGOOD_{setting}", str(place / "data"))
    with pytest.raises(NoCheckpointsYet):
        latest_in(place / "data/llama")
    assert "holds no copies of" in caplog.text
    assert latest_in(place / "data/team/llama")["path"] == f"{place}/data/team/llama/checkpoint-200"


def test_where_a_service_watches_its_folders_tell_which_run_is_meant(stocked: Cloud, place: Path) -> None:
    (place / "data").mkdir()
    with answering((404, {}), place / "data", runs=[]) as made:
        with pytest.raises(NoCheckpointsYet):
            latest_in(place / "data/llama", made.service)
        found = latest_in(place / "data/team/llama", made.service, run=".")
    assert found["path"] == f"{place}/data/team/llama/checkpoint-200"


def test_of_several_runs_the_one_that_lies_here_is_meant(stocked: Cloud, place: Path) -> None:
    write_files(place / "data/team/llama/checkpoint-250", hf_files(250)[:3])
    refusal = {"code": "none-acceptable", "detail": "none of 1", "refused": []}
    runs = [
        {"name": "team/llama", "path": str(place / "data/team/llama"), "branches": [{"branch": 1}]},
        {"name": "bert", "path": str(place / "data/bert"), "branches": []},
    ]
    with answering((404, refusal), place / "data", runs=runs) as made:
        assert latest_in(place / "data", made.service)["name"] == "checkpoint-200"
    assert made.asked[1].startswith("/checkpoints/latest?run=team%2Fllama&")


# --- what the service says ---


def test_a_disk_that_is_away_is_not_fetched_over(stocked: Cloud, place: Path) -> None:
    refusal = {"code": "not-ready", "detail": "frozen", "obstacles": [{"code": "root-frozen", "root": str(place)}]}
    with answering((503, refusal), place / "llama") as made, pytest.raises(NotReady):
        latest_in(place / "llama", made.service)
    assert not (place / "llama").exists()


def test_a_refusal_names_the_command_that_fetches_a_copy(place: Path) -> None:
    refusal = {"code": "none-acceptable", "detail": "nothing here", "pull_with": "lastgood pull llama"}
    with answering((404, refusal), place) as made:
        with pytest.raises(NoneAcceptable, match=r"nothing here; a copy in the cloud would do: lastgood pull llama$"):
            client.latest_in(str(place), made.service, client.Question(Wishes()))
        made.answers["/checkpoints/latest"] = (404, refusal | {"detail": "nothing here: lastgood pull llama"})
        with pytest.raises(NoneAcceptable, match=r"^nothing here: lastgood pull llama$"):
            client.latest_in(str(place), made.service, client.Question(Wishes()))


def test_while_nobody_knows_which_copies_there_are_a_job_does_not_start_from_scratch(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_LOOK_EVERY", 0.01)
    with answering((404, {}), place, runs=[], obstacles=[UNKNOWN_COPIES]) as made:
        with pytest.raises(NotReady, match="the copies are not known yet"):
            client.latest_in(str(place), made.service, client.Question(Wishes(), wait=0.05))
        assert len(made.asked) > 1
        make_hf_checkpoint(place / "checkpoint-100", 100)
        assert client.latest_in(str(place), made.service, client.Question(Wishes()))["name"] == "checkpoint-100"


def test_whoever_fetches_asks_the_store_itself(cloud: Cloud, stocked: Cloud, place: Path) -> None:
    (place / "data").mkdir()
    with answering((404, {}), place / "data", runs=[], obstacles=[UNKNOWN_COPIES]) as made:
        assert latest_in(place / "data", made.service, run="bert")["name"] == "checkpoint-700"
        with pytest.raises(NotACheckpoint, match="no such folder"):
            latest_in(place / "data", made.service, run="gpt")
        (place / "data/gpt").mkdir()
        with pytest.raises(NoCheckpointsYet):
            latest_in(place / "data", made.service, run="gpt")


def test_a_fetched_checkpoint_is_fetched_once(stocked: Cloud, place: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lastgood")
    for _ in range(2):
        assert lastgood.resume_point("bert", fetch=True) == f"{place}/bert/checkpoint-700"
    assert caplog.text.count("fetches s3://") == 1
    shutil.rmtree(place / "bert/.lastgood")
    assert lastgood.resume_point("bert") == f"{place}/bert/checkpoint-700"
