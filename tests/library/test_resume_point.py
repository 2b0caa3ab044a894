"""`lastgood.resume_point`: from a training job, in one call."""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest

import lastgood
from builders import hf_files, make_hf_checkpoint, write_files
from commanding import run
from lastgood.errors import CannotTell, NoneAcceptable, SettingsError
from pretending import answering
from users import as_user

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that nobody watches, and an environment in which nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("LASTGOOD_URL", f"http://127.0.0.1:{probe.getsockname()[1]}")
    monkeypatch.setenv("LASTGOOD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_path_alone_is_one_call(alone: Path) -> None:
    make_hf_checkpoint(alone / "output" / "checkpoint-100", 100)
    assert lastgood.resume_point(alone / "output") == str(alone / "output" / "checkpoint-100")


def test_none_means_that_nothing_was_saved_and_a_refusal_is_raised_and_explained(
    alone: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (alone / "output").mkdir()
    assert lastgood.resume_point(alone / "output") is None
    write_files(alone / "output" / "checkpoint-100", hf_files(100)[:2])
    with pytest.raises(NoneAcceptable):
        lastgood.resume_point(alone / "output")
    assert "checkpoint-100 is not handed out: it is " in caplog.text


def _saved_at(checkpoint: Path, seconds: int) -> None:
    for file in checkpoint.iterdir():
        os.utime(file, (seconds, seconds))


@pytest.mark.parametrize(
    ("order", "name", "disputed"),
    [
        pytest.param("landed", "checkpoint-100", {"mtime": "checkpoint-100", "step": "checkpoint-200"}, id="as seen"),
        pytest.param("mtime", "checkpoint-100", None, id="by time"),
        pytest.param("step", "checkpoint-200", None, id="by step"),
    ],
)
def test_which_is_the_newest_is_told_by_the_setting_and_a_doubt_of_it_is_said(
    order: str, name: str, disputed: dict[str, str] | None, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASTGOOD_ORDER", order)
    for step, seconds in ((200, 1_700_000_000), (100, 1_700_000_900)):
        _saved_at(make_hf_checkpoint(alone / "output" / f"checkpoint-{step}", step), seconds)
    assert lastgood.resume_point(alone / "output") == str(alone / "output" / name)
    _code, printed, complaint = run("latest", alone / "output", "--json")
    found = json.loads(printed)
    assert (found["name"], found["order_disputed"]) == (name, disputed)
    doubt = "checkpoint-100 is the newest by time, checkpoint-200 by step: the setting `order` says which"
    assert (doubt in complaint) is (disputed is not None)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("asked", [".", "model/checkpoints"])
def test_saves_that_may_not_be_seen_are_no_reason_to_begin_anew(asked: str, alone: Path) -> None:
    closed = alone / "output" / "model" / "checkpoints"
    make_hf_checkpoint(closed / "checkpoint-100", 100)
    closed.chmod(0o700)
    assert _as_another(alone, alone / "output" / asked) == f"refused: listing {closed}: Permission denied"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_fresh_disk_is_a_place_to_begin(alone: Path) -> None:
    (alone / "output" / "lost+found").mkdir(parents=True)
    (alone / "output" / "lost+found").chmod(0o700)
    assert _as_another(alone, alone / "output") == "None"


def _as_another(place: Path, asked: Path) -> str:
    """What somebody else is told, to whom all is open that leads to the place."""
    for folder in (place, *place.parents):
        folder.chmod(folder.stat().st_mode | 0o055)

    def ask() -> str:
        try:
            return str(lastgood.resume_point(asked))
        except CannotTell as error:
            return f"refused: {error}"

    return str(as_user(1234, ask))


def test_every_wish_of_the_command_is_one_of_the_call_too(alone: Path) -> None:
    with (
        answering((200, {"name": "a", "path": "/a", "warnings": []}), alone) as made,
        pytest.MonkeyPatch.context() as m,
    ):
        m.setenv("LASTGOOD_URL", made.service.url)
        found = lastgood.resume_point(
            alone,
            run=".",
            accept="partial",
            require=["rng", "optimizer"],
            world_size=2,
            max_step=9,
            strict=True,
            wait=1.5,
        )
    assert found == "/a"
    asked = "run=.&accept=partial&require=optimizer%2Crng&world_size=2&max_step=9&strict=true&wait=1.5"
    assert made.asked[-1] == f"/checkpoints/latest?{asked}"


@pytest.mark.parametrize(("lease", "said"), [(True, {}), (90, {"seconds": 90})])
def test_the_path_can_be_leased_and_is_still_a_path(lease: bool | float, said: dict[str, float], alone: Path) -> None:
    with answering((500, {}), alone) as made, pytest.MonkeyPatch.context() as m:
        m.setenv("LASTGOOD_URL", made.service.url)
        point = {"id": 3, "name": "a", "path": "/a", "warnings": []}
        made.answers["/leases"] = (201, {"lease": {"id": 7}, "resume_point": point})
        assert lastgood.resume_point(alone, run=".", lease=lease) == "/a"
    ((method, path, body),) = made.sent
    assert (method, path) == ("POST", "/leases")
    assert {"run": ".", "holder": body["holder"], **said} == body


def test_what_nobody_says_is_left_to_the_service(alone: Path) -> None:
    with (
        answering((200, {"name": "a", "path": "/a", "warnings": []}), alone) as made,
        pytest.MonkeyPatch.context() as m,
    ):
        m.setenv("LASTGOOD_URL", made.service.url)
        lastgood.resume_point(alone)
        m.setenv("LASTGOOD_ACCEPT", "complete")
        lastgood.resume_point(alone)
    assert [asked for asked in made.asked if asked.startswith("/checkpoints")] == [
        "/checkpoints/latest?run=.",
        "/checkpoints/latest?run=.&accept=complete",
    ]


def test_a_component_that_there_is_not_is_named(alone: Path) -> None:
    with pytest.raises(SettingsError, match="'optimiser' is not a valid Component; the components are config, weights"):
        lastgood.resume_point(alone, require=["optimiser"])


def test_a_quick_look_reads_no_payload_and_says_so(alone: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = alone / "output"
    make_hf_checkpoint(output / "checkpoint-100", 100)
    weights = make_hf_checkpoint(output / "checkpoint-200", 200) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + struct.pack("<f", float("nan")))
    assert lastgood.resume_point(output) == str(output / "checkpoint-100")
    assert "headers alone" not in caplog.text
    assert lastgood.resume_point(output, quick=True) == str(output / "checkpoint-200")
    assert "headers alone" in caplog.text


def test_what_is_to_be_known_of_the_answer_is_logged(alone: Path, caplog: pytest.LogCaptureFixture) -> None:
    answer = {"name": "a", "path": "/a", "warnings": [{"message": "two jobs save here"}]}
    with answering((200, answer), alone) as made, pytest.MonkeyPatch.context() as m:
        m.setenv("LASTGOOD_URL", made.service.url)
        lastgood.resume_point(alone)
    assert "a: two jobs save here" in caplog.text
