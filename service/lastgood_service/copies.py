"""The copies in the cloud, as far as the catalog knows of them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from lastgood.cloud import Choice, CopyState, copy_as_answer, newest_copy, to_upload, waiting_for_proof

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from typing import Any

    from lastgood.catalog import Place
    from lastgood.cloud import CloudCopy, Remote, Upload
    from lastgood.records import Hold, Record
    from lastgood.resume import Wishes
    from lastgood.settings import Settings

NO_LONGER: Final = frozenset({CopyState.RETIRED, CopyState.MISSING})  #: states of what was there once
_KEPT: Final = 256


class Copies:
    """Those in the place that the settings name, as of one version of the catalog. Never changed once made."""

    def __init__(self, remote: Remote, place: Place | None, uploads: Iterable[Upload]) -> None:
        self.remote, self.place, self.uploads = remote, place, tuple(uploads)
        self._by_run: dict[str, list[Upload]] = {}
        for upload in self.uploads:
            self._by_run.setdefault(upload.copy.run, []).append(upload)
        self._of_checkpoint = {upload.checkpoint_id: upload for upload in self.uploads}
        self.runs = frozenset(run for run in self._by_run if self.count_there(run))  #: of which something is there
        # Runs have hundreds of copies, and are asked for twice a second; the wishes are the asker's.
        self.newest: Callable[..., Upload | None] = functools.lru_cache(maxsize=_KEPT)(self._newest)

    @property
    def listed(self) -> bool:
        """Whether the worker has ever seen all that is there. What it has not seen may be there all the same."""
        return self.place is not None and self.place.listed_at is not None

    def says_the_same(self, place: Place | None, uploads: Iterable[Upload]) -> bool:
        return (self.place, self.uploads) == (place, tuple(uploads))

    def of_run(self, run: str) -> Sequence[Upload]:
        return self._by_run.get(run, ())

    def of_checkpoint(self, checkpoint_id: int) -> Upload | None:
        return self._of_checkpoint.get(checkpoint_id)

    def proven(self, run: str) -> list[CloudCopy]:
        return [upload.copy for upload in self.of_run(run) if upload.state is CopyState.PROVEN]

    def count_there(self, run: str) -> int:
        """How many of a run lie in the store, whatever they are worth."""
        return sum(_is_there(upload) for upload in self.of_run(run))

    def said_of(self, checkpoint_id: int) -> dict[str, Any] | None:
        """What is said of a checkpoint's copy beside it."""
        upload = self.of_checkpoint(checkpoint_id)
        return self.as_answer(upload) if upload is not None else None

    def as_answer(self, upload: Upload) -> dict[str, Any]:
        return copy_as_answer(upload, self.remote)

    def _newest(self, run: str, wishes: Wishes, without: Collection[int] = frozenset()) -> Upload | None:
        """The proven copy of a run to start from. `without`: ids of checkpoints whose copies are not meant."""
        proven = {
            upload.copy.key: upload
            for upload in self.of_run(run)
            if upload.state is CopyState.PROVEN and upload.checkpoint_id not in without
        }
        found = newest_copy((upload.copy for upload in proven.values()), wishes)
        return proven[found.key] if found is not None else None


def said_of(copies: Copies | None, checkpoint_id: int) -> dict[str, Any] | None:
    """What is said of a checkpoint's copy; None where it has none, or no place for copies is set."""
    return copies.said_of(checkpoint_id) if copies is not None else None


def waiting_for_copy(
    copies: Copies, settings: Settings, run: str, records: Sequence[Record], pinned: Collection[int]
) -> list[Record]:
    """Those that are to have a copy and have none, the newest first."""
    choice = Choice.of(settings, run)
    return to_upload(records, choice, copies.uploads, pinned) if records and choice is not None else []


def unproven(
    copies: Copies | None, settings: Settings, run: str, records: Sequence[Record], pinned: Collection[int]
) -> frozenset[int]:
    """Ids of those that may not be removed before their copies are proven."""
    if copies is None:
        return frozenset()
    return waiting_for_proof(records, Choice.of(settings, run), copies.uploads, pinned)


def pinned_in(holds: Mapping[int, Sequence[Hold]]) -> frozenset[int]:
    """Ids of the checkpoints that somebody pinned."""
    return frozenset(found for found, held in holds.items() if any(hold.pin for hold in held))


def _is_there(upload: Upload) -> bool:
    """Its COMMIT was seen, though a restored copy may have been found damaged since, or to be another one's."""
    damaged = upload.state is CopyState.FAILED and upload.copy.proof is not None
    return upload.state in (CopyState.PROVEN, CopyState.CONFLICT) or damaged
