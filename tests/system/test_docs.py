"""What the documents promise is what the code has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click
import pytest

from findings_page import findings_page, head_of, texts_of
from lastgood import findings, settings
from lastgood.cli import commands
from settings_page import settings_page
from training_page import renewed

REPOSITORY: Final = Path(__file__).parents[2]
README: Final = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_every_setting_is_documented_as_the_code_has_it() -> None:
    page = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_page(), "renew it: python tests/support/settings_page.py > docs/settings.md"
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == set(settings.Settings.model_fields)


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in settings.Settings.model_fields.items() if not field.description] == []


def test_every_option_is_documented_as_the_code_has_it() -> None:
    page = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
    assert page == renewed(page), "renew it: python tests/support/training_page.py docs/training.md"


def test_every_finding_is_documented_in_order_with_its_severity_verdict_and_hint() -> None:
    page = (REPOSITORY / "docs" / "findings.md").read_text(encoding="utf-8")
    texts = texts_of(page)
    assert page == findings_page(head_of(page), texts), (
        "renew it: python tests/support/findings_page.py docs/findings.md"
    )
    assert [code for code in findings.Code if not texts.get(code)] == []


def test_every_module_has_its_place_on_the_map() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = [REPOSITORY / "src/lastgood", *(REPOSITORY / "src/lastgood" / name for name in ("training", "mending"))]
    folders += [REPOSITORY / "src/lastgood/remote", REPOSITORY / "worker/lastgood_worker"]
    modules = {path.stem for folder in folders for path in folder.glob("[!_]*.py")}
    assert modules - set(re.findall(r"\w+", page)) == set()


def test_every_command_that_the_readme_names_is_there_and_takes_those_options() -> None:
    named = re.findall(r"\blastgood ([a-z]+)((?: [^\n`|)]*)?)", _code_of(README))
    assert {"up", "latest", "verify", "status", "events"} <= {name for name, _rest in named}
    for name, rest in named:
        command = commands.commands[name]
        if isinstance(command, click.Group):
            command = command.commands[rest.split()[0]]
        options = {flag for option in command.params for flag in option.opts if isinstance(option, click.Option)}
        assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest)) <= options | {"--help"}, f"lastgood {name}{rest}"


def test_every_command_is_in_the_readme() -> None:
    assert [name for name in commands.commands if f"lastgood {name}" not in README] == []


def test_the_options_that_the_readme_lists_are_those_of_latest() -> None:
    (row,) = (line for line in README.splitlines() if line.startswith("| `lastgood latest"))
    options = {flag for option in commands.commands["latest"].params for flag in option.opts}
    assert set(re.findall(r"--[a-z-]+", row)) <= options


def test_every_verdict_is_in_the_readme() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)) == set(findings.Verdict)


def test_every_file_that_a_document_links_to_is_there() -> None:
    for document in (REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("target", ["demo", "up", "test", "prove", "check"])
def test_every_make_target_that_the_readme_names_is_there(target: str) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_what_compose_yaml_asks_for_is_in_env_example_with_the_same_default() -> None:
    asked = re.findall(r"\$\{(\w+):-([^}]*)\}", (REPOSITORY / "compose.yaml").read_text(encoding="utf-8"))
    said = re.findall(r"^(\w+)=(.*)$", (REPOSITORY / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(asked) == set(said)


def _code_of(text: str) -> str:
    """Code in lines and blocks, one piece a line."""
    blocks = re.findall(r"^    (.*)$", text, re.MULTILINE)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", text)])
