"""Copies in the cloud, brought back: for a person, or for a job that finds nothing to start from where it runs."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lastgood import naming, returning
from lastgood.cloud import CopyState, Remote, Upload, copy_as_answer, newest_copy
from lastgood.cloud.addressing import content_digest
from lastgood.errors import Conflict, LastgoodError, NoneAcceptable, NotACopy, SettingsError
from lastgood.facts import Level
from lastgood.findings import Verdict
from lastgood.manifest import algorithm_of
from lastgood.own_look import look_at
from lastgood.placing import run_meant
from lastgood.verify import verify
from lastgood.wording import none_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from lastgood.cloud import Bundle, CloudCopy
    from lastgood.remote import Store
    from lastgood.resume import Wishes
    from lastgood.settings import Settings

    Hears = Callable[[int], None]
    Shows = Callable[[str, int], AbstractContextManager[Hears]]

_log = logging.getLogger("lastgood")


@contextmanager
def opened(remote: Remote) -> Iterator[Store]:
    """The store, until it is done with. SettingsError where what it is spoken to with is not installed."""
    try:
        from lastgood.remote import Store  # noqa: PLC0415 - boto3 takes a while to load, and may not be there
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("boto3", "botocore", "s3transfer"):
            raise
        raise SettingsError("copies in the cloud need boto3: install it with pip install 'lastgood[s3]'") from error
    store = Store(remote)
    try:
        yield store
    finally:
        store.close()


def pull(
    store: Store,
    copy: CloudCopy,
    run_folder: str,
    *,
    by: str,
    threads: int = 2,
    hears: Hears = lambda _count: None,
) -> str:
    """The path at which it lies, fetched now or there already, byte for byte. Conflict where something else is there.

    Raises as `remote.fetch` does.
    """
    from lastgood.remote import fetch, read_bundle  # noqa: PLC0415
    from lastgood.remote.pacing import patiently  # noqa: PLC0415

    bundle = patiently(lambda: read_bundle(store, copy), store.remote.patience)
    try:
        return fetch(store, bundle, run_folder, by=by, threads=threads, hears=hears)
    except Conflict:
        path = os.path.join(run_folder, copy.name)
        if not _is_as_copied(path, bundle, threads):
            raise
        return path


def _is_as_copied(path: str, bundle: Bundle, threads: int) -> bool:
    digest = algorithm_of(bundle.manifest) or naming.USUAL_DIGEST
    try:
        report = verify(path, digest=digest, threads=threads, inodes=False)
        return content_digest(report.files) == bundle.copy.digest
    except (LastgoodError, ValueError):  # nothing there, or nothing that could be read
        return False


@contextmanager
def _unseen(_what: str, _bytes: int) -> Iterator[Hears]:
    yield lambda _count: None


@dataclass(frozen=True, slots=True)
class Fetch:
    """That a copy is taken where nothing that lies here will do. `shows`: to whom it is told how far that is."""

    settings: Settings
    shows: Shows = _unseen

    def newest(
        self, folder: str, run: str | None, roots: Sequence[str], wishes: Wishes, refusal: LastgoodError
    ) -> dict[str, Any] | None:
        """The answer as JSON, once the copy that a job should start from lies here. None where there are no copies.

        `folder`, `run`, `roots`: as for `run_meant`. `refusal`: why nothing that lies here will do. NoneAcceptable
        where there are copies and none will do, SettingsError where no place for copies is set: that nothing was saved
        would not be true.
        """
        remote = Remote.needed_of(self.settings)
        with opened(remote) as store:
            from lastgood.remote import find_copies, find_runs  # noqa: PLC0415

            stored = find_runs(store)
            meant = run_meant(folder, run, roots, stored)
            if meant is None:
                _log.warning("%s holds no copies of %s, but of %s", remote.url(), folder, ", ".join(stored) or "no run")
                return None
            name, place = meant
            found = find_copies(store, name)
            for why in found.broken.values():
                _log.warning("%s", why)
            wishes = replace(wishes, order=self.settings.order)
            answer = self._first_whole(store, _not_failed(found.copies, refusal), place, wishes)
        if answer is None:
            raise _none_of(found.copies, name, wishes, refusal)
        return answer

    def _first_whole(self, store: Store, copies: list[CloudCopy], place: str, wishes: Wishes) -> dict[str, Any] | None:
        """The one that should be started from; the next one where it does not come back as it was."""
        while (copy := newest_copy(copies, wishes)) is not None:
            try:
                return self._brought(store, copy, place, wishes)
            except NotACopy as error:
                _log.warning("%s", error)
                copies.remove(copy)
        return None

    def _brought(self, store: Store, copy: CloudCopy, place: str, wishes: Wishes) -> dict[str, Any]:
        remote, threads = store.remote, self.settings.verify_threads
        _log.info("fetches %s into %s", remote.url(copy.key), place)
        with self.shows(copy.name, copy.bytes) as hears:
            path = pull(store, copy, place, by=returning.JOB, threads=threads, hears=hears)
        # Every byte was read just now; what is left to be seen is the whole, under its name.
        answer = look_at(path, wishes, Level.QUICK)
        proven = Upload(0, copy, CopyState.PROVEN)
        return {**answer, "source": "cloud", "cloud_copy": copy_as_answer(proven, remote)}


def _none_of(copies: Sequence[CloudCopy], run: str, wishes: Wishes, refusal: LastgoodError) -> NoneAcceptable:
    message = f"{refusal}; {none_of(len(copies), 'copy', 'copies')} of run {run} in the cloud can be started from"
    if partial := newest_copy(copies, replace(wishes, accept=Verdict.PARTIAL)):
        message += f"; {partial.name} could be with accept=partial"
    return NoneAcceptable(message, **getattr(refusal, "details", {}))


def _not_failed(copies: Sequence[CloudCopy], refusal: LastgoodError) -> list[CloudCopy]:
    """Without those that jobs could not start from when they lay here."""
    details: Mapping[str, Any] = getattr(refusal, "details", {})
    failed = {told["name"] for told in details.get("refused", ()) if told["reason"] == "failed"}
    return [copy for copy in copies if copy.name not in failed]
