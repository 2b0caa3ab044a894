"""What a finding means for the verdict."""

from __future__ import annotations

import pytest

from lastgood.findings import MEANINGS, Code, Finding, Severity, Verdict, conclude


def found(*codes: Code) -> list[Finding]:
    return [Finding(code, None, "seen") for code in codes]


@pytest.mark.parametrize("code", Code)
def test_every_code_has_a_meaning_and_says_what_to_do(code: Code) -> None:
    assert MEANINGS[code].hint


@pytest.mark.parametrize("code", Code)
def test_errors_force_a_verdict_and_nothing_else_does(code: Code) -> None:
    assert (MEANINGS[code].verdict is not None) == (MEANINGS[code].severity is Severity.ERROR)


@pytest.mark.parametrize("code", Code)
def test_a_code_is_its_name_in_small_letters(code: Code) -> None:
    assert code.value == code.name.lower().replace("_", "-")


@pytest.mark.parametrize(
    ("codes", "verdict"),
    [
        pytest.param([], Verdict.COMPLETE, id="nothing found"),
        pytest.param([Code.STEP_DISAGREES, Code.ZIP_NO_CRC], Verdict.COMPLETE, id="warnings and news change nothing"),
        pytest.param([Code.OPTIMIZER_EMPTY], Verdict.PARTIAL, id="only training state is missing"),
        pytest.param([Code.RNG_MISSING, Code.SHARD_MISSING], Verdict.INCOMPLETE, id="missing weights outweigh state"),
        pytest.param(
            [Code.SHARD_MISSING, Code.FILE_UNREADABLE], Verdict.UNREADABLE, id="what was not read may hide what misses"
        ),
        pytest.param(
            [Code.FILE_UNREADABLE, Code.ZIP_RECORD_CRC], Verdict.CORRUPT, id="proven damage outweighs what was not read"
        ),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_the_gravest_finding_decides_in_whatever_order(codes: list[Code], verdict: Verdict, turned: bool) -> None:
    assert conclude(found(*(reversed(codes) if turned else codes))) is verdict


def test_a_finding_advises_as_its_code_does_unless_it_knows_better() -> None:
    assert Finding(Code.RNG_MISSING, None, "seen").advice == MEANINGS[Code.RNG_MISSING].hint
    assert Finding(Code.RNG_MISSING, None, "seen", hint="look there").advice == "look there"
