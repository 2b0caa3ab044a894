"""What a refusal says of the copies in the cloud, where nothing here can be handed out. Pure.

That nothing was saved must be true: a job would start from scratch.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lastgood import naming
from lastgood.errors import NoCheckpointsYet, NoneAcceptable
from lastgood.findings import Verdict
from lastgood.wording import none_of
from lastgood_service.readiness import cloud_unknown, not_ready

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastgood.errors import Refusal
    from lastgood.records import Record
    from lastgood.resume import Wishes
    from lastgood_service.copies import Copies


def with_copies(
    refusal: Refusal, copies: Copies | None, run: str, records: Sequence[Record], wishes: Wishes
) -> Refusal:
    """The refusal for a run with the copy that could be fetched instead, or that there may be one."""
    if copies is None or not isinstance(refusal, NoCheckpointsYet | NoneAcceptable):
        return refusal
    # What a job could not start from here, it cannot start from once it is back: those are the same bytes.
    failed = frozenset(record.id for record in records if record.failed)
    if upload := copies.newest(run, wishes, failed):
        command = pull_command(run)
        message = f"a proven copy of step {upload.copy.step} is in the cloud: {command}"
        return _none_acceptable(refusal, message, cloud_copy=copies.as_answer(upload), pull_with=command)
    if isinstance(refusal, NoneAcceptable):
        return refusal
    if count := copies.count_there(run):
        message = f"{none_of(count, 'copy', 'copies')} in the cloud can be handed out"
        if partial := copies.newest(run, replace(wishes, accept=Verdict.PARTIAL), failed):
            message += f"; that of step {partial.copy.step} could be with accept=partial"
        return _none_acceptable(refusal, message)
    return refusal if copies.listed else not_ready([cloud_unknown(copies)])


def pull_command(run: str) -> str:
    """What fetches the newest copy of a run."""
    return "lastgood pull" if run == naming.ROOT_FOLDER else f"lastgood pull {shlex.quote(run)}"


def _none_acceptable(refusal: Refusal, message: str, **more: Any) -> NoneAcceptable:
    details = {"refused": [], "pending": [], **refusal.details, **more}
    return NoneAcceptable(f"{refusal.message}; {message}", **details)
