"""Every command by its words, its output and its exit code: 0 good, 1 found wanting, 2 could not be done."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click
import pytest

from builders import hf_files, make_hf_checkpoint, write_files
from commanding import run, settle_in
from lastgood import progress, rendering
from lastgood.cli import commands
from lastgood.manifest import write_manifest
from lastgood.verify import verify
from running import LASTGOOD, environ, free_port
from worker_world import NOON

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return settle_in(tmp_path, monkeypatch)


# --- latest ---


def test_latest_prints_the_path_and_nothing_else(place: Path) -> None:
    for step in (100, 200):
        make_hf_checkpoint(place / f"output/checkpoint-{step}", step)
    assert run("latest", "output") == (0, f"{place}/output/checkpoint-200\n", "")


def test_newer_ones_that_are_passed_over_are_told_beside_the_path(place: Path) -> None:
    for step in range(1, 14):
        folder = make_hf_checkpoint(place / f"output/checkpoint-{step}", step)
        if step > 1:
            (folder / "model.safetensors").write_bytes(b"")
    code, printed, said = run("latest", "output")
    assert (code, printed) == (0, f"{place}/output/checkpoint-1\n")
    lines = said.splitlines()
    assert lines[0].startswith("lastgood: warning: checkpoint-13 is newer, but was passed over: it is incomplete")
    assert len(lines) == 11
    assert lines[-1] == "lastgood: warning: and so are 2 more"


def test_latest_as_json_is_the_whole_answer(place: Path) -> None:
    make_hf_checkpoint(place / "output/checkpoint-100", 100)
    code, printed, _ = run("latest", "output", "--json")
    answer = json.loads(printed)
    assert code == 0
    assert (answer["name"], answer["step"], answer["source"]) == ("checkpoint-100", 100, "own look")
    assert answer["path"] == f"{place}/output/checkpoint-100"


@pytest.mark.parametrize(
    ("files", "arguments", "code", "complaint"),
    [
        pytest.param([], [], 1, "nothing has been saved in", id="nothing was saved yet"),
        pytest.param([], ["--or-none"], 0, "", id="nothing was saved yet, and that is fine"),
        pytest.param(hf_files(100)[:3], [], 1, "no judged checkpoint", id="nothing is good"),
        pytest.param(
            hf_files(100)[:3], ["--or-none"], 1, "no judged checkpoint", id="that nothing is good is not fine"
        ),
        pytest.param(hf_files(100), ["--max-step", "50"], 1, "no judged checkpoint", id="nothing fits the wishes"),
        pytest.param(hf_files(100), ["--require", "glue"], 2, "the components are config,", id="unknown component"),
        pytest.param(hf_files(100), ["--world-size", "0"], 2, "Invalid value", id="a wish that is none"),
        pytest.param(hf_files(100), ["--run", "misspelt", "--or-none"], 2, "no such folder", id="misspelt run"),
    ],
)
def test_latest_says_why_there_is_none(
    files: list[tuple[str, bytes]], arguments: list[str], code: int, complaint: str, place: Path
) -> None:
    (place / "output").mkdir()
    if files:
        write_files(place / "output/checkpoint-100", files)
    found = run("latest", "output", *arguments)
    assert (found[0], found[1]) == (code, "")
    assert complaint in found[2]
    assert bool(found[2]) == bool(complaint)


def test_copies_alone_are_no_fresh_start(place: Path) -> None:
    for name in ("best_model", "last_checkpoint"):
        make_hf_checkpoint(place / "output" / name, 100)
    code, printed, complaint = run("latest", "output", "--or-none")
    assert (code, printed) == (1, "")
    assert "nothing in" in complaint
    assert "but copies (best_model, last_checkpoint)" in complaint


def test_a_file_in_place_of_a_folder_is_called_a_file(place: Path) -> None:
    (place / "output").touch()
    code, printed, complaint = run("latest", "output", "--or-none")
    assert (code, printed) == (2, "")
    assert "output is a file: name the folder that the checkpoints lie in" in complaint


def test_a_folder_of_nothing_but_copies_is_not_taken_for_a_checkpoint(place: Path) -> None:
    for name in ("best_model", "last_checkpoint"):
        make_hf_checkpoint(place / "output" / name, 100)
    for command in ("verify", "inspect", "fix"):
        code, printed, complaint = run(command, "output")
        assert (code, printed) == (2, "")
        assert (
            f"is not a checkpoint but holds 2 checkpoints: name one, such as {place / 'output' / 'last_checkpoint'}\n"
            in complaint
        )
    code, printed, complaint = run("fix", "--all", "output")
    assert (code, printed) == (2, "")
    assert f"holds nothing but copies: name one, such as {place / 'output' / 'last_checkpoint'}" in complaint


def test_a_checkpoint_may_hold_a_folder_that_is_called_like_a_copy(place: Path) -> None:
    make_hf_checkpoint(place / "model", 100)
    make_hf_checkpoint(place / "model" / "best", 50)
    assert run("verify", "model", "--level", "quick")[1].startswith(f"{place / 'model'}\n  COMPLETE")


def test_a_refusal_tells_every_reason_and_how_to_take_one_all_the_same(place: Path) -> None:
    for step in range(1, 14):
        make_hf_checkpoint(place / "output" / f"checkpoint-{step}", step)
        (place / "output" / f"checkpoint-{step}" / "optimizer.pt").unlink()
    (place / "output" / "checkpoint-13" / "trainer_state.json").unlink()
    code, printed, complaint = run("latest", "output")
    assert (code, printed) == (1, "")
    lines = complaint.splitlines()
    none = "none of 13 judged checkpoints can be handed out; checkpoint-12 could be with accept=partial"
    assert lines[0] == f"lastgood: {none}"
    assert lines[1].startswith("  checkpoint-13: it is incomplete")
    assert lines[2] == "  checkpoint-12: it is partial (without optimizer)"
    assert lines[-2] == "  and 3 older ones; --json tells all"
    command = f"lastgood latest {place / 'output'} --accept partial"
    assert lines[-1] == f"  to use checkpoint-12 anyway: {command}"
    assert run(*command.split()[1:])[:2] == (0, f"{place / 'output' / 'checkpoint-12'}\n")
    code, printed, _complaint = run("latest", "output", "--json")
    told = json.loads(printed)
    assert (code, len(told["refused"]), told["accept_with"], told["detail"]) == (1, 13, command, none)


@pytest.mark.parametrize("variable", ["LASTGOOD_ACCEPT", "LASTGOOD_ORDER", ""])
def test_what_is_wrong_with_a_question_is_told_as_json_too(
    place: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    (place / "output").mkdir()
    if variable:
        monkeypatch.setenv(variable, "nonsense")
    code, printed, complaint = run("latest", "output", "--json", *([] if variable else ["--require", "nonsense"]))
    assert (code, complaint) == (2, f"lastgood: {json.loads(printed)['detail']}\n")


@pytest.mark.parametrize("command", ["verify", "verify --manifest nowhere", "inspect", "fix", "fix --dry-run"])
def test_what_hinders_a_look_is_told_as_json_too(place: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    if "--manifest" not in command:
        monkeypatch.setenv("LASTGOOD_DIGEST", "nonsense")
    path = str(place / "checkpoint-1")
    code, printed, complaint = run(*command.split(), path, "--json")
    told = json.loads(printed)
    assert (code, told["path"], complaint) == (2, path, f"lastgood: {told['error']}\n")


@pytest.mark.parametrize("command", ["verify", "inspect", "fix", "latest", "up", "fix --all", "pull llama --into"])
@pytest.mark.parametrize("path", ["", " "])
def test_an_empty_path_is_not_the_folder_that_one_stands_in(place: Path, command: str, path: str) -> None:
    make_hf_checkpoint(place / "checkpoint-1", 1)
    code, printed, complaint = run(*command.split(), path)
    assert (code, printed) == (2, "")
    assert "it is empty: is the variable set?" in complaint


def test_latest_in_a_folder_that_is_not_there_is_no_fresh_start(place: Path) -> None:
    code, printed, complaint = run("latest", "misspelt", "--or-none")
    assert (code, printed) == (2, "")
    assert "no such folder" in complaint


def test_a_checkpoint_in_the_place_of_its_folder_is_no_fresh_start(place: Path) -> None:
    make_hf_checkpoint(place / "output" / "checkpoint-100", 100)
    code, printed, complaint = run("latest", "output/checkpoint-100", "--or-none")
    assert (code, printed) == (2, "")
    assert f"name the folder that holds it, {place / 'output'}" in complaint


def test_verify_of_a_folder_of_checkpoints_points_to_them(place: Path) -> None:
    for step in (20, 100):
        make_hf_checkpoint(place / "output" / f"checkpoint-{step}", step)
    code, printed, complaint = run("verify", "output")
    assert (code, printed) == (2, "")
    assert (
        f"is not a checkpoint but holds 2 checkpoints: name one, such as {place / 'output' / 'checkpoint-100'}"
        in complaint
    )


def test_latest_from_a_service_that_is_not_there_could_not_be_done(place: Path) -> None:
    code, printed, complaint = run("latest", "--or-none")
    assert (code, printed) == (2, "")
    assert "no service answers at http://127.0.0.1:" in complaint
    assert "lastgood up DIR" in complaint


def test_partial_ones_are_printed_where_they_are_accepted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(place / "output/checkpoint-100", [file for file in hf_files(100) if file[0] != "scheduler.pt"])
    code, _, complaint = run("latest", "output")
    assert code == 1
    assert "accept=partial" in complaint
    assert run("latest", "output", "--accept", "partial")[0] == 0
    monkeypatch.setenv("LASTGOOD_ACCEPT", "partial")
    assert run("latest", "output")[0] == 0
    assert run("latest", "output", "--accept", "complete")[0] == 1


def test_a_quick_answer_is_one_by_headers_alone_and_says_so(place: Path) -> None:
    newest = make_hf_checkpoint(place / "output/checkpoint-200", 200) / "model.safetensors"
    make_hf_checkpoint(place / "output/checkpoint-100", 100)
    newest.write_bytes(newest.read_bytes()[:-4] + b"\0\0\xc0\x7f")  # not a number
    code, out, _ = run("latest", "output")
    assert (code, out) == (0, f"{place}/output/checkpoint-100\n")
    done = subprocess.run(
        [*LASTGOOD, "latest", "output", "--quick"], env=environ(place), capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{place}/output/checkpoint-200\n"
    assert "taken by its headers alone" in done.stderr


def test_a_misspelt_setting_is_no_silence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTGOOD_ACEPT", "partial")
    code, _, complaint = run("latest", place)
    assert code == 2
    assert complaint == (
        "lastgood: LASTGOOD_ACEPT in the environment is not a setting; docs/settings.md lists them all\n"
    )


def test_latest_loads_nothing_heavy_but_what_its_own_look_at_the_numbers_needs(place: Path) -> None:
    make_hf_checkpoint(place / "output/checkpoint-100", 100)
    program = (
        "import sys\nfrom lastgood.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    print(*(n for n in ('torch', 'numpy', 'sqlalchemy', 'fastapi', 'watchdog') if n in sys.modules))"
    )
    child = subprocess.run(
        [sys.executable, "-c", program, "latest", "output"],
        env=environ(place, LASTGOOD_PORT=str(free_port())),
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.stdout, child.stderr) == (f"{place}/output/checkpoint-100\nnumpy\n", "")


# --- verify ---


@pytest.mark.parametrize(
    ("files", "arguments", "code", "word"),
    [
        pytest.param(hf_files(100), [], 0, "COMPLETE", id="complete"),
        pytest.param(hf_files(100), ["--level", "quick"], 0, "(quick)", id="a quick look"),
        pytest.param([f for f in hf_files(100) if f[0] != "scheduler.pt"], [], 1, "PARTIAL", id="partial"),
        pytest.param(
            [f for f in hf_files(100) if f[0] != "scheduler.pt"],
            ["--accept", "partial"],
            0,
            "✗ scheduler",
            id="partial, and accepted",
        ),
        pytest.param(hf_files(100)[:-1], [], 1, "INCOMPLETE", id="incomplete"),
        pytest.param(hf_files(9000), [], 0, "step-disagrees", id="a warning"),
        pytest.param(hf_files(9000), ["--strict"], 1, "step-disagrees", id="a warning that counts"),
        pytest.param(hf_files(100), ["-v"], 0, "crc64nvme:", id="every file"),
        pytest.param(hf_files(100), ["-v", "--digest", "sha256"], 0, "sha256:", id="another digest"),
        pytest.param(hf_files(100), ["-v", "--level", "deep"], 0, "[weights-only-refuses]", id="the real loaders"),
    ],
)
def test_verify_says_what_a_checkpoint_is_worth(
    files: list[tuple[str, bytes]], arguments: list[str], code: int, word: str, place: Path
) -> None:
    write_files(place / "checkpoint-100", files)
    found = run("verify", "checkpoint-100", *arguments)
    assert (found[0], found[2]) == (code, "")
    assert word in found[1]


def test_verify_goes_through_all_paths_and_tells_the_worst(place: Path) -> None:
    make_hf_checkpoint(place / "checkpoint-100", 100)
    write_files(place / "checkpoint-200", hf_files(200)[:-1])
    code, printed, complaint = run("verify", "checkpoint-200", "nowhere", "checkpoint-100", "--json")
    assert code == 2
    told = [json.loads(line) for line in printed.splitlines()]
    assert [one.get("verdict") for one in told] == ["incomplete", None, "complete"]
    assert (told[1]["path"], "no such folder" in told[1]["error"]) == ("nowhere", True)
    assert "nowhere: no such folder" in complaint


def test_several_are_summed_up_in_one_line(place: Path) -> None:
    make_hf_checkpoint(place / "checkpoint-100", 100)
    make_hf_checkpoint(place / "checkpoint-200", 200)
    write_files(place / "checkpoint-300", hf_files(300)[:-1])
    code, printed, _ = run("verify", "checkpoint-100", "checkpoint-200", "checkpoint-300", "nowhere")
    assert code == 2
    assert printed.splitlines()[-1] == "4 checkpoints: 2 complete, 1 incomplete, 1 could not be judged"


def test_output_that_cannot_be_written_is_told_in_one_line(place: Path) -> None:
    make_hf_checkpoint(place / "checkpoint-100", 100)
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "lastgood", "verify", "checkpoint-100"]
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (found.returncode, found.stderr) == (2, "lastgood: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("command", ["verify", "inspect", "latest"])
def test_errors_are_told_as_json_too(place: Path, command: str) -> None:
    code, printed, complaint = run(command, place / "nowhere", "--json")
    assert (code, len(json.loads(printed)) > 0, "no such folder" in complaint) == (2, True, True)


def _that_print_json(group: click.Group, *names: str) -> Iterator[list[str]]:
    """Each command with --json, and what it cannot do without."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _that_print_json(command, *names, name)
        elif any("--json" in option.opts for option in command.params):
            needed = [option for option in command.params if isinstance(option, click.Argument)]
            yield [*names, name, *("checkpoint-1" for option in needed if option.required)]


