"""The COMMIT of a copy: written last, by one alone, and recognised again by whoever wrote it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from lastgood.cloud.addressing import COMMIT, MANIFEST
from lastgood.cloud.committing import bundle_as_text, bundle_in, committed, copy_as_json, copy_in
from lastgood.errors import NotACopy, RemoteError
from lastgood.remote import local
from lastgood.remote.pacing import patiently

if TYPE_CHECKING:
    from lastgood.cloud import Bundle, Capabilities, CloudCopy, Proof
    from lastgood.remote.store import Store

SENDING: Final = ".lastgood-sending"  #: beside what is no copy yet, or no longer: ours to clear away


def there(store: Store, copy: CloudCopy) -> CloudCopy | None:
    """The copy under the same key, None where there is none. NotACopy where its COMMIT speaks of other bytes."""
    found = read_commit(store, copy.key)
    if found is not None and found.digest != copy.digest:
        raise NotACopy(f"{store.remote.url(copy.key)} holds a copy of other bytes")
    return found


def read_commit(store: Store, key: str) -> CloudCopy | None:
    """What the COMMIT at a copy's key says; None where there is none. NotACopy where it makes no sense."""
    raw = store.get(f"{key}/{COMMIT}")
    if raw is None:
        return None
    try:
        return copy_in(raw[0], key)
    except NotACopy as error:
        again = store.get(f"{key}/{COMMIT}")
        if again is None or again[0] != raw[0]:  # it was the way here, not what lies there
            raise RemoteError(f"reading {store.remote.url(key)}: its COMMIT was garbled", transient=True) from error
        raise NotACopy(f"{store.remote.url(key)}: {error}") from error


def read_bundle(store: Store, copy: CloudCopy) -> Bundle:
    """What its manifest says; the folder is "". NotACopy where it is missing, or speaks of other bytes."""
    key = f"{copy.key}/{MANIFEST}"
    raw = store.get(key)
    if raw is None:
        raise NotACopy(f"{store.remote.url(key)} is missing")
    try:
        return bundle_in(raw[0], copy)
    except NotACopy as error:
        again = store.get(key)
        if again is None or again[0] != raw[0]:
            raise RemoteError(f"reading {store.remote.url(key)}: it was garbled", transient=True) from error
        raise NotACopy(f"{store.remote.url(copy.key)}: {error}") from error


def begin(store: Store, copy: CloudCopy) -> None:
    """From now on what lies there is known to be ours, and no copy yet."""
    store.put(f"{copy.key}/{SENDING}", b"{}")


def write(store: Store, bundle: Bundle, able: Capabilities, proof: Proof) -> CloudCopy:
    """The copy as its COMMIT says from now on; that of somebody else, where it speaks of the same bytes."""
    patience = store.remote.patience
    patiently(lambda: _write_manifest(store, bundle, able), patience)
    copy = committed(bundle.copy, proof=proof, now=datetime.now(UTC))
    written = patiently(lambda: _write_commit(store, copy, able), patience)
    patiently(lambda: store.remove([f"{copy.key}/{SENDING}"]), patience)
    return written


def _write_manifest(store: Store, bundle: Bundle, able: Capabilities) -> None:
    text = bundle_as_text(bundle)
    digest = local.crc64(text) if able.keeps_crc64 else None
    store.put(f"{bundle.copy.key}/{MANIFEST}", text, crc64=digest)
    try:
        read_bundle(store, bundle.copy)
    except NotACopy as error:  # we wrote it just now: it was garbled on its way
        raise RemoteError(str(error), transient=True) from error


def _write_commit(store: Store, copy: CloudCopy, able: Capabilities) -> CloudCopy:
    if not able.conditional and (found := there(store, copy)) is not None:
        return found
    key = f"{copy.key}/{COMMIT}"
    text = json.dumps(copy_as_json(copy), indent=1).encode()
    digest = local.crc64(text) if able.keeps_crc64 else None
    try:
        store.put(key, text, crc64=digest, only_new=able.puts_only_new)
    except RemoteError:
        # Refused because it is there: it may be ours, whose answer was lost, or somebody else's.
        if (found := there(store, copy)) is not None:
            return found
        raise
    raw = store.get(key)
    if raw is not None and raw[0] == text:
        return copy
    return _other_than_written(store, copy)


def _other_than_written(store: Store, copy: CloudCopy) -> CloudCopy:
    """The store took our COMMIT, and what it gives back is another one."""
    try:
        found = there(store, copy)
    except NotACopy:
        store.remove([f"{copy.key}/{COMMIT}"])  # a store that checks nothing has kept it garbled
        found = None
    if found is None:
        raise RemoteError(f"{store.remote.url(copy.key)}: its COMMIT did not arrive as it was sent", transient=True)
    return found
