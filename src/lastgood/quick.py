"""The fast check before a job loads a checkpoint: names, sizes and headers. Less than a second."""

from __future__ import annotations

import os
from typing import Final

from lastgood.errors import NotACheckpoint
from lastgood.facts import Level
from lastgood.findings import SOUND, Code, Severity
from lastgood.verify import verify

_NOT_THERE: Final = frozenset(
    {Code.WEIGHTS_MISSING, Code.SHARD_MISSING, Code.CONFIG_MISSING, Code.TRAINING_STATE_MISSING, Code.RANKS_MISSING}
    | {Code.MANIFEST_FILE_MISSING}
)


def quick_verify_checkpoint(checkpoint_dir: str | os.PathLike[str]) -> None:
    """FileNotFoundError where the folder, or a file that a resume needs, is not there; ValueError where one is broken.

    Payload is not read: flipped bits are the business of `lastgood.verify.verify`.
    """
    path = os.fspath(checkpoint_dir)
    try:
        report = verify(path, Level.QUICK)
    except NotACheckpoint as error:
        raise FileNotFoundError(str(error)) from None
    if report.verdict in SOUND:
        return
    errors = [finding for finding in report.findings if finding.severity is Severity.ERROR]
    told = "; ".join(f"{finding.file}: {finding.message}" if finding.file else finding.message for finding in errors)
    broken = any(finding.code not in _NOT_THERE and not _is_state(finding.code) for finding in errors)
    raise (ValueError if broken else FileNotFoundError)(f"{path}: {told}")


def _is_state(code: Code) -> bool:
    """States that are missing or empty are no reason to refuse it: a resume starts them anew."""
    return code.value.startswith(("optimizer-", "scheduler-", "rng-")) and code is not Code.OPTIMIZER_DISAGREES
