"""The values that pass between the parts."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

import injuries as hurt
from builders import make_hf_checkpoint
from lastgood.findings import Code
from lastgood.life import State
from lastgood.records import Evidence, Record
from lastgood.report_json import finding_as_json, report_as_json, report_from_json
from lastgood.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

    from lastgood.facts import Report

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def report(tmp_path: Path) -> Report:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100, ranks=2)
    hurt.flip_bit_in_storage(checkpoint / "optimizer.pt")
    hurt.change_json(global_step=400)(checkpoint / "trainer_state.json")
    return verify(str(checkpoint))


def record(*, number: int, step_in_state: int | None = None, evidence: Evidence | None = None) -> Record:
    return Record(
        id=1,
        run="run",
        root="/out/",
        relative_path=f"run/checkpoint-{number}",
        name=f"checkpoint-{number}",
        number=number,
        generation=1,
        state=State.VERIFIED,
        first_seen_at=NOON,
        saved_at=NOON,
        bytes=1,
        fingerprint="0" * 32,
        step_in_state=step_in_state,
        evidence=evidence,
    )


def test_a_report_survives_being_written_as_json(report: Report) -> None:
    written = json.dumps(report_as_json(report))
    again = report_from_json(json.loads(written))
    advised = tuple(replace(finding, hint=finding.advice) for finding in report.findings)
    assert again == replace(report, seconds=round(report.seconds, 4), findings=advised)
    assert json.dumps(report_as_json(again)) == written


def test_a_finding_is_written_with_what_it_means(report: Report) -> None:
    (torn,) = (finding for finding in report.findings if finding.code is Code.ZIP_RECORD_CRC)
    assert finding_as_json(torn) == {
        "severity": "error",
        "code": "zip-record-crc",
        "file": "optimizer.pt",
        "message": torn.message,
        "hint": torn.advice,
    }


@pytest.mark.parametrize("key", ["verdict", "findings", "fingerprint"])
def test_what_is_not_a_report_is_not_read_as_one(key: str, report: Report) -> None:
    written = report_as_json(report)
    del written[key]
    with pytest.raises(KeyError, match=key):
        report_from_json(written)


def test_a_verdict_that_nobody_knows_is_not_read(report: Report) -> None:
    with pytest.raises(ValueError, match="splendid"):
        report_from_json(report_as_json(report) | {"verdict": "splendid"})


def test_warnings_are_what_does_not_change_the_verdict_but_should_be_seen(report: Report) -> None:
    assert [finding.code for finding in report.warnings] == [Code.STEP_DISAGREES]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        pytest.param(98, 98, id="its own state tells"),
        pytest.param(0, 0, id="step 0 is a step"),
        pytest.param(None, 100, id="it was not judged yet, or does not say: the number in its name"),
    ],
)
def test_the_step_is_that_of_its_own_state(step: int | None, expected: int) -> None:
    assert record(number=100, step_in_state=step).step == expected


def test_its_path_lies_below_its_root() -> None:
    assert record(number=5).path == "/out/run/checkpoint-5"


@pytest.mark.parametrize("evidence", [None, *Evidence])
def test_silence_alone_does_not_say_that_a_save_is_finished(evidence: Evidence | None) -> None:
    assert record(number=1, evidence=evidence).finished is (evidence not in (None, Evidence.QUIET))
