"""How long a disk will do: bytes per save, room for how many more, full at about when. Pure: no disk, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Final

from lastgood.findings import SOUND

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lastgood.records import Record

_RECENT: Final = 10


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of one run, as if nothing were removed and nobody else wrote to its disk."""

    bytes_per_save: int  #: the median of the last ten
    room_for: int  #: how many more saves the disk has room for
    seconds_per_save: float | None  #: the median time between the last ten; None before there are two
    full_at: datetime | None


def forecast(records: Iterable[Record], free_bytes: int, now: datetime) -> Forecast | None:
    """None before a save of the run is finished. Those that were removed since count as well."""
    saves = [record for record in records if record.verdict in SOUND and not record.copy and record.bytes]
    recent = sorted(saves, key=lambda record: record.id)[-_RECENT:]
    if not recent:
        return None
    size = int(median(record.bytes for record in recent))
    room = free_bytes // size
    seen = [record.first_seen_at for record in recent if not record.before_us]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(seen)]
    pace = median(gaps) if gaps else None
    return Forecast(size, room, pace, _after(now, room, pace))


def _after(now: datetime, saves: int, pace: float | None) -> datetime | None:
    """None also where that is so far off that no calendar has it."""
    if pace is None:
        return None
    try:
        return datetime.fromtimestamp(now.timestamp() + saves * pace, tz=now.tzinfo)
    except (OverflowError, ValueError, OSError):
        return None