@pytest.mark.parametrize("command", [*_that_print_json(commands)], ids=" ".join)
def test_no_command_leaves_whoever_parses_its_json_without_a_word_of_what_went_wrong(
    place: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("LASTGOOD_DIGEST", "nonsense")
    given = ["checkpoint-1"] if command == ["fix"] else ["--level", "full"] if command[0] == "inspect" else []
    code, printed, complaint = run(*command, *given, "--json")
    told = json.loads(printed)
    assert (code, f"lastgood: {told.get('error', told.get('detail'))}\n") == (2, complaint)


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "601", "soon"])
def test_a_wait_that_would_not_end_is_no_wait(place: Path, seconds: str) -> None:
    code, printed, complaint = run("latest", "--wait", seconds)
    assert (code, printed, "Invalid value for '--wait'" in complaint) == (2, "", True)


def test_it_is_also_a_module() -> None:
    found = subprocess.run([sys.executable, "-m", "lastgood", "--version"], capture_output=True, text=True, check=True)
    assert found.stdout.partition(",")[2] == run("--version")[1].partition(",")[2]


def test_findings_are_grouped_by_severity_and_say_what_to_do(place: Path) -> None:
    write_files(place / "checkpoint-100", [file for file in hf_files(9000) if file[0] != "scheduler.pt"])
    _, printed, _ = run("verify", "checkpoint-100")
    lines = [line.strip() for line in printed.splitlines()]
    assert lines.index("errors") < lines.index("warnings")
    assert "[scheduler-missing]" in lines[lines.index("errors") + 1]
    assert lines[lines.index("errors") + 2].startswith("→ the learning rate starts from its first value")
    assert "[step-disagrees]" in lines[lines.index("warnings") + 1]


