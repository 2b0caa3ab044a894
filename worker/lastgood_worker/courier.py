"""The child process that deals with the store in the cloud, one errand at a time.

It is given {"kind", "remote", ...}, see `lastgood_worker.errands.Errand`. It tells {"progress": {"bytes"}} about
twice a second, as long as it lives; last {"done": {...}} or {"failed": {"what", "message", "code", "transient"}}.
"""

from __future__ import annotations

import os
import platform
import threading
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from lastgood import naming, removal, returning
from lastgood.cloud import Bundle, Remote
from lastgood.cloud.committing import copy_as_json, copy_from_json
from lastgood.cloud.words import capabilities_as_json, capabilities_from_json
from lastgood.errors import LastgoodError, NoLongerAsJudged, RemoteError
from lastgood.facts import FileDigest, Manifest
from lastgood.inventory import take_inventory
from lastgood.manifest import read_manifest
from lastgood_worker.children import is_orphan, tell
from lastgood_worker.manners import take_a_low_priority

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection

    from lastgood.cloud import CloudCopy
    from lastgood.remote import Store

LOADED_BEFORE: Final = ["lastgood_worker.courier", "lastgood.remote"]
_TELL_EVERY: Final = 0.5


def run(job: Mapping[str, Any], telling: Connection) -> None:
    """The whole life of the process."""
    if is_orphan():
        return
    take_a_low_priority()
    progress = _Progress(telling)
    try:
        message: dict[str, Any] = {"done": carry_out(job, progress.heard)}
    except LastgoodError as error:
        message = {"failed": _as_json(error)}
    progress.end()
    tell(telling, message)


def carry_out(job: Mapping[str, Any], hears: Callable[[int], None]) -> dict[str, Any]:
    from lastgood.remote import Store  # noqa: PLC0415 - boto3 is for those that send, and takes a while to load

    store = Store(Remote(**job["remote"]))
    try:
        return _ERRANDS[job["kind"]](store, job, hears)
    finally:
        store.close()


def _as_json(error: LastgoodError) -> dict[str, Any]:
    code, transient = (error.code, error.transient) if isinstance(error, RemoteError) else ("", False)
    return {"what": type(error).__name__, "message": str(error), "code": code, "transient": transient}


# --- errands ---


def _probe(store: Store, _job: Mapping[str, Any], _hears: Callable[[int], None]) -> dict[str, Any]:
    from lastgood.remote import probe  # noqa: PLC0415

    return {"able": capabilities_as_json(probe(store))}


def _list(store: Store, job: Mapping[str, Any], _hears: Callable[[int], None]) -> dict[str, Any]:
    from lastgood.remote import find_copies  # noqa: PLC0415

    found = find_copies(store, known=[_copy(known) for known in job["known"]])
    return {"copies": [_copy_as_json(copy) for copy in found.copies], "broken": dict(found.broken)}


def _send(store: Store, job: Mapping[str, Any], hears: Callable[[int], None]) -> dict[str, Any]:
    from lastgood.remote import Uploader, send  # noqa: PLC0415

    bundle = _bundle(job)
    able = capabilities_from_json(job["able"])
    uploader = Uploader(store, bundle.copy.run, able, job["owner"])
    made = send(store, bundle, able, uploader, hears, suspect=job["suspect"])
    return {"copy": _copy_as_json(made), "ours": made.write_id == bundle.copy.write_id}


def _bundle(job: Mapping[str, Any]) -> Bundle:
    """NoLongerAsJudged where the checkpoint is, by stat, another one."""
    folder = job["folder"]
    inventory = take_inventory(folder, inodes=job["inodes"])
    if inventory.fingerprint != job["fingerprint"]:
        raise NoLongerAsJudged(f"{folder} was touched since it was judged")
    draft = replace(_copy(job["copy"]), write_id=uuid.uuid4().hex, writer=platform.node())
    times = {entry.path: entry.mtime_ns for entry in inventory.entries}
    return Bundle(folder, draft, _manifest(job), times, _file_list(folder))


