"""Whether the random states are all there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lastgood.facts import Component, Presence
from lastgood.findings import Code, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastgood.facts import Facts

# What each layout's own writer always saves; of the others only that nothing goes without torch's.
_ALWAYS: Final = {"hf_trainer": {"python", "numpy", "torch"}, "plain": {"python", "numpy", "torch"}}


def check_random_states_are_whole(facts: Facts) -> Iterator[Finding]:
    """Python's, NumPy's and torch's states are there, and every process saved the same kinds."""
    if facts.components.get(Component.RNG) is not Presence.PRESENT:
        return
    everywhere = set().union(*facts.rng.values())
    wanted = _ALWAYS.get(facts.layout, {"torch"}) | everywhere
    for file, kinds in sorted(facts.rng.items()):
        if lacking := sorted(wanted - kinds):
            yield Finding(Code.RNG_INCOMPLETE, file, f"without the random state of {', '.join(lacking)}")


def check_random_states_are_of_the_save(facts: Facts) -> Iterator[Finding]:
    """No random state was put there later, when the checkpoint was mended."""
    for file in sorted(facts.baseline):
        yield Finding(Code.RNG_BASELINE, file, "its random states are those of the day when it was mended")
