"""Copies in the cloud by the commands, against real stores: fetched, listed, checked, asked for."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from builders import hf_files, make_hf_checkpoint, write_files
from cloud_world import Cloud, cloud_in
from commanding import run
from lastgood import progress, rendering_copies
from lastgood.cli import copying
from lastgood.cloud import CloudCopy, CopyState, Remote
from lastgood.cloud.words import capabilities_from_json
from lastgood.placing import folder_of_run
from lastgood.remote import find_copies, find_runs
from lastgood.remote.store import Listed
from lastgood.returning import read_note
from lastgood.verify import verify
from pretending import READY, listening
from running import environ, free_port
from service_process import serving
from service_world import NOON, REMOTE, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3_servers import S3Server


@pytest.fixture(scope="module")
def stock(seaweed: S3Server, bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is copied below `stock` in the bucket, once for all tests that only read it."""
    place = tmp_path_factory.mktemp("stock")
    with pytest.MonkeyPatch.context() as monkeypatch:
        cloud = cloud_in(seaweed, bucket, "stock", monkeypatch)
        cloud.save(place, "llama", 100, 200)
        for name in (".", "bert", "x/llama", "z/llama"):
            cloud.save(place, name, 100)
    return place


@pytest.fixture
def stocked(place: Path, seaweed: S3Server, bucket: str, stock: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    return cloud_in(seaweed, bucket, "stock", monkeypatch)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file, with its bytes and its time."""
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}


# --- pull ---


def test_what_a_job_should_start_from_is_fetched_and_its_path_is_all_that_is_printed(
    stocked: Cloud, stock: Path, place: Path
) -> None:
    assert run("pull", "llama") == (0, f"{place}/llama/checkpoint-200\n", "")
    assert contents(place / "llama/checkpoint-200") == contents(stock / "llama/checkpoint-200")
    assert os.listdir(place / "llama/.lastgood/pulling") == []
    note = read_note(str(place / "llama"), "checkpoint-200")
    assert note is not None
    assert note.by == "person"


def test_another_step_is_fetched_where_it_is_named(stocked: Cloud, place: Path) -> None:
    assert run("pull", "llama", "--step", 100) == (0, f"{place}/llama/checkpoint-100\n", "")


def test_of_one_step_saved_twice_the_later_save_is_fetched(cloud: Cloud, place: Path) -> None:
    first, again = cloud.save(place / "there", "llama", 100) + cloud.save(place / "again", "llama", 100, weight_rows=5)
    assert first.key != again.key
    printed = run("pull", "llama", "--step", 100, "--json")[1]
    assert json.loads(printed)["url"] == cloud.store.remote.url(max((first, again), key=lambda c: c.saved_at).key)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param([], "copies of several runs: ., bert, llama, x/llama, z/llama; name one of them", id="several"),
        pytest.param(["lama"], "of run lama; it holds those of ., bert, llama, x/llama, z/llama", id="misspelt"),
        pytest.param(
            ["llama", "--step", 7], "no proven copy of step 7; there are those of 100, 200", id="no such step"
        ),
        pytest.param(["llama", "--step", "x"], "Invalid value", id="no step at all"),
    ],
)
def test_what_is_not_clearly_meant_is_not_guessed(stocked: Cloud, arguments: list[Any], complaint: str) -> None:
    code, printed, complained = run("pull", *arguments)
    assert (code, printed) == (2, "")
    assert complaint in complained


def test_where_there_are_no_copies_nothing_is_fetched(cloud: Cloud) -> None:
    assert "there are no copies in s3://" in run("pull")[2]
    code, printed, complaint = run("pull", "llama")
    assert (code, printed) == (2, "")
    assert "holds no copies of run llama; it holds none at all" in complaint


def test_the_only_run_need_not_be_named(cloud: Cloud, place: Path) -> None:
    cloud.save(place / "there", "team/llama", 100)
    assert run("pull") == (0, f"{place}/team/llama/checkpoint-100\n", "")


def test_a_partial_copy_is_fetched_only_where_that_will_do(
    cloud: Cloud, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = [file for file in hf_files(100) if file[0] != "scheduler.pt"]
    cloud.upload(write_files(place / "there/checkpoint-100", lacking), "llama")
    code, printed, complaint = run("pull")
    assert (code, printed) == (1, "")
    assert "no copy of run llama can be started from; checkpoint-100 could be with --accept partial" in complaint
    assert run("pull", "--accept", "partial", "--into", "a")[0] == 0
    assert run("pull", "--step", 100, "--into", "b")[0] == 0
    monkeypatch.setenv("LASTGOOD_ACCEPT", "partial")
    assert run("pull", "--into", "c")[0] == 0


def test_twice_is_once(stocked: Cloud, place: Path) -> None:
    first = run("pull", "llama")
    inode = (place / "llama/checkpoint-200/model.safetensors").stat().st_ino
    assert run("pull", "llama") == first == (0, f"{place}/llama/checkpoint-200\n", "")
    assert (place / "llama/checkpoint-200/model.safetensors").stat().st_ino == inode


@pytest.mark.parametrize("name", ["optimizer.pt", "notes.txt"], ids=["other bytes", "one file more"])
def test_nothing_is_fetched_over_something_else(stocked: Cloud, place: Path, name: str) -> None:
    target = make_hf_checkpoint(place / "bert/checkpoint-100", 100)
    (target / name).write_bytes(b"mine")
    before = contents(target)
    code, printed, complaint = run("pull", "bert")
    assert (code, printed) == (1, "")
    assert f"{target} is there already; nothing is fetched over it" in complaint
    assert contents(target) == before


@pytest.mark.parametrize(
    ("name", "environment", "arguments", "where"),
    [
        pytest.param("llama", {}, ["--into", "a/b"], "a/b", id="a folder that is named"),
        pytest.param("llama", {"ROOT": "here"}, [], "here/llama", id="below the folder as it is seen here"),
        pytest.param("llama", {"ROOTS": "here"}, [], "here/llama", id="below the watched folder"),
        pytest.param("llama", {"ROOTS": "there", "ROOT": "here"}, [], "here/llama", id="where mounts differ"),
        pytest.param(".", {"ROOTS": "here"}, [], "here", id="the watched folder itself"),
        pytest.param("x/llama", {"ROOTS": "a/x:a/y"}, [], "a/x/llama", id="below one of several"),
        pytest.param("z/llama", {"ROOTS": "a/x:a/y"}, [], "z/llama", id="below none of them"),
        pytest.param("llama", {}, [], "llama", id="in the working folder"),
    ],
)
def test_where_a_copy_goes(
    name: str,
    environment: dict[str, str],
    arguments: list[str],
    where: str,
    stocked: Cloud,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(f"LASTGOOD_{key}", value)
    assert run("pull", name, "--step", 100, *arguments) == (0, f"{place}/{where}/checkpoint-100\n", "")


def test_a_copy_that_cannot_be_believed_is_told_and_passed_over(cloud: Cloud, place: Path) -> None:
    _, newer = cloud.save(place / "there", "llama", 100, 200)
    cloud.overwrite(f"{newer.key}/COMMIT", b"{}")
    code, printed, complaint = run("pull", "llama")
    assert (code, printed) == (0, f"{place}/llama/checkpoint-100\n")
    assert f"lastgood: warning: {cloud.store.remote.url(newer.key)}: its COMMIT" in complaint


def test_a_copy_that_comes_back_as_other_bytes_gets_no_name(cloud: Cloud, place: Path) -> None:
    (copy,) = cloud.save(place / "there", "llama", 100)
    size = (place / "there/llama/checkpoint-100/optimizer.pt").stat().st_size
    cloud.overwrite(f"{copy.key}/optimizer.pt", b"x" * size)
    code, printed, complaint = run("pull", "llama")
    assert (code, printed) == (1, "")
    assert "optimizer.pt comes back as other bytes" in complaint
    assert not (place / "llama/checkpoint-100").exists()


def test_a_copy_as_json_is_what_the_service_says_of_one_and_its_path(stocked: Cloud, place: Path) -> None:
    answer = json.loads(run("pull", "bert", "--json")[1])
    assert answer["path"] == f"{place}/bert/checkpoint-100"
    assert answer["url"].startswith(f"{stocked.store.remote.url()}/bert/checkpoint-100-")
    assert (answer["step"], answer["verdict"], answer["state"]) == (100, "complete", "proven")


def test_a_run_whose_name_leads_out_of_its_folder_is_none() -> None:
    class Hostile:
        remote = Remote("bucket", "ckpt")

        def listed(self, _prefix: str) -> Iterator[Listed]:
            for name in ("../etc", "/etc", "a/../../b", "a//b", "\x1b[2J", ".", "llama"):
                below = "" if name == "." else f"{name}/"
                yield Listed(f"ckpt/{below}checkpoint-1-0123456789ab/COMMIT", 1, None)  # type: ignore[arg-type]

    assert find_runs(Hostile()) == [".", "llama"]  # type: ignore[arg-type]


def test_a_bar_is_shown_for_what_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    with progress.progress_bar("checkpoint-100", stream, total=2_000_000) as hears:
        hears(1_000_000)
    assert "checkpoint-100" in stream.getvalue()
    assert "1.0/2.0 MB" in stream.getvalue()


# --- remote ls, remote verify ---


def test_the_copies_are_a_line_each_with_exact_numbers_in_a_pipe(stocked: Cloud) -> None:
    copies = find_copies(stocked.store).copies
    code, printed, complaint = run("remote", "ls")
    assert (code, complaint) == (0, "")
    assert [line.split("\t") for line in printed.splitlines()] == [row(copy) for copy in copies]
    assert len(run("remote", "ls", "llama")[1].splitlines()) == 2
    answer = json.loads(run("remote", "ls", "bert", "--json")[1])
    assert (answer["run"], answer["step"], answer["state"]) == ("bert", 100, "proven")


def row(copy: CloudCopy) -> list[str]:
    saved, proof = copy.saved_at.isoformat(), "full-object-crc64nvme"
    return [copy.run, copy.name, str(copy.step), "complete", str(copy.bytes), saved, proof]


@pytest.mark.parametrize("garbage", [b"what?", b"[" * 100_000])
def test_the_copies_are_a_table_on_a_terminal_and_what_is_broken_stands_below(
    cloud: Cloud, place: Path, garbage: bytes
) -> None:
    copies = cloud.save(place / "there", "llama", 5, 20_000)
    cloud.overwrite(f"{cloud.store.remote.copy_key('llama', 'checkpoint-7', 'a' * 64)}/COMMIT", garbage)
    shown = rendering_copies.listed(find_copies(cloud.store), cloud.store.remote, terminal=True)
    head, *lines, broken = shown.splitlines()
    assert head.split() == ["RUN", "NAME", "STEP", "VERDICT", "SIZE", "SAVED", "PROOF"]
    assert [line.split()[1] for line in lines] == [copy.name for copy in copies]
    assert len({line.index("complete") for line in lines} | {head.index("VERDICT")}) == 1
    assert "✗" in broken
    assert "its COMMIT is no JSON" in broken
    code, printed, _ = run("remote", "ls", "--json")
    assert (code, json.loads(printed.splitlines()[-1])["state"]) == (0, "broken")


def test_where_there_are_no_copies_that_is_said(cloud: Cloud) -> None:
    for command in ("ls", "verify"):
        code, printed, complaint = run("remote", command)
        assert (code, printed) == (0, "")
        assert "there are no copies in s3://" in complaint
        assert run("remote", command, "llama")[0] == 2


def test_copies_that_are_what_they_were_are_good(stocked: Cloud) -> None:
    code, printed, complaint = run("remote", "verify")
    assert (code, complaint) == (0, "")
    assert len(printed.splitlines()) == 6
    assert all(line.startswith("✓ s3://") and line.endswith(": good") for line in printed.splitlines())
    assert len(run("remote", "verify", "llama", "--read")[1].splitlines()) == 2
    answer = json.loads(run("remote", "verify", "--step", 200, "--json")[1])
    assert (answer["name"], answer["good"], answer["problems"]) == ("checkpoint-200", True, [])
    assert run("remote", "verify", "--step", 300)[0] == 2


def test_a_copy_that_lacks_a_file_is_not_good(cloud: Cloud, place: Path) -> None:
    one, _ = cloud.save(place / "there", "llama", 100, 200)
    cloud.store.remove([f"{one.key}/optimizer.pt"])
    code, printed, _ = run("remote", "verify")
    assert code == 1
    assert printed.splitlines()[:2] == [f"✗ {cloud.store.remote.url(one.key)}", "    optimizer.pt is missing"]
    assert printed.splitlines()[2].endswith(": good")
    assert run("remote", "verify", "--step", 200)[0] == 0


def test_of_bytes_that_the_store_says_nothing_of_only_reading_tells(cloud: Cloud, place: Path) -> None:
    (copy,) = cloud.save(place / "there", "llama", 100)
    size = (place / "there/llama/checkpoint-100/optimizer.pt").stat().st_size
    cloud.overwrite(f"{copy.key}/optimizer.pt", b"x" * size)
    code, printed, _ = run("remote", "verify")
    assert (code, "of the bytes of 1 files: only --read tells" in printed) == (0, True)
    code, printed, _ = run("remote", "verify", "--read", "--json")
    answer = json.loads(printed)
    assert (code, answer["good"], answer["unread"]) == (1, False, 0)
    assert answer["problems"][0].startswith("optimizer.pt holds other bytes: crc64nvme:")


def test_a_commit_that_cannot_be_believed_is_not_good(cloud: Cloud, place: Path) -> None:
    one, _ = cloud.save(place / "there", "llama", 100, 200)
    cloud.overwrite(f"{one.key}/COMMIT", b"{}")
    code, printed, _ = run("remote", "verify")
    assert (code, printed.splitlines()[0]) == (1, f"✗ {cloud.store.remote.url(one.key)}")
    assert run("remote", "verify", "--step", 100)[0] == 1
    assert run("remote", "verify", "--step", 200)[0] == 0


@pytest.mark.parametrize("command", ["pull", "remote ls", "remote verify"])
def test_a_run_without_copies_is_told_as_json_too(stocked: Cloud, command: str) -> None:
    code, printed, complaint = run(*command.split(), "nobody", "--json")
    assert (code, complaint) == (2, f"lastgood: {json.loads(printed)['error']}\n")


# --- doctor ---


def test_a_store_that_does_all_that_is_asked_of_it_is_well_and_a_worker_looks_as_well(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening({"/copies/probe": (202, {"id": 1})}) as made:
        monkeypatch.setenv("LASTGOOD_URL", made.service.url)
        code, printed, complaint = run("doctor", "s3")
    assert (code, complaint) == (0, "")
    assert made.sent == [("POST", "/copies/probe", {})]
    assert printed.startswith(f"{cloud.store.remote.url()} at {cloud.server.endpoint}\n  ✓ keeps the digest")
    assert "✗ clears away abandoned parts" in printed
    assert "✓ whole files are proven by full-object-crc64nvme" in printed
    assert "✓ COMMIT is protected" in printed
    assert "! give the bucket a lifecycle rule with AbortIncompleteMultipartUpload" in printed
    assert printed.count("✗") == 1


def test_what_a_weak_store_cannot_do_is_told_with_what_follows(
    place: Path, rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud_in(rclone_server, rclone_server.new_bucket(), place.name, monkeypatch)
    code, printed, complaint = run("doctor", "s3", "--json")
    answer = json.loads(printed)
    assert (code, complaint) == (1, "")
    assert (answer["ok"], answer["commit_protected"], answer["able"]["puts_only_new"]) == (False, False, False)
    assert answer["proof"] == {"whole": "parts-md5", "parts": "read-back"}
    assert answer["remarks"]["puts_only_new"] == "a second put succeeded"
    weak = [words for good, words in rendering_copies.consequences(capabilities_from_json(answer["able"])) if not good]
    assert weak == ["COMMIT is not protected: let no two machines send copies of the same run"]


def test_a_store_that_does_not_answer_is_told_at_once(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTGOOD_REMOTE_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    code, printed, complaint = run("doctor", "s3")
    assert (code, printed) == (2, "")
    assert "Could not connect to the endpoint" in complaint


def test_every_check_is_one_line(cloud: Cloud, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "output").mkdir()
    (place / "state").mkdir()
    monkeypatch.setenv("LASTGOOD_ROOTS", str(place / "output"))
    with listening({"/status": (200, READY)}) as made:
        monkeypatch.setenv("LASTGOOD_URL", made.service.url)
        code, printed, complaint = run("doctor")
    assert (code, complaint) == (0, "")
    assert [line.partition(":")[0] for line in printed.splitlines()] == [
        "✓ state folder",
        "✓ watched folder",
        "✓ service",
        "✓ s3",
    ]
    monkeypatch.delenv("LASTGOOD_REMOTE")
    monkeypatch.setenv("LASTGOOD_ROOTS", str(place / "gone"))
    code, printed, _ = run("doctor", "--json")
    told = [json.loads(line) for line in printed.splitlines()]
    assert (code, [each["ok"] for each in told]) == (1, [True, False, False])
    assert [each["message"] for each in told[1:]] == [f"{place}/gone is not there", told[2]["message"]]


# --- push ---


@contextmanager
def pushing(
    place: Path, monkeypatch: pytest.MonkeyPatch, *looks: dict[str, Any], done: bool = True, answers: bool = True
) -> Iterator[World]:
    """A service, and a worker that says these things of what it does, one at each look, before it answers."""
    world = World(place / "world", real_clock=True)
    world.beat()
    world.listed()
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.01):
            world.beat()
            for request in world.catalog.open_requests():
                for look in looks:
                    world.beat(**look)
                    ended.wait(0.5)
                if not answers:
                    return
                world.catalog.close_request(request.id, done=done, result="so it stands", now=world.now)

    thread = threading.Thread(target=work)
    monkeypatch.setattr(copying, "_LOOK_EVERY", 0.01)
    with serving(world, remote=REMOTE) as service:
        monkeypatch.setenv("LASTGOOD_URL", service.url)
        monkeypatch.setenv("LASTGOOD_STATE_DIR", world.settings.state_dir)
        thread.start()
        try:
            yield world
        finally:
            ended.set()
            thread.join()
    world.catalog.close()


@pytest.mark.parametrize("done", [True, False], ids=["it is copied", "it is refused"])
def test_a_push_is_followed_until_the_worker_has_answered(
    place: Path, monkeypatch: pytest.MonkeyPatch, *, done: bool
) -> None:
    errand = {"kind": "send", "run": "llama", "name": "checkpoint-100", "checkpoint_id": 1}
    sizes = {"bytes_total": 18, "bytes_per_second": 9}
    looks = [{"cloud": {"errand": {**errand, **sizes, "bytes_done": sent}}} for sent in (0, 9, 18)]
    with pushing(place, monkeypatch, *looks, done=done) as world:
        world.save(100)
        code, printed, complaint = run("push", "checkpoint-100", "--json")
    answer = json.loads(printed)
    assert (code, complaint) == (0 if done else 1, "")
    assert (answer["kind"], answer["checkpoint_id"], answer["result"]) == ("push", 1, "so it stands")


def test_a_store_that_does_not_take_it_is_told_while_the_worker_tries_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pushing(place, monkeypatch, {}) as world:
        world.save(100)
        world.listed(trouble="the store is down")
        assert run("push", "checkpoint-100") == (
            0,
            "so it stands\n",
            "lastgood: the store is down; the worker tries again\n",
        )


def test_a_copy_that_has_to_wait_says_what_for(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pushing(place, monkeypatch, {}) as world:
        made = world.save(100)
        world.copy(100, state=CopyState.FAILED, of=made, error="another lastgood sends there")
        complaint = "lastgood: another lastgood sends there; the worker tries again\n"
        assert run("push", "checkpoint-100") == (0, "so it stands\n", complaint)


def test_a_push_ends_where_no_worker_is_alive(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pushing(place, monkeypatch, {"heartbeat_at": NOON}, answers=False) as world:
        world.save(100)
        code, printed, complaint = run("push", "checkpoint-100")
    assert (code, printed) == (2, "")
    assert "no worker is alive: it stays queued, as request 1" in complaint


# --- what is needed for all of it ---

EVERY = (["pull"], ["remote", "ls"], ["remote", "verify"], ["doctor", "s3"], ["latest", ".", "--fetch"])


@pytest.mark.parametrize("arguments", EVERY, ids=" ".join)
def test_without_a_place_for_copies_it_is_said_how_one_is_set(place: Path, arguments: list[str]) -> None:
    code, printed, complaint = run(*arguments)
    assert (code, printed) == (2, "")
    assert "no place for copies is set: LASTGOOD_REMOTE=s3://BUCKET/PREFIX names it" in complaint


def test_without_boto3_each_command_says_what_to_install(place: Path) -> None:
    program = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("boto3", "botocore", "s3transfer"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from lastgood import cli
for arguments in {[list(each) for each in EVERY]}:
    sys.argv = ["lastgood", *arguments]
    try:
        cli.main()
    except SystemExit as ended:
        print(ended.code, flush=True)
"""
    child = subprocess.run(
        [sys.executable, "-c", program],
        env=environ(place, LASTGOOD_REMOTE="s3://bucket/ckpt", LASTGOOD_PORT=str(free_port())),
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.stdout.split() == ["2"] * len(EVERY), child.stderr
    assert child.stderr.count("install it with pip install 'lastgood[s3]'") == len(EVERY)


def test_a_run_lies_where_its_name_says() -> None:
    assert folder_of_run("a/b", ["/data"]) == "/data/a/b"
    assert folder_of_run(".", ["/data"]) == "/data"
    assert folder_of_run("x", ["/data/x", "/data/y"]) == "/data/x"
    assert folder_of_run("y/b", ["/data/x", "/data/y"]) == "/data/y/b"
    assert folder_of_run("yy", ["/data/x", "/data/y"]) is None
    assert folder_of_run("a", []) is None


def test_a_verdict_is_that_of_the_bytes_that_came_back(cloud: Cloud, place: Path) -> None:
    cloud.save(place / "there", "llama", 100, shards=2, ranks=2)
    assert verify(run("pull")[1].strip()).verdict == "complete"
