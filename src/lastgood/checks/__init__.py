"""Every check, and the list of them: facts in, findings out. A check asks one question."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from lastgood.checks import files, steps, whole

if TYPE_CHECKING:
    from lastgood.facts import Facts
    from lastgood.findings import Finding

Check = Callable[["Facts"], Iterator["Finding"]]

CHECKS: Final[tuple[Check, ...]] = (
    files.check_everything_can_be_read,
    files.check_nothing_is_unfinished,
    files.check_files_are_sound,
    files.check_links_stay_inside,
    whole.check_required_files_are_there,
    whole.check_training_state_is_there,
    steps.check_step_agrees_with_the_name,
)


def run_checks(facts: Facts) -> tuple[Finding, ...]:
    return tuple(finding for check in CHECKS for finding in check(facts))
