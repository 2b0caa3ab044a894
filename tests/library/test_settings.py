"""Settings: three sources, one class, and no misspelt name passes in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from lastgood.errors import SettingsError
from lastgood.settings import RunSettings, Settings, read_settings, setting_as_environment
from lastgood.settings_values import KeepBest

if TYPE_CHECKING:
    from collections.abc import Mapping


def chosen(**flags: Any) -> Settings:
    return read_settings({}, flags=flags)


@pytest.mark.parametrize(
    ("environ", "toml", "flags", "named", "source"),
    [
        pytest.param({}, "prot = 1", {}, "prot", "in lastgood.toml", id="toml"),
        pytest.param({}, "[worker]\nport = 1", {}, "worker", "in lastgood.toml", id="a table in toml"),
        pytest.param({"LASTGOOD_PROT": "1"}, "", {}, "LASTGOOD_PROT", "in the environment", id="environment"),
        pytest.param({}, "", {"prot": 1}, "prot", "on the command line", id="flags"),
        pytest.param({}, "[runs.llama]\nport = 1", {}, "runs.llama.port", "in lastgood.toml", id="one run's, in toml"),
        pytest.param(
            {"LASTGOOD_RUNS": '{"llama": {"order": "step"}}'},
            "",
            {},
            "LASTGOOD_RUNS.llama.order",
            "in the environment",
            id="one run's, in the environment",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_the_place_where_it_stands(
    environ: Mapping[str, str], toml: str, flags: Mapping[str, Any], named: str, source: str
) -> None:
    with pytest.raises(SettingsError, match=f"{named} {source} is not a setting"):
        read_settings(environ, toml, flags)


@pytest.mark.parametrize(
    ("environ", "toml", "flags", "complaint"),
    [
        pytest.param({"LASTGOOD_PORT": "99999"}, "", {}, "LASTGOOD_PORT in the environment is '99999'", id="too large"),
        pytest.param({}, "port = 'http'", {}, "port in lastgood.toml is 'http'", id="no number"),
        pytest.param({}, "", {"quiet_seconds": 0}, "quiet_seconds on the command line is 0", id="no time at all"),
        pytest.param({"LASTGOOD_ACCEPT": "any"}, "", {}, "LASTGOOD_ACCEPT in the environment is 'any'", id="no choice"),
        pytest.param({}, "port = ", {}, "lastgood.toml cannot be read", id="not toml"),
        pytest.param({}, "keep_last = -1", {}, "keep_last in lastgood.toml is -1: .*greater than", id="less than none"),
        pytest.param(
            {"LASTGOOD_KEEP_LAST": "two"}, "", {}, "LASTGOOD_KEEP_LAST in the environment is 'two'", id="not a number"
        ),
        pytest.param(
            {"LASTGOOD_KEEP_BEST": "eval_loss"},
            "",
            {},
            "LASTGOOD_KEEP_BEST in the environment is 'eval_loss': .*such as `1 by eval_loss min`",
            id="best, how many",
        ),
        pytest.param({}, 'keep_best = "2 by loss"', {}, "keep_best in .* less or more is better", id="best, but which"),
        pytest.param({}, "keep_best = 2", {}, "keep_best in lastgood.toml is 2", id="best, by what"),
        pytest.param(
            {},
            "",
            {"keep_within": "a week"},
            "keep_within on the command line is 'a week': a duration is a number and one of .*such as 36h or 7d",
            id="no duration",
        ),
        pytest.param({}, "keep_within = -1", {}, "keep_within in lastgood.toml is -1", id="a negative duration"),
        pytest.param({}, "runs = 3", {}, "runs in lastgood.toml is 3", id="runs that are no table"),
        pytest.param(
            {"LASTGOOD_RUNS": "llama"}, "", {}, "LASTGOOD_RUNS in the environment is 'llama'", id="runs, not JSON"
        ),
        pytest.param(
            {},
            '[runs."llama/a"]\nkeep_within = "soon"',
            {},
            "runs.llama/a.keep_within in lastgood.toml is 'soon'",
            id="a wrong value of one run",
        ),
        pytest.param(
            {"LASTGOOD_RUNS": '{"llama": {"accept": "any"}}'},
            "",
            {},
            "LASTGOOD_RUNS.llama.accept in the environment is 'any'",
            id="a wrong choice of one run",
        ),
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
    with pytest.raises(SettingsError, match="port on the command line"):
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
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("90s", 90), ("1.5m", 90), ("36h", 129_600), (" 7 d ", 604_800), ("1w", 604_800)],
)
def test_a_duration_is_a_number_with_or_without_a_unit(text: str, seconds: float) -> None:
    assert read_settings({"LASTGOOD_KEEP_WITHIN": text}).keep_within == seconds
    assert read_settings({}, f'keep_within = "{text}"').keep_within == seconds


def test_a_duration_in_toml_may_be_a_bare_number() -> None:
    assert read_settings({}, "keep_within = 90").keep_within == 90


@pytest.mark.parametrize(
    ("text", "best"),
    [
        pytest.param("1 by eval_loss min", KeepBest(1, "eval_loss", "min"), id="less is better"),
        pytest.param(" 10  by  metrics.f1  max ", KeepBest(10, "metrics.f1", "max"), id="more is better"),
        pytest.param("2 by eval/rewards-min max", KeepBest(2, "eval/rewards-min", "max"), id="whatever it is called"),
        pytest.param("", None, id="no such rule"),
    ],
)
def test_which_are_the_best_is_said_in_four_words(text: str, best: KeepBest | None) -> None:
    assert read_settings({"LASTGOOD_KEEP_BEST": text}).keep_best == best
    assert read_settings({}, f'keep_best = "{text}"').keep_best == best


IN_TOML = """
keep_last = 3
keep_best = "1 by loss min"
[runs."llama/checkpoints"]
accept = "partial"
keep_last = 0
keep_best = ""
keep_within = "36h"
"""
IN_JSON = '{"llama/checkpoints": {"accept": "partial", "keep_last": 0, "keep_best": "", "keep_within": "36h"}}'


@pytest.mark.parametrize(
    ("environ", "toml"),
    [
        pytest.param({}, IN_TOML, id="toml"),
        pytest.param(
            {"LASTGOOD_KEEP_LAST": "3", "LASTGOOD_KEEP_BEST": "1 by loss min", "LASTGOOD_RUNS": IN_JSON},
            "",
            id="environment, as JSON",
        ),
    ],
)
def test_one_run_may_have_its_own_and_what_is_left_out_is_as_for_all(environ: Mapping[str, str], toml: str) -> None:
    settings = read_settings(environ, toml)
    own, others = settings.of_run("llama/checkpoints"), settings.of_run("llama")
    assert (own.accept, own.keep_last, own.keep_best, own.keep_within) == ("partial", 0, None, 129_600)
    assert (others.accept, others.keep_last, others.keep_best) == ("complete", 3, KeepBest(1, "loss", "min"))
    assert own.keep_every == others.keep_every
    assert others == settings


RUNS = {
    "llama/checkpoints": RunSettings(keep_last=0, keep_best=KeepBest(1, "loss", "min"), keep_within=90.5),
    ".": RunSettings(accept="partial"),
    'ünter "x"': RunSettings(),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("roots", ("/a", "/b")),
        ("port", 1),
        ("open_reads", True),
        ("events", False),
        ("quiet_seconds", 0.25),
        ("keep_best", KeepBest(2, "eval_loss", "max")),
        ("keep_best", None),
        ("keep_within", 129_600.0),
        ("runs", RUNS),
        ("runs", {}),
    ],
)
def test_a_setting_survives_being_handed_to_a_child(name: str, value: Any) -> None:
    handed_on = read_settings(dict([setting_as_environment(name, value)]))
    assert getattr(handed_on, name) == value


def test_all_settings_together_survive_being_handed_to_a_child() -> None:
    settings = read_settings({"HOME": "/h"}, IN_TOML)
    handed_on = dict(setting_as_environment(name, getattr(settings, name)) for name in Settings.model_fields)
    assert read_settings(handed_on) == settings


def test_what_a_run_leaves_out_stays_left_out_in_the_child() -> None:
    handed_on = read_settings(dict([setting_as_environment("runs", RUNS)]))
    assert handed_on.runs["."].model_fields_set == {"accept"}


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
    assert chosen(port=9, host="0.0.0.0").service_url == "http://127.0.0.1:9"
    assert chosen(port=9, host="10.0.0.5").service_url == "http://10.0.0.5:9"
    assert chosen(port=9, host="::1").service_url == "http://[::1]:9"
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
