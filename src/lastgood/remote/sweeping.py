"""Removing copies, COMMIT first, and clearing away what uploads left behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from lastgood.cloud.addressing import COMMIT, MANIFEST
from lastgood.remote.committing import SENDING, begin
from lastgood.remote.pacing import patiently

if TYPE_CHECKING:
    from collections.abc import Collection

    from lastgood.cloud import CloudCopy
    from lastgood.remote.store import Store


def remove_copy(store: Store, copy: CloudCopy) -> None:
    """Whoever looks meanwhile finds a whole copy, or none. What an end of ours leaves is cleared away later."""
    patience = store.remote.patience
    patiently(lambda: begin(store, copy), patience)
    patiently(lambda: store.remove([f"{copy.key}/{COMMIT}", f"{copy.key}/{MANIFEST}"]), patience)
    _clear(store, copy.key)


def sweep_abandoned(store: Store, run: str, older_than: float, spared: Collection[str] = ()) -> int:
    """What a run's uploads left behind more than so many seconds ago goes. How many uploads that were.

    Only what bears our mark is touched. `spared`: keys of copies that are to be sent still.
    """
    before = datetime.now(UTC) - timedelta(seconds=older_than)
    return _abort_pending(store, run, before, spared) + _clear_unfinished(store, run, before, spared)


def _abort_pending(store: Store, run: str, before: datetime, spared: Collection[str]) -> int:
    remote = store.remote
    pending = patiently(lambda: store.pending(_below(store, run)), remote.patience)
    old = [
        upload
        for upload in pending
        if upload.begun <= before and (copy := _copy_of(store, run, upload.key)) and copy not in spared
    ]
    for upload in old:
        patiently(partial(store.abort, upload.key, upload.id), remote.patience)
    return len(old)


def _clear_unfinished(store: Store, run: str, before: datetime, spared: Collection[str]) -> int:
    listed = patiently(lambda: list(store.listed(_below(store, run))), store.remote.patience)
    keys = {found.key for found in listed}
    marked = {found.key.removesuffix(f"/{SENDING}"): found for found in listed if found.key.endswith(f"/{SENDING}")}
    cleared = 0
    for key, mark in marked.items():
        if _copy_of(store, run, mark.key) != key or key in spared or mark.modified > before:
            continue
        if f"{key}/{COMMIT}" in keys:  # it was finished, and we ended before the mark was taken away
            patiently(partial(store.remove, [mark.key]), store.remote.patience)
        else:
            _clear(store, key)
            cleared += 1
    return cleared


def _clear(store: Store, key: str) -> None:
    """Everything below a key that is no copy any more; our mark last, or nobody would know whose the rest is."""
    patience = store.remote.patience
    keys = patiently(lambda: [found.key for found in store.listed(f"{key}/")], patience)
    mark = f"{key}/{SENDING}"
    for doomed in [*(found for found in keys if found != mark), mark]:
        patiently(partial(store.remove, [doomed]), patience)


def _below(store: Store, run: str) -> str:
    below = store.remote.run_key(run)
    return f"{below}/" if below else ""


def _copy_of(store: Store, run: str, key: str) -> str | None:
    """The key of the copy of this run to which an object belongs; None where it belongs to none."""
    below = _below(store, run)
    copy = below + key.removeprefix(below).partition("/")[0]
    place = store.remote.place_of(copy)
    return copy if place and place[0] == run else None
