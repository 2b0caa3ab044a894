"""Whether the places that tell the step agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lastgood.findings import Code, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastgood.facts import Facts

_STEPS_ALLOWED: Final = 20
_SHARE_ALLOWED: Final = 0.1


def check_step_agrees_with_the_name(facts: Facts) -> Iterator[Finding]:
    """The step in the state against the folder's number. Some writers count micro-batches: a small offset is usual."""
    saved, named = facts.progress.step, facts.step_by_name
    if saved is None or named is None or saved == named:
        return
    offset = abs(saved - named)
    code = Code.STEP_DISAGREES if offset > max(_STEPS_ALLOWED, _SHARE_ALLOWED * named) else Code.STEP_OFFSET
    yield Finding(code, None, f"its state was saved at step {saved}, its name says {named}")
