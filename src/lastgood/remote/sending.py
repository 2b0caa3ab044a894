"""Sending a checkpoint: its files in parts, side by side, each until the store has proven to hold what was judged.

Nothing is remembered between two tries, or two lives of the process: what the store already has is looked at, and only
the rest is sent. The parts of a large file are those of an unfinished upload, where there is one.
"""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from lastgood.cloud import Proof
from lastgood.cloud.addressing import file_key
from lastgood.errors import NoLongerAsJudged, RemoteError
from lastgood.remote import committing, local
from lastgood.remote.pacing import Pace, patiently
from lastgood.remote.proving import Expected, prove
from lastgood.remote.store import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from lastgood.cloud import Bundle, Capabilities, CloudCopy
    from lastgood.facts import FileDigest
    from lastgood.remote.local import Stretch
    from lastgood.remote.locking import Uploader
    from lastgood.remote.store import Store

_WEAKEST_LAST: Final = tuple(Proof)


def send(
    store: Store,
    bundle: Bundle,
    able: Capabilities,
    uploader: Uploader,
    hears: Callable[[int], None] = lambda _count: None,
    *,
    suspect: bool = False,
) -> CloudCopy:
    """The copy, once it is there and proven; `hears` of every byte that is known to be there.

    `bundle.copy.write_id` is how its COMMIT is told from somebody else's. `suspect`: a COMMIT that is there proves
    nothing, since the copy did not come back whole.

    Whoever finds an equal copy takes it as its own. NoLongerAsJudged where the files are others by now; NotACopy where
    something else lies under its COMMIT; RemoteError where the store does not do it, however often it is asked.
    """
    patience = store.remote.patience
    patiently(uploader.hold, patience)
    sizes = patiently(lambda: {found.key: found.size for found in store.listed(f"{bundle.copy.key}/")}, patience)
    there = patiently(lambda: committing.there(store, bundle.copy), patience)
    if (
        there is not None
        and not suspect
        and all(sizes.get(file_key(there.key, f.path)) == f.bytes for f in bundle.manifest.files)
    ):
        return there
    patiently(lambda: committing.begin(store, bundle.copy), patience)
    proof = _Sender(store, bundle, able, uploader, hears).send_all(sizes)
    patiently(uploader.hold, patience)
    return committing.write(store, bundle, able, proof)


