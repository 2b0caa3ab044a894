"""What a person says about what is kept, by the commands: against a real service, with a worker played by the test."""

from __future__ import annotations

import getpass
import json
import os
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from builders import make_hf_checkpoint
from commanding import run, settle_in
from lastgood.cli import keeping
from lastgood.findings import Verdict
from lastgood.settings_values import KeepBest
from service_process import serving
from service_world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lastgood.catalog import Request


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return settle_in(tmp_path, monkeypatch)


@contextmanager
def served(place: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[World]:
    """A service with these settings, whose token is known here."""
    world = World(place / "world", real_clock=True)
    world.beat()
    world.known_since(world.now - timedelta(days=2))
    with serving(world, **settings) as service:
        monkeypatch.setenv("LASTGOOD_URL", service.url)
        monkeypatch.setenv("LASTGOOD_STATE_DIR", world.settings.state_dir)
        yield world
    world.catalog.close()


@pytest.fixture
def world(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with served(place, monkeypatch, keep_last=1) as made:
        yield made


@contextmanager
def worker_saying(world: World, result: str, *, done: bool = True) -> Iterator[list[Request]]:
    """A worker that closes whatever is asked of it so, as soon as it is."""
    carried_out: list[Request] = []
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.005):
            for request in world.catalog.open_requests():
                carried_out.append(request)
                world.catalog.close_request(request.id, done=done, result=result, now=world.now)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield carried_out
    finally:
        ended.set()
        thread.join()


def pinned(world: World) -> set[int]:
    return {held for held, holds in world.catalog.holds(world.now).items() if any(hold.pin for hold in holds)}


# --- which one is meant ---


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("checkpoint-200", id="a name"),
        pytest.param("2", id="an id"),
        pytest.param("world/output/llama/checkpoint-200", id="a path"),
        pytest.param("world/output/llama/checkpoint-200/", id="a path as the shell completes it"),
        pytest.param("./link/checkpoint-200", id="a path through a link"),
    ],
)
def test_a_checkpoint_is_pinned_by_its_name_id_or_path(world: World, place: Path, what: str) -> None:
    (place / "link").symlink_to(place / "world/output/llama")
    made = [world.save(step) for step in (100, 200, 300)]
    code, printed, complaint = run("pin", what)
    assert (code, printed, complaint) == (
        0,
        f"checkpoint-200 of run llama is pinned by {getpass.getuser()}\n",
        "",
    )
    assert pinned(world) == {made[1]}
    assert run("unpin", what) == (0, "checkpoint-200 of run llama is not pinned\n", "")
    assert pinned(world) == set()