def test_remarks_are_counted_and_shown_when_asked_for(place: Path) -> None:
    make_hf_checkpoint(place / "checkpoint-100", 105)
    assert "-v shows" in run("verify", "checkpoint-100")[1]
    assert "[step-offset]" not in run("verify", "checkpoint-100")[1]
    assert "[step-offset]" in run("verify", "checkpoint-100", "-v")[1]


def test_a_manifest_and_that_of_the_one_before_can_be_given(place: Path) -> None:
    make_hf_checkpoint(place / "checkpoint-100", 100)
    files = {**dict(hf_files(200)), "optimizer.pt": dict(hf_files(100))["optimizer.pt"]}
    write_files(place / "checkpoint-200", list(files.items()))
    for step in (100, 200):
        manifest = verify(str(place / f"checkpoint-{step}")).manifest
        assert manifest is not None
        write_manifest(str(place / "kept"), manifest)
    code, printed, _ = run("verify", "checkpoint-200", "--previous", "kept/checkpoint-100.json")
    assert (code, "[file-of-another]" in printed) == (1, True)
    code, printed, _ = run("verify", "checkpoint-100", "--manifest", "kept/checkpoint-200.json")
    assert (code, "[manifest-mismatch]" in printed) == (1, True)
    assert run("verify", "checkpoint-100", "--manifest", "kept/checkpoint-100.json")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param(["--manifest", "nowhere.json"], "reading the manifest nowhere.json", id="not there"),
        pytest.param(["--manifest", "checkpoint-100/config.json"], "is no manifest", id="something else"),
        pytest.param(["checkpoint-100", "--previous", "x.json"], "name one PATH", id="one for several"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_no_silence(arguments: list[str], complaint: str, place: Path) -> None:
    make_hf_checkpoint(place / "checkpoint-100", 100)
    code, printed, complained = run("verify", "checkpoint-100", *arguments)
    assert (code, printed) == (2, "")
    assert complaint in complained


def test_names_of_files_tell_the_terminal_nothing(place: Path) -> None:
    folder = make_hf_checkpoint(place / "checkpoint-100", 100)
    (folder / "\x1b]0;title\x07\u202eno\r.json").write_text("{")
    for arguments in (["-v"], []):
        _code, printed, _ = run("verify", "checkpoint-100", *arguments)
        assert r"\x1b]0;title\x07\u202eno\r.json" in printed
        assert not {"\x1b", "\x07", "\u202e", "\r"} & set(printed)
    code, _, complaint = run("verify", "nothing\x1bhere")
    assert code == 2
    assert r"nothing\x1bhere" in complaint


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_of_a_layout_that_nobody_knows_it_is_not_said_that_the_save_never_finished(place: Path, command: str) -> None:
    folder = make_hf_checkpoint(place / "final_model", 100)
    for path in folder.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    code, printed, _ = run(command, "final_model")
    assert code == 1
    assert "INCOMPLETE: nothing that lastgood knows how to go on from" in printed
    assert "never finished" not in printed


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        pytest.param((), "COMPLETE: everything there, as far as headers tell", id="complete"),
        pytest.param(("scheduler.pt",), "PARTIAL: some training state is missing; the rest is there", id="partial"),
    ],
)
def test_a_quick_look_says_no_more_than_it_saw(place: Path, broken: tuple[str, ...], said: str) -> None:
    folder = make_hf_checkpoint(place / "checkpoint-100", 100)
    for name in broken:
        (folder / name).unlink()
    _code, printed, _ = run("verify", "checkpoint-100", "--level", "quick")
    assert said in printed
    assert "every byte" not in printed


