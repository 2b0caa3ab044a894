"""Every error of lastgood, as one tree. Damage in a checkpoint is never an error: it is a finding.

LastgoodError                 what stopped us from answering; the message is fit to show
├── SettingsError             a setting is unknown, or its value is wrong
├── NotACheckpoint            the path holds nothing that could be judged
├── NotAManifest              a file that was to be a manifest is none
├── Damaged                   a checkpoint is broken, and is not loaded; or what was to be saved came out broken
├── CannotMend                a checkpoint cannot be mended honestly; nothing was changed
├── NoLongerAsJudged          a file is another one than when it was judged
├── NotACopy                  what lies in the store is no copy of ours, or not the one that it says it is
├── RemoteError               the store in the cloud did not do what was asked
├── CannotTell                the disk would not answer; trying again may help
├── Obstructed                the disk stands in the way of removing something, or of bringing it back
├── IllegalMove               a checkpoint's state was asked to make a move that does not exist
├── CatalogError              the catalog cannot be used where it lies, or is locked by another worker
├── Refusal                   the question was understood, and the answer is no
│   ├── NoCheckpointsYet      nothing has been saved
│   ├── NoneAcceptable        there are checkpoints, but none that may be handed out
│   ├── RunAmbiguous          several runs, and none was named
│   ├── NotReady              the watcher cannot vouch for anything at the moment
│   ├── Unknown               no such run, checkpoint, lease or request
│   ├── Conflict              its state does not allow it
│   └── NotAllowed            a token, or another host name, is needed
└── Unreachable               the service did not answer in time
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class LastgoodError(Exception):
    """What stopped lastgood from answering."""


class SettingsError(LastgoodError):
    """A setting is unknown, or its value is wrong."""


class NotACheckpoint(LastgoodError):
    """The path holds nothing that could be judged."""


class NotAManifest(LastgoodError):
    """What was to be a manifest is none."""


class Damaged(LastgoodError):
    """A checkpoint is broken, and is not loaded; or what was to be saved came out broken."""


class CannotMend(LastgoodError):
    """A checkpoint cannot be mended honestly. Nothing was changed."""


class NoLongerAsJudged(LastgoodError):
    """A file is another one than when it was judged, or gone: there is nothing to copy."""


class NotACopy(LastgoodError):
    """What lies in the store is no copy of ours, or not the one that it says it is."""


class RemoteError(LastgoodError):
    """The store in the cloud did not do what was asked. `code` is the store's own; `transient`: later it may."""

    def __init__(self, message: str, *, code: str = "", transient: bool = False) -> None:
        super().__init__(message)
        self.code, self.transient = code, transient


class CannotTell(LastgoodError):
    """The disk would not answer; trying again may help."""

    def __init__(self, doing: str, path: str, cause: OSError) -> None:
        super().__init__(f"{doing} {path}: {cause.strerror or cause}")
        self.doing, self.path, self.cause = doing, path, cause


class Obstructed(LastgoodError):
    """The disk stands in the way of removing something, or of bringing it back. `removal.found` tells where it lies."""


class IllegalMove(LastgoodError):
    """A checkpoint's state was asked to make a move that does not exist."""


class CatalogError(LastgoodError):
    """The catalog cannot be used."""


class Unreachable(LastgoodError):
    """The service did not answer in time."""


class Refusal(LastgoodError):
    """The answer is no. `code` is stable; `details` travel with it to whoever asked."""

    code = "refused"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = details


class NoCheckpointsYet(Refusal):
    code = "no-checkpoints-yet"


class NoneAcceptable(Refusal):
    code = "none-acceptable"


class RunAmbiguous(Refusal):
    code = "run-ambiguous"


class NotReady(Refusal):
    code = "not-ready"


class Unknown(Refusal):
    code = "unknown"


class Conflict(Refusal):
    code = "conflict"


class NotAllowed(Refusal):
    code = "not-allowed"


REFUSALS: Mapping[str, type[Refusal]] = {
    kind.code: kind
    for kind in (NoCheckpointsYet, NoneAcceptable, RunAmbiguous, NotReady, Unknown, Conflict, NotAllowed)
}