def test_a_path_is_seen_from_here_where_mounts_differ(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = world.save(100)
    monkeypatch.setenv("LASTGOOD_ROOT", str(place / "here"))
    assert run("pin", "here/llama/checkpoint-100")[0] == 0
    assert pinned(world) == {made}


@pytest.mark.parametrize(
    ("what", "code", "complaint"),
    [
        pytest.param(["checkpoint-100"], 2, "several runs have a checkpoint-100: bert, llama", id="several runs"),
        pytest.param(["checkpoint-100", "--run", "bert"], 0, "", id="one of them"),
        pytest.param(["checkpoint-300"], 2, "there is no checkpoint-300;", id="no such name"),
        pytest.param(["checkpoint-200", "--run", "bert"], 2, "there is no checkpoint-200 in run bert", id="not there"),
        pytest.param(["output/checkpoint-100"], 2, "there is no output/checkpoint-100", id="another path"),
        pytest.param(["99"], 2, "no checkpoint with the id 99", id="no such id"),
        pytest.param([], 2, "Missing argument", id="nothing"),
    ],
)
def test_one_that_is_not_clearly_meant_is_left_alone(world: World, what: list[str], code: int, complaint: str) -> None:
    world.save(100)
    world.save(200)
    bert = world.save(100, run="bert")
    found = run("pin", *what)
    assert found[0] == code
    assert complaint in found[2]
    assert pinned(world) == ({bert} if code == 0 else set())


def test_of_several_generations_that_is_meant_to_which_it_can_be_done(world: World) -> None:
    world.discard(discarded := world.save(100))
    back = world.save(100)
    assert run("pin", "checkpoint-100")[0] == 0
    assert pinned(world) == {back}
    with worker_saying(world, "it is in its place again") as asked:
        run("undo", "checkpoint-100")
    assert [(request.kind, request.checkpoint_id) for request in asked] == [("undo", discarded)]


def test_the_list_is_gone_through_to_its_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lastgood.cli.finding._PAGE", 2)
    made = [world.save(step) for step in range(1, 6)]
    assert run("pin", "checkpoint-1")[0] == 0
    assert pinned(world) == {made[0]}


def test_what_lies_in_the_trash_cannot_be_pinned(world: World) -> None:
    world.discard(world.save(100))
    code, printed, complaint = run("pin", "checkpoint-100")
    assert (code, printed) == (1, "")
    assert "it cannot be held any more" in complaint


# --- what the worker carries out ---


@pytest.mark.parametrize("done", [True, False], ids=["it is done", "it is refused"])
@pytest.mark.parametrize(
    ("arguments", "kind", "about", "said"),
    [
        (["remove", "checkpoint-100"], "remove", 1, {}),
        (["undo", "checkpoint-100"], "undo", 1, {}),
        (["retention", "--apply"], "apply", None, {"confirm": None}),
        (["retention", "--run", "llama", "--apply", "--confirm", "abc"], "apply", None, {"confirm": "abc"}),
    ],
)
def test_what_the_worker_makes_of_it_is_printed(
    world: World, arguments: list[str], kind: str, about: int | None, said: dict[str, Any], *, done: bool
) -> None:
    world.save(100)
    with worker_saying(world, "so it stands", done=done) as asked:
        found = run(*arguments)
    assert found == (0 if done else 1, "so it stands\n", "")
    assert [(request.kind, request.run, request.checkpoint_id) for request in asked] == [(kind, "llama", about)]
    assert asked[0].arguments == said


def test_a_worker_that_does_not_come_to_it_is_not_waited_for_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_PATIENCE_SECONDS", 0.0)
    world.save(100)
    code, printed, complaint = run("remove", "checkpoint-100")
    assert (code, printed) == (2, "")
    assert "it stays queued, as request 1" in complaint
    assert len(world.catalog.open_requests()) == 1


def test_as_json_each_is_what_the_service_answered(world: World) -> None:
    world.save(100)
    assert json.loads(run("pin", "checkpoint-100", "--json")[1])["pin"] is True
    assert json.loads(run("unpin", "checkpoint-100", "--json")[1]) is None
    with worker_saying(world, "done"):
        assert json.loads(run("remove", "checkpoint-100", "--json")[1])["state"] == "done"
        assert json.loads(run("undo", "checkpoint-100", "--json")[1])["kind"] == "undo"
        assert json.loads(run("retention", "--apply", "--json")[1])["kind"] == "apply"


@pytest.mark.parametrize(
    "arguments", [["pin", "1"], ["unpin", "1"], ["remove", "1"], ["undo", "1"], ["retention"], ["retention", "--apply"]]
)
def test_without_a_service_or_its_token_nothing_is_done_and_it_is_said(
    world: World, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.save(100)
    monkeypatch.setenv("LASTGOOD_TOKEN_FILE", "/nowhere")
    if arguments != ["retention"]:  # reads are open
        code, printed, complaint = run(*arguments)
        assert (code, printed) == (2, "")
        assert "the service's token file holds the token" in complaint
    monkeypatch.setenv("LASTGOOD_URL", "http://127.0.0.1:1")
    code, printed, complaint = run(*arguments)
    assert (code, printed) == (2, "")
    assert "no service answers" in complaint
    assert world.catalog.open_requests() == []


# --- the plan ---


def test_the_plan_is_a_table_with_every_reason_and_what_to_type_next(world: World) -> None:
    for step in (100, 200, 300):
        world.save(step)
    world.save(400, Verdict.CORRUPT)
    world.land(500)
    world.discard(world.save(50))
    world.known_since(world.now)
    code, printed, complaint = run("retention")
    lines = [line.split(maxsplit=4) for line in printed.splitlines()]
    assert (code, complaint) == (0, "")
    assert printed.startswith("run llama: keep_last 1, accept complete\n")
    assert [line[:3] for line in lines[1:7]] == [
        ["REMOVE", "checkpoint-100", "complete"],
        ["keep", "checkpoint-200", "complete"],
        ["keep", "checkpoint-300", "complete"],
        ["keep", "checkpoint-400", "corrupt"],
        ["keep", "checkpoint-500", "not"],
        ["trash", "checkpoint-50", "step"],
    ]
    assert "a job would start from it now; one of the last 2 good ones; one of the last 1" in printed
    assert "lastgood undo checkpoint-50 --run llama" in printed
    plan = json.loads(run("retention", "--json")[1])["items"][0]["plan"]
    assert f"would remove 1 of 5 checkpoints: 18 B freed; plan {plan}" in printed
    assert "waits: new here: nothing is removed before" in printed
    assert printed.endswith(f"to do it now: lastgood retention --run llama --apply --confirm {plan}\n")


def test_where_nothing_stands_before_the_plan_nothing_is_to_be_typed(world: World) -> None:
    for step in (100, 200, 300):
        world.save(step)
    assert run("retention")[1].endswith("the worker does it by itself\n")


def test_without_a_rule_nothing_is_removed_and_that_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(place, monkeypatch) as world:
        assert run("retention") == (0, "nothing has been saved yet\n", "")
        world.save(100)
        printed = run("retention")[1]
    assert printed.startswith("run llama: no rule: nothing is removed\n")
    assert printed.endswith("  nothing would be removed\n")


def test_the_columns_of_the_table_stand_below_each_other(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(place, monkeypatch, keep_best=KeepBest(1, "loss", "min")) as world:
        for step in (5, 100, 20_000):
            world.save(step)
        lines = [line for line in run("retention")[1].splitlines() if "checkpoint-" in line]
    assert len({line.index("complete") for line in lines}) == 1
    assert len({line.index("step ") for line in lines}) == 1


def test_each_run_has_its_table_and_one_alone_can_be_asked_for(world: World) -> None:
    world.save(100)
    world.save(100, run="bert's run")
    printed = run("retention")[1]
    assert [line for line in printed.splitlines() if line.startswith("run ")] == [
        "run bert's run: keep_last 1, accept complete",
        "run llama: keep_last 1, accept complete",
    ]
    assert "run llama" not in run("retention", "--run", "bert's run")[1]
    assert run("retention", "--run", "gpt")[0] == 2
    assert run("retention", "--apply")[0] == 2  # which run?
    assert world.catalog.open_requests() == []


def test_what_is_to_be_typed_can_be(world: World) -> None:
    for step in (100, 200, 300):
        world.save(step, run="bert's run")
    world.known_since(world.now)
    assert """--run 'bert'"'"'s run' --apply""" in run("retention")[1]


def test_a_plan_is_confirmed_only_to_be_applied(world: World) -> None:
    code, _, complaint = run("retention", "--confirm", "abc")
    assert code == 2
    assert "--apply" in complaint


# --- latest --lease ---


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        pytest.param(["--lease", "world/output"], 3600, id="as the setting says, below a folder"),
        pytest.param(["world/output", "--lease=90"], 90, id="so many seconds"),
        pytest.param(["--lease=2h", "world/output"], 7200, id="hours"),
        pytest.param(["--lease"], 3600, id="from the service"),
        pytest.param(["--lease=5m"], 300, id="from the service, for so long"),
    ],
)
def test_what_is_printed_is_held_where_that_is_asked_for(world: World, arguments: list[str], seconds: float) -> None:
    made = world.save(100)
    before = world.now
    assert run("latest", *arguments) == (0, world.path(100).rstrip("/") + "\n", "")
    ((held, (hold,)),) = world.catalog.holds(world.now).items()
    assert (held, hold.pin) == (made, False)
    assert f"(process {os.getpid()})" in hold.holder
    assert hold.until is not None
    assert timedelta(0) <= hold.until - before - timedelta(seconds=seconds) < timedelta(seconds=30)


def test_a_lease_is_part_of_the_answer_as_json(world: World) -> None:
    made = world.save(100)
    answer = json.loads(run("latest", "--lease", "--json")[1])
    assert (answer["name"], answer["lease"]["checkpoint_id"]) == ("checkpoint-100", made)
    assert datetime.fromisoformat(answer["lease"]["until"]) > datetime.now(UTC)


def test_without_a_service_nothing_holds_it_and_that_is_said(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_hf_checkpoint(place / "output/checkpoint-100", 100)
    code, printed, _ = run("latest", "output", "--lease")
    assert (code, printed) == (0, f"{place}/output/checkpoint-100\n")
    assert "nothing keeps what is found in" in caplog.text
    assert run("latest", "--lease")[0] == 2


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        pytest.param("soon", "'soon': a duration is a number and one of", id="no duration"),
        pytest.param("0", "not 0 s", id="no time at all"),
        pytest.param("5w", "from a second to 30 days", id="too long"),
    ],
)
def test_a_lease_that_cannot_be_is_refused_before_anybody_is_asked(world: World, said: str, complaint: str) -> None:
    world.save(100)
    code, printed, complained = run("latest", "world/output", f"--lease={said}")
    assert (code, printed) == (2, "")
    assert complaint in complained
    assert world.catalog.holds(world.now) == {}


def test_what_nobody_says_is_as_the_service_has_it_set_for_the_run(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(place, monkeypatch, accept="partial") as world:
        world.save(100)
        world.save(200, Verdict.PARTIAL)
        where = str(place / "world/output")
        for arguments in ([], [where], ["--lease"]):
            assert run("latest", *arguments)[1].endswith("checkpoint-200\n")
            assert run("latest", *arguments, "--accept", "complete")[1].endswith("checkpoint-100\n")
        monkeypatch.setenv("LASTGOOD_ACCEPT", "complete")
        assert run("latest", where)[1].endswith("checkpoint-100\n")
