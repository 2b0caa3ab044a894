"""Whether the save is whole: what its layout requires, and what a resume needs besides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lastgood import naming
from lastgood.checks.telling import some
from lastgood.facts import Component, Presence
from lastgood.findings import Code, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastgood.facts import Facts

_CONFIG: Final = "config.json"
_LACKING: Final = {
    (Component.OPTIMIZER, Presence.MISSING): Code.OPTIMIZER_MISSING,
    (Component.SCHEDULER, Presence.MISSING): Code.SCHEDULER_MISSING,
    (Component.RNG, Presence.MISSING): Code.RNG_MISSING,
    (Component.OPTIMIZER, Presence.EMPTY): Code.OPTIMIZER_EMPTY,
    (Component.SCHEDULER, Presence.EMPTY): Code.SCHEDULER_EMPTY,
    (Component.RNG, Presence.EMPTY): Code.RNG_EMPTY,
}


def check_required_files_are_there(facts: Facts) -> Iterator[Finding]:
    """What a finished save of this layout always has."""
    if _was_listed(facts):
        yield from facts.lacking


def check_training_state_is_there(facts: Facts) -> Iterator[Finding]:
    """Optimizer, scheduler and random states: without them the loss jumps."""
    if not _was_listed(facts):
        return
    for component, presence in facts.components.items():
        if code := _LACKING.get((component, presence)):
            yield Finding(code, None, f"the {component.value} state is {presence.value}")


def check_configuration_is_still_there(facts: Facts) -> Iterator[Finding]:
    """The same model had none at the previous checkpoint either: otherwise it was lost."""
    before = facts.previous
    if before is None or not any(finding.code is Code.CONFIG_NOT_SAVED for finding in facts.lacking):
        return
    if _CONFIG in {file.path for file in before.files} and before.weights.keys() == facts.weights.keys():
        yield Finding(Code.CONFIG_MISSING, _CONFIG, f"the same model has one in {before.name}")


def check_layout_is_known(facts: Facts) -> Iterator[Finding]:
    """Of an unknown layout, nothing is there but what a known one begins with: it is a save that was cut off."""
    if facts.layout != naming.UNKNOWN_LAYOUT or facts.inventory.unfinished or not _was_listed(facts):
        return
    known = {home for homes in facts.homes.values() for home in homes}
    others = [name for name in facts.inventory.names - known if naming.is_payload(name)]
    if what := others or ([] if known else facts.inventory.names):
        yield Finding(Code.LAYOUT_UNKNOWN, None, f"no save of a layout that lastgood knows begins with {some(what)}")


def check_nothing_was_left_out(facts: Facts) -> Iterator[Finding]:
    """No state is missing because its job chose not to save it."""
    for component in sorted(facts.left_out):
        yield Finding(Code.STATE_LEFT_OUT, None, f"its job chose not to save the {component.value} state")


def _was_listed(facts: Facts) -> bool:
    """Of a folder that nobody let us look into, nothing can be said to be missing."""
    return bool(facts.inventory.entries or not facts.inventory.unreadable)