class _Sender:
    def __init__(
        self,
        store: Store,
        bundle: Bundle,
        able: Capabilities,
        uploader: Uploader,
        hears: Callable[[int], None],
    ) -> None:
        self._store, self._bundle, self._able, self._uploader = store, bundle, able, uploader
        self._remote = store.remote
        self._pace = Pace(store.remote.max_rate)
        self._hears, self._hearing = hears, threading.Lock()
        self._heard: set[tuple[str, int]] = set()
        self._stopped = threading.Event()

    def send_all(self, sizes: Mapping[str, int]) -> Proof:
        """The weakest of their proofs."""
        workers = self._remote.parallel
        with ThreadPoolExecutor(workers, "part") as self._parts, ThreadPoolExecutor(workers, "file") as files:
            largest_first = sorted(self._bundle.manifest.files, key=lambda file: file.bytes, reverse=True)
            futures = [files.submit(self._send, file, sizes.get(self._key(file))) for file in largest_first]
            try:
                proofs = {future.result() for future in futures}
            except BaseException:
                self._stopped.set()
                for future in futures:
                    future.cancel()
                raise
        return max(proofs, key=_WEAKEST_LAST.index, default=Proof.FULL_OBJECT)

    def _key(self, file: FileDigest) -> str:
        return file_key(self._bundle.copy.key, file.path)

    def _send(self, file: FileDigest, there: int | None) -> Proof:
        self._go_on()
        expected = self._expected(file)
        if there == file.bytes:
            proof = patiently(lambda: self._proof(expected), self._remote.patience)
            if proof is not None:
                self._count(expected.key, 0, file.bytes)
                return proof
        return patiently(lambda: self._send_once(expected), self._remote.patience)

    def _expected(self, file: FileDigest) -> Expected:
        path = os.path.join(self._bundle.folder, file.path)
        size = self._remote.part_size_of(file.bytes)
        return Expected(self._key(file), path, file.bytes, local.judged_crc64(path, file), size)

    def _proof(self, expected: Expected) -> Proof | None:
        return prove(self._store, expected, self._able.proof(parts=expected.in_parts))

    def _send_once(self, expected: Expected) -> Proof:
        self._go_on()
        try:
            if expected.in_parts:
                self._send_parts(expected)
            else:
                self._parts.submit(self._put, expected).result()
        except RemoteError:
            # The answer may have been lost, and all done.
            if (proof := self._proof(expected)) is not None:
                return proof
            raise
        if (proof := self._proof(expected)) is None:
            raise RemoteError(f"{expected.key}: what the store holds is not what was sent", transient=True)
        return proof

    def _put(self, expected: Expected) -> None:
        whole = local.Stretch(1, 0, expected.size)
        content = local.read(expected.path, whole)
        digest, md5 = self._digests(content)
        if digest != expected.crc64:
            raise NoLongerAsJudged(f"{expected.path} is not what was judged")
        self._store.put(expected.key, self._pace.body(content), **self._said(digest, md5, parts=False))
        self._count(expected.key, 0, expected.size)

    # --- in parts ---

    def _send_parts(self, expected: Expected) -> None:
        upload, there = self._where_it_stopped(expected)
        if upload is None:
            upload = self._store.begin(expected.key, crc64=self._able.keeps_crc64_of_parts)
        pieces = local.stretches(expected.size, expected.part_size)
        futures = [self._parts.submit(self._send_part, expected, upload, s, there.get(s.number)) for s in pieces]
        sent = _all_of(futures)
        if local.crc64_of((part.crc64 or "", part.size) for part in sent) != expected.crc64:
            self._store.abort(expected.key, upload)
            raise NoLongerAsJudged(f"{expected.path} is not what was judged")
        digest = expected.crc64 if self._able.keeps_crc64_of_parts else None
        self._store.complete(expected.key, upload, sent, crc64=digest)

    def _where_it_stopped(self, expected: Expected) -> tuple[str | None, dict[int, Part]]:
        """The newest unfinished upload of it, with its parts. The others are given up: nobody else sends here."""
        if not self._able.lists_parts:
            return None, {}
        found = [pending for pending in self._store.pending(expected.key) if pending.key == expected.key]
        for other in found[1:]:
            self._store.abort(other.key, other.id)
        return (found[0].id, self._store.parts(expected.key, found[0].id)) if found else (None, {})

    def _send_part(self, expected: Expected, upload: str, stretch: Stretch, there: Part | None) -> Part:
        self._go_on()
        content = local.read(expected.path, stretch)
        digest, md5 = self._digests(content)
        if there is not None and _is_part(there, content, digest):
            etag = there.etag
        else:
            etag = patiently(
                lambda: self._store.put_part(
                    expected.key,
                    upload,
                    stretch.number,
                    self._pace.body(content),
                    **self._said(digest, md5, parts=True),
                ),
                self._remote.patience,
            )
        self._count(expected.key, stretch.start, stretch.size)
        return Part(stretch.number, stretch.size, etag, digest)

    # --- what is said of bytes ---

    def _digests(self, content: bytes) -> tuple[str, bytes]:
        """MD5 only where it is of use: it is slower than most networks."""
        by_md5 = not (self._able.refuses_wrong_crc64 and self._able.refuses_wrong_crc64_of_parts)
        md5 = hashlib.md5(content, usedforsecurity=False).digest() if by_md5 else b""
        return local.crc64(content), md5

    def _said(self, digest: str, md5: bytes, *, parts: bool) -> dict[str, Any]:
        keeps = self._able.keeps_crc64_of_parts if parts else self._able.keeps_crc64
        return {"crc64": digest if keeps else None, "md5": md5 or None}

    def _count(self, key: str, start: int, size: int) -> None:
        """Once, however often it has to be sent."""
        with self._hearing:
            if (key, start) not in self._heard:
                self._heard.add((key, start))
                self._hears(size)

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise RemoteError("another file of the same checkpoint could not be sent")
        self._uploader.keep()


def _all_of(futures: list[Future[Part]]) -> list[Part]:
    """Their results, or the first error, and then nothing that has not begun."""
    try:
        return [future.result() for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def _is_part(there: Part, content: bytes, digest: str) -> bool:
    """By the digest that the store lists; most list none, and say the MD5 as the ETag."""
    if there.size != len(content):
        return False
    if there.crc64 is not None:
        return there.crc64 == digest
    return there.etag == hashlib.md5(content, usedforsecurity=False).hexdigest()
