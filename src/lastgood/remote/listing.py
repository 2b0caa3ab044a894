"""Which copies there are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from lastgood.cloud import Found
from lastgood.cloud.addressing import COMMIT
from lastgood.errors import NotACopy
from lastgood.remote.committing import read_bundle, read_commit
from lastgood.remote.pacing import patiently

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lastgood.cloud import CloudCopy
    from lastgood.remote.store import Store

__all__ = ["find_copies", "find_runs", "read_bundle"]


def find_runs(store: Store) -> list[str]:
    """The runs that have copies, by name. A name that would lead out of a folder is none: a bucket may be anybody's."""
    remote = store.remote
    prefix = f"{remote.prefix}/" if remote.prefix else ""
    keys = patiently(lambda: [found.key for found in store.listed(prefix)], remote.patience)
    places = [remote.place_of(key.removesuffix(f"/{COMMIT}")) for key in keys if key.endswith(f"/{COMMIT}")]
    return sorted({place[0] for place in places if place})


def find_copies(store: Store, run: str | None = None, known: Iterable[CloudCopy] = ()) -> Found:
    """The copies of one run or of all, the earliest saved first. `known`: whose COMMITs were read before."""
    remote = store.remote
    below = remote.run_key(run) if run is not None else remote.prefix
    prefix = f"{below}/" if below else ""
    keys = patiently(lambda: [found.key for found in store.listed(prefix)], remote.patience)
    commits = [key.removesuffix(f"/{COMMIT}") for key in keys if key.endswith(f"/{COMMIT}")]
    places = {key: place for key in commits if (place := remote.place_of(key))}
    mine = [key for key, place in places.items() if run in (None, place[0])]
    before = {copy.key: copy for copy in known}
    with ThreadPoolExecutor(remote.parallel) as threads:
        read = dict(zip(mine, threads.map(lambda key: before.get(key) or _read(store, key), mine), strict=True))
    copies = [copy for copy in read.values() if copy is not None and not isinstance(copy, str)]
    broken = {key: why for key, why in read.items() if isinstance(why, str)}
    return Found(tuple(sorted(copies, key=lambda copy: (copy.run, copy.saved_at, copy.step))), broken)


def _read(store: Store, key: str) -> CloudCopy | str | None:
    """What it says, or why that cannot be believed; None where it went away meanwhile."""
    try:
        found = patiently(lambda: read_commit(store, key), store.remote.patience)
    except NotACopy as error:
        return str(error)
    place = store.remote.place_of(key)
    if found is not None and place is not None and place != (found.run, found.name, found.digest[:12]):
        return f"{store.remote.url(key)}: its COMMIT is that of another copy"
    return found
