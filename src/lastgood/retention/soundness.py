"""What counts as good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastgood.findings import SOUND
from lastgood.life import State

if TYPE_CHECKING:
    from lastgood.records import Record


def is_sound(record: Record, changed: frozenset[int]) -> bool:
    """It was read to the last byte, can be loaded, and is still what was read."""
    return record.state is State.VERIFIED and was_sound(record, changed)


def was_sound(record: Record, changed: frozenset[int]) -> bool:
    """The same of what may lie in the trash by now, or be gone."""
    return record.verdict in SOUND and record.finished and not record.failed and record.id not in changed