@pytest.mark.parametrize(
    ("environ", "terminal", "colour"),
    [
        pytest.param({}, True, True, id="a terminal"),
        pytest.param({}, False, False, id="a pipe"),
        pytest.param({"NO_COLOR": "1"}, True, False, id="somebody wants none"),
        pytest.param({"TERM": "dumb"}, True, False, id="a terminal without any"),
    ],
)
def test_where_colour_is_used(
    environ: dict[str, str], terminal: bool, colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    assert rendering.takes_colour(stream, environ) is colour


def test_a_bar_is_shown_on_a_terminal_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_hf_checkpoint(place / "checkpoint-100", 100)
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    for terminal in (True, False):
        stream = io.StringIO()
        monkeypatch.setattr(stream, "isatty", lambda shown=terminal: shown)
        with progress.progress_bar("checkpoint-100", stream) as heard:
            verify("checkpoint-100", on_bytes=heard)
        assert ("checkpoint-100" in stream.getvalue()) is terminal


def test_a_quick_look_loads_no_bar(place: Path) -> None:
    make_hf_checkpoint(place / "checkpoint-100", 100)
    program = (
        "import sys\nfrom lastgood.cli import main\n"
        "try:\n    main()\nfinally:\n    print(*(n for n in ('rich', 'torch', 'httpx') if n in sys.modules))"
    )
    arguments = [sys.executable, "-c", program, "verify", "checkpoint-100", "--level", "quick"]
    child = subprocess.run(arguments, env=environ(place), cwd=place, capture_output=True, text=True, check=False)
    assert (child.returncode, child.stdout.splitlines()[-1]) == (0, "")


# --- with a service ---


@pytest.fixture
def served(place: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from service_process import serving
    from service_world import World

    world = World(place / "world", real_clock=True)
    world.beat()
    world.save(100)
    world.log("checkpoint-100 is landing")
    with serving(world) as service:
        monkeypatch.setenv("LASTGOOD_URL", service.url)
        yield world
    world.catalog.close()


def test_a_service_answers_latest_status_and_events(served: Any) -> None:
    assert run("latest") == (0, served.path(100).rstrip("/") + "\n", "")
    code, printed, _ = run("status")
    assert code == 0
    assert "ready; watching by events" in printed
    assert "run llama: checkpoint-100 (step 100, complete, marker)" in printed
    assert json.loads(run("status", "--json")[1])["ready"] is True
    code, printed, _ = run("events")
    assert code == 0
    assert "checkpoint-100 is landing" in printed
    (line,) = run("events", "--json")[1].splitlines()
    assert run("events", "--since", json.loads(line)["id"]) == (0, "", "")


def test_what_is_not_ready_is_found_wanting(served: Any) -> None:
    served.beat(heartbeat_at=NOON)
    code, printed, _ = run("status")
    assert code == 1
    assert "NOT READY" in printed
    assert run("latest")[0] == 2


@pytest.mark.parametrize("command", ["status", "events"])
def test_what_needs_a_service_says_so(command: str, place: Path) -> None:
    code, printed, complaint = run(command)
    assert (code, printed) == (2, "")
    assert "no service answers" in complaint


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(["--help"], 0, id="help"),
        pytest.param(["--version"], 0, id="version"),
        pytest.param(["latset"], 2, id="a misspelt command"),
        pytest.param(["up"], 2, id="no folder"),
    ],
)
def test_the_programs_own_words(arguments: list[str], code: int, place: Path) -> None:
    assert run(*arguments)[0] == code


def test_the_service_and_the_worker_are_commands_too(place: Path) -> None:
    for command in ("worker", "service"):
        child = subprocess.run(
            [*LASTGOOD, command],
            env=environ(place, LASTGOOD_STATE_DIR="/proc/nowhere", LASTGOOD_ROOTS=str(place)),
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
        assert child.returncode == 2
        assert child.stderr.startswith(f"lastgood {command}: the state folder /proc/nowhere")
