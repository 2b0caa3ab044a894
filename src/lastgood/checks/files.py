"""What concerns every file, whatever the layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastgood.checks.telling import some
from lastgood.findings import Code, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastgood.facts import Facts


def check_everything_can_be_read(facts: Facts) -> Iterator[Finding]:
    """Every folder could be listed, every name looked up."""
    for path, why in facts.inventory.unreadable:
        yield Finding(Code.FOLDER_UNREADABLE, None if path == "." else path, f"cannot be looked at: {why}")


def check_nothing_is_unfinished(facts: Facts) -> Iterator[Finding]:
    """No temporary name, and no mark that says that the save is in progress."""
    for path in facts.inventory.unfinished:
        yield Finding(Code.SAVE_UNFINISHED, path, "a name that writers use while they are at work")
    for path in facts.inventory.leftovers:
        yield Finding(Code.LEFTOVER_TEMPORARY, path, "an unfinished file, older than the rest")


def check_files_are_sound(facts: Facts) -> Iterator[Finding]:
    """Each file is what its format promises."""
    for file in facts.files.values():
        yield from file.problems


def check_pickles_name_only_what_is_known(facts: Facts) -> Iterator[Finding]:
    """What `weights_only=True` would refuse is worth knowing, and no damage: trainers save their own classes."""
    for file in facts.files.values():
        if file.globals:
            yield Finding(
                Code.WEIGHTS_ONLY_REFUSES, file.path, f"weights_only=True would refuse it: {some(file.globals)}"
            )


def check_links_stay_inside(facts: Facts) -> Iterator[Finding]:
    """No link leads out of the checkpoint, where somebody else may change or remove its target."""
    for entry in facts.inventory.entries:
        if entry.leaves:
            yield Finding(Code.LINK_LEAVES_CHECKPOINT, entry.path, "a link to a place outside the checkpoint")
