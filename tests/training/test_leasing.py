"""While a job loads a checkpoint it holds it, and afterwards the service hears how that went."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from lastgood.errors import LastgoodError, NoneAcceptable
from lastgood.settings import Settings
from lastgood.training import CheckpointManager
from pretending import answering
from service_process import serving
from service_world import World
from small_job import Recipe, SmallJob
from training_ranks import in_two_processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pretending import Pretender

OK = ("POST", "/checkpoints/3/outcome", {"outcome": "ok"})
GIVEN_BACK = ("DELETE", "/leases/7", None)


@contextmanager
def leasing(folder: Path) -> Iterator[tuple[CheckpointManager, Pretender]]:
    """A manager whose folder a service watches that leases what was saved there."""
    with answering((500, {}), folder) as made:
        manager = CheckpointManager(folder, settings=Settings(url=made.service.url))
        job = SmallJob(Recipe())
        job.train(3)
        path = job.save(manager)
        point = {"id": 3, "name": "checkpoint-3", "path": path, "exact_resume": True, "warnings": []}
        made.answers |= {
            "/leases": (201, {"lease": {"id": 7}, "resume_point": point}),
            "/checkpoints/3/outcome": (202, {}),
            "/leases/7": (204, ""),
        }
        yield manager, made


def test_what_is_loaded_is_held_meanwhile_and_then_given_back(tmp_path: Path) -> None:
    with leasing(tmp_path) as (manager, made):
        start = SmallJob(Recipe()).restore(manager)
    assert start is not None
    assert (start.step, start.exact) == (3, True)
    ((method, address, asked), *after) = made.sent
    assert (method, address, asked["run"], asked["wait"]) == ("POST", "/leases", ".", 60)
    assert f"(process {os.getpid()})" in asked["holder"]
    assert after == [OK, GIVEN_BACK]


def test_a_failure_to_load_is_reported_in_its_own_words_and_raised(tmp_path: Path) -> None:
    with leasing(tmp_path) as (manager, made), pytest.raises(RuntimeError, match="Missing key"):
        manager.restore_latest(SmallJob(Recipe()).model.append(SmallJob(Recipe()).model[0]))
    (_, (_, address, said), given_back) = made.sent
    assert address == "/checkpoints/3/outcome"
    assert said["outcome"] == "failed"
    assert said["error"].startswith("RuntimeError: ")
    assert "Missing key" in said["error"]
    assert given_back == GIVEN_BACK


def test_somebody_who_ends_the_job_says_nothing_of_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with leasing(tmp_path) as (manager, made):
        monkeypatch.setattr(manager, "_restored", interrupted)
        with pytest.raises(KeyboardInterrupt):
            manager.restore_latest(SmallJob(Recipe()).model)
    assert [sent[1] for sent in made.sent] == ["/leases"]


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param({"/checkpoints/3/outcome": (503, {"code": "catalog-unusable"})}, id="it cannot write it down"),
        pytest.param({"/leases/7": (404, {"code": "unknown", "detail": "it has ended"})}, id="the lease ran out"),
        pytest.param({"/checkpoints/3/outcome": (200, "<html>")}, id="something else answers by now"),
    ],
)
def test_a_service_that_does_not_hear_it_stops_no_training(tmp_path: Path, answers: dict[str, Any]) -> None:
    with leasing(tmp_path) as (manager, made):
        made.answers |= answers
        start = SmallJob(Recipe()).restore(manager)
    assert start is not None
    assert start.step == 3


def test_a_service_that_gives_no_lease_stops_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with leasing(tmp_path) as (manager, made):
        made.answers["/checkpoints/latest"] = (200, made.answers["/leases"][1]["resume_point"])
        made.answers["/leases"] = (401, {"code": "not-allowed", "detail": "send the token"})
        start = SmallJob(Recipe()).restore(manager)
    assert start is not None
    assert [sent[1] for sent in made.sent] == ["/leases"]
    assert "send the token" in caplog.text


def test_where_nobody_watches_nothing_is_reported_of_what_we_found_ourselves(manager: CheckpointManager) -> None:
    job = SmallJob(Recipe())
    job.train(1)
    job.save(manager)
    start = SmallJob(Recipe()).restore(manager)
    assert start is not None
    assert start.step == 1


def test_a_refusal_is_no_outcome(tmp_path: Path) -> None:
    with leasing(tmp_path) as (manager, made):
        made.answers["/leases"] = (404, {"code": "none-acceptable", "detail": "none of 1"})
        with pytest.raises(NoneAcceptable):
            manager.restore_latest(SmallJob(Recipe()).model)
    assert len(made.sent) == 1


def test_of_several_processes_the_first_speaks_for_all(tmp_path: Path) -> None:
    def restore(manager: CheckpointManager) -> str:
        start = SmallJob(Recipe()).restore(manager)
        assert start is not None
        return str(start.step)

    with leasing(tmp_path) as (manager, made):
        told = in_two_processes(tmp_path / "store", lambda _rank: restore(manager))
    assert told == ["3", "3"]
    assert [sent[1] for sent in made.sent] == ["/leases", "/checkpoints/3/outcome", "/leases/7"]
    assert made.sent[1] == OK


def test_what_fails_in_one_process_is_raised_in_all_and_told_by_the_first(tmp_path: Path) -> None:
    def restore(manager: CheckpointManager, rank: int) -> str:
        if rank == 1:
            manager._restored = _fail  # type: ignore[assignment, method-assign]
        start = SmallJob(Recipe()).restore(manager)
        assert start is not None
        return str(start.step)

    with leasing(tmp_path) as (manager, made):
        told = in_two_processes(tmp_path / "store", lambda rank: restore(manager, rank))
    why = "LastgoodError: it does not fit here"
    assert told == [f"LastgoodError: checkpoint-3 was not loaded everywhere: process 1: {why}", why]
    assert made.sent[1:] == [
        (
            "POST",
            "/checkpoints/3/outcome",
            {"outcome": "failed", "error": "process 1: LastgoodError: it does not fit here"},
        ),
        GIVEN_BACK,
    ]


def test_the_real_service_hears_it_and_holds_nothing_afterwards(tmp_path: Path) -> None:
    world = World(tmp_path, real_clock=True)
    world.beat()
    job = SmallJob(Recipe())
    job.train(2)
    with serving(world) as service:
        settings = Settings(url=service.url, state_dir=world.settings.state_dir)
        manager = CheckpointManager(os.path.join(world.root, "llama"), settings=settings)
        job.save(manager)
        made = world.save(2)
        start = SmallJob(Recipe()).restore(manager)
    assert start is not None
    assert (start.step, start.path) == (2, world.path(2).rstrip("/"))
    assert world.catalog.holds(world.now) == {}
    (request,) = world.catalog.open_requests()
    assert (request.kind, request.checkpoint_id, request.arguments["outcome"]) == ("outcome", made, "ok")
    world.catalog.close()


def _fail(*_: Any, **__: Any) -> None:
    raise LastgoodError("it does not fit here")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
