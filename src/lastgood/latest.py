"""The resume point and the plan as of this moment: what the records say, held against the disk."""

from __future__ import annotations

import functools
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from lastgood import resume, retention, writers
from lastgood.errors import CannotTell, NotACheckpoint
from lastgood.inventory import take_inventory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastgood.facts import Inventory
    from lastgood.records import Hold, Record

_LAST_SECOND: Final = datetime(9999, 12, 30, tzinfo=UTC).timestamp()


def resume_point_now(records: Sequence[Record], wishes: resume.Wishes) -> resume.Answer:
    """As `resume.resume_point`, and the answer's files are, by stat, those that were verified.

    Each candidate that changed is passed over. The refusals of `resume_point` where none is left.
    """
    changed: frozenset[int] = frozenset()
    while True:
        answer = resume.resume_point(records, wishes, changed)
        if is_as_verified(answer.record):
            return answer
        changed |= {answer.record.id}


def plan_now(
    records: Sequence[Record],
    policy: retention.Policy,
    holds: Mapping[int, Sequence[Hold]],
    busy: frozenset[int] = frozenset(),
    unproven: frozenset[int] = frozenset(),
) -> retention.Plan:
    """As `retention.plan`, and those that it relies on are, by stat, what was read."""
    by_id = {record.id: record for record in records}
    changed: frozenset[int] = frozenset()
    while True:
        plan = retention.plan(records, policy, holds, changed=changed, busy=busy, unproven=unproven)
        broken = {relied_on for relied_on in plan.relies_on if not is_as_verified(by_id[relied_on])}
        if not broken:
            return plan
        changed |= broken


def is_as_verified(record: Record) -> bool:
    """Whether nobody has touched the checkpoint since: same files, sizes, times."""
    try:
        inventory = take_inventory(record.path, inodes=inodes_are_stable(record.root))
    except (NotACheckpoint, CannotTell):
        return False
    return inventory.fingerprint == record.fingerprint


def saved_at(inventory: Inventory) -> datetime:
    """The newest time of its files, as far as a calendar goes: a file may claim any time."""
    return datetime.fromtimestamp(min(max(inventory.newest_mtime_ns / 1e9, 0.0), _LAST_SECOND), tz=UTC)


def inodes_are_stable(root: str) -> bool:
    """Whether a file keeps its inode number there as long as it lives; on network filesystems it may not."""
    try:
        device = os.stat(root).st_dev
    except OSError:
        device = 0
    return _inodes_are_stable(root, device)


@functools.lru_cache(maxsize=256)
def _inodes_are_stable(root: str, _device: int) -> bool:  # a disk may be mounted there while we run
    return not writers.is_network(writers.filesystem_of(root))