def _manifest(job: Mapping[str, Any]) -> Manifest:
    """The one that lies beside it, where it is of the judged bytes; otherwise what the catalog knows of them."""
    files = tuple(FileDigest(*file) for file in job["files"])
    try:
        found = read_manifest(job["manifest"])
    except LastgoodError:
        found = None
    if found is not None and sorted(found.files, key=_path) == sorted(files, key=_path):
        return found
    return Manifest(job["copy"]["name"], job["fingerprint"], files, step=job["copy"]["step"])


def _path(file: FileDigest) -> str:
    return file.path


def _file_list(folder: str) -> str | None:
    try:
        with open(os.path.join(folder, naming.FILE_LIST), encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def _fetch(store: Store, job: Mapping[str, Any], hears: Callable[[int], None]) -> dict[str, Any]:
    from lastgood.remote import fetch, read_bundle  # noqa: PLC0415

    bundle = read_bundle(store, _copy(job["copy"]))
    path = fetch(store, bundle, job["run_folder"], by=returning.PERSON, threads=job["threads"], hears=hears)
    return {"path": path}


def _drill(store: Store, job: Mapping[str, Any], hears: Callable[[int], None]) -> dict[str, Any]:
    from lastgood.remote import read_bundle  # noqa: PLC0415
    from lastgood.remote.fetching import fetch_into, pulling_place  # noqa: PLC0415

    copy = _copy(job["copy"])
    place = f"{pulling_place(job['run_folder'], copy)}.drill"
    leftovers = (place, f"{place}.journal")
    started = time.monotonic()
    try:
        for left in leftovers:
            removal.remove_tree(left)
        report = fetch_into(store, read_bundle(store, copy), place, threads=job["threads"], hears=hears)
    finally:
        for left in leftovers:
            removal.remove_tree(left)
    return {"verdict": report.verdict.value, "seconds": time.monotonic() - started}


def _retire(store: Store, job: Mapping[str, Any], _hears: Callable[[int], None]) -> dict[str, Any]:
    from lastgood.remote import Uploader, remove_copy  # noqa: PLC0415

    uploader = Uploader(store, job["run"], capabilities_from_json(job["able"]), job["owner"])
    uploader.hold()
    for doomed in job["copies"]:
        uploader.keep()
        remove_copy(store, _copy(doomed))
    return {"removed": [doomed["key"] for doomed in job["copies"]]}


def _sweep(store: Store, job: Mapping[str, Any], _hears: Callable[[int], None]) -> dict[str, Any]:
    from lastgood.remote import Uploader, sweep_abandoned  # noqa: PLC0415
    from lastgood.remote.locking import ANOTHER  # noqa: PLC0415

    swept = 0
    for run_name in job["runs"]:
        try:
            Uploader(store, run_name, capabilities_from_json(job["able"]), job["owner"]).hold()
        except RemoteError as error:
            if error.code != ANOTHER:
                raise
            continue  # what lies there is that one's to clear away
        swept += sweep_abandoned(store, run_name, job["older_than"], job["spared"])
    return {"swept": swept}


_ERRANDS: Final[Mapping[str, Callable[[Any, Mapping[str, Any], Callable[[int], None]], dict[str, Any]]]] = {
    "probe": _probe,
    "list": _list,
    "send": _send,
    "fetch": _fetch,
    "drill": _drill,
    "retire": _retire,
    "sweep": _sweep,
}


def _copy(data: Mapping[str, Any]) -> CloudCopy:
    return copy_from_json(data, data["key"])


def _copy_as_json(copy: CloudCopy) -> dict[str, Any]:
    return {**copy_as_json(copy), "key": copy.key}


class _Progress:
    """Says that we live, and how far we are; from a thread, since a slow network is no reason to be silent."""

    def __init__(self, telling: Connection) -> None:
        self._telling, self._bytes = telling, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="progress", daemon=True)
        self._thread.start()

    def heard(self, count: int) -> None:
        self._bytes += count

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _tell(self) -> None:
        while not self._ended.wait(_TELL_EVERY):
            tell(self._telling, {"progress": {"bytes": self._bytes}})
