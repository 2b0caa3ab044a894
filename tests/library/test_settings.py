"""Settings: three sources, one class, and no misspelt name passes in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from lastgood.errors import SettingsError
from lastgood.settings import Settings, read_settings, setting_as_environment

if TYPE_CHECKING:
    from collections.abc import Mapping


def chosen(**flags: Any) -> Settings:
    return read_settings({}, flags=flags)


@pytest.mark.parametrize(
    ("environ", "toml", "flags", "named", "source"),
    [
        pytest.param({}, "prot = 1", {}, "prot", "lastgood.toml", id="toml"),
        pytest.param({}, "[worker]\nport = 1", {}, "worker", "lastgood.toml", id="a table in toml"),
        pytest.param({"LASTGOOD_PROT": "1"}, "", {}, "LASTGOOD_PROT", "the environment", id="environment"),
        pytest.param({}, "", {"prot": 1}, "prot", "the command line", id="flags"),
    ],
)
def test_an_unknown_name_is_refused_with_the_place_where_it_stands(
    environ: Mapping[str, str], toml: str, flags: Mapping[str, Any], named: str, source: str
) -> None:
    with pytest.raises(SettingsError, match=f"{named} in {source} is not a setting"):
        read_settings(environ, toml, flags)


@pytest.mark.parametrize(
    ("environ", "toml", "flags", "complaint"),
    [
        pytest.param({"LASTGOOD_PORT": "99999"}, "", {}, "LASTGOOD_PORT in the environment is '99999'", id="too large"),
        pytest.param({}, "port = 'http'", {}, "port in lastgood.toml is 'http'", id="no number"),
        pytest.param({}, "", {"quiet_seconds": 0}, "quiet_seconds in the command line is 0", id="no time at all"),
        pytest.param({"LASTGOOD_ACCEPT": "any"}, "", {}, "LASTGOOD_ACCEPT in the environment is 'any'", id="no choice"),
        pytest.param({}, "port = ", {}, "lastgood.toml cannot be read", id="not toml"),
    ],
)
def test_a_wrong_value_is_refused_with_the_place_where_it_stands(
    environ: Mapping[str, str], toml: str, flags: Mapping[str, Any], complaint: str
) -> None:
    with pytest.raises(SettingsError, match=complaint):
        read_settings(environ, toml, flags)


def test_every_complaint_is_made_at_once() -> None:
    with pytest.raises(SettingsError, match=r"(?s)(?=.*LASTGOOD_PROT)(?=.*LASTGOOD_PORT)"):
        read_settings({"LASTGOOD_PROT": "1", "LASTGOOD_PORT": "x"})


@pytest.mark.parametrize(
    ("environ", "toml", "flags", "port"),
    [
        pytest.param({}, "", {}, 8484, id="the default"),
        pytest.param({}, "port = 1", {}, 1, id="toml over the default"),
        pytest.param({"LASTGOOD_PORT": "2"}, "port = 1", {}, 2, id="environment over toml"),
        pytest.param({"LASTGOOD_PORT": "2"}, "port = 1", {"port": 3}, 3, id="flags over all"),
    ],
)
def test_the_later_source_wins(environ: Mapping[str, str], toml: str, flags: Mapping[str, Any], port: int) -> None:
    assert read_settings(environ, toml, flags).port == port


def test_the_blame_falls_on_the_source_that_won() -> None:
    with pytest.raises(SettingsError, match="port in the command line"):
        read_settings({"LASTGOOD_PORT": "2"}, "port = 1", {"port": "x"})


@pytest.mark.parametrize(
    ("environ", "toml", "flags"),
    [
        pytest.param({"LASTGOOD_ROOTS": "/a:/b"}, "", {}, id="environment, as in PATH"),
        pytest.param({"LASTGOOD_ROOTS": ":/a::/b:"}, "", {}, id="environment, with empty parts"),
        pytest.param({}, 'roots = ["/a", "/b"]', {}, id="toml"),
        pytest.param({}, "", {"roots": ("/a", "/b")}, id="flags"),
    ],
)
def test_a_list_is_read_from_every_source(environ: Mapping[str, str], toml: str, flags: Mapping[str, Any]) -> None:
    assert read_settings(environ, toml, flags).roots == ("/a", "/b")


def test_other_programs_variables_are_none_of_ours() -> None:
    assert read_settings({"LASTGOODNESS": "1", "PORT": "1", "HOME": "/h"}) == read_settings({"HOME": "/h"})


@pytest.mark.parametrize(
    ("environ", "state_dir"),
    [
        pytest.param({"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/lastgood", id="XDG"),
        pytest.param({"HOME": "/h"}, "/h/.local/state/lastgood", id="home"),
        pytest.param({"HOME": "/h", "LASTGOOD_STATE_DIR": "/x"}, "/x", id="as told"),
    ],
)
def test_the_state_lies_where_the_desktop_rules_say_unless_told(environ: Mapping[str, str], state_dir: str) -> None:
    assert read_settings(environ).state_dir == state_dir


@pytest.mark.parametrize(
    ("name", "value"),
    [("roots", ("/a", "/b")), ("port", 1), ("open_reads", True), ("events", False), ("quiet_seconds", 0.25)],
)
def test_a_setting_survives_being_handed_to_a_child(name: str, value: Any) -> None:
    handed_on = read_settings(dict([setting_as_environment(name, value)]))
    assert getattr(handed_on, name) == value


@pytest.mark.parametrize(
    ("host", "open_reads", "needed"),
    [
        pytest.param("127.0.0.1", False, False, id="only this machine"),
        pytest.param("::1", False, False, id="only this machine, version 6"),
        pytest.param("0.0.0.0", False, True, id="everybody"),
        pytest.param("0.0.0.0", True, False, id="everybody, on purpose"),
    ],
)
def test_reads_need_a_token_beyond_this_machine(host: str, open_reads: bool, needed: bool) -> None:
    assert chosen(host=host, open_reads=open_reads).reads_need_token is needed


def test_the_service_is_found_on_its_port_unless_a_place_is_told() -> None:
    assert chosen(port=9).service_url == "http://127.0.0.1:9"
    assert chosen(port=9, url="http://box:1/").service_url == "http://box:1"


def test_the_token_lies_with_the_state_unless_told() -> None:
    assert chosen(state_dir="/s").token_path == "/s/token"
    assert chosen(state_dir="/s", token_file="/t").token_path == "/t"


def test_settings_cannot_be_changed_later() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        chosen().port = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described_in_a_sentence(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description
    assert description[0].isupper()
    assert description.endswith(".")
