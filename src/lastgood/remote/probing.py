"""What a store does and what it only says: each capability is tried, below the prefix, and cleared away again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from lastgood.cloud import Capabilities
from lastgood.cloud.addressing import PROBES
from lastgood.errors import RemoteError
from lastgood.remote import local
from lastgood.remote.pacing import patiently
from lastgood.remote.store import Part

if TYPE_CHECKING:
    from collections.abc import Callable

    from lastgood.remote.store import Store

_RACERS: Final = 8
_PART: Final = 5 << 20  # the smallest that S3 takes
_WRONG: Final = "0123456789abcdef"
_REFUSAL: Final = frozenset(
    {"BadDigest", "InvalidDigest", "InvalidRequest", "XAmzContentChecksumMismatch", "InvalidPart"}
)


def probe(store: Store) -> Capabilities:
    """RemoteError where the store cannot be reached, written to, read from or listed: then nothing can be copied."""
    key = "/".join(filter(None, (store.remote.prefix, PROBES, uuid.uuid4().hex)))
    try:
        return _Probe(store, key).look()
    finally:
        _clear(store, key)


class _Probe:
    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self._remarks: dict[str, str] = {}

    def look(self) -> Capabilities:
        self._write_and_read()
        able = Capabilities(
            keeps_crc64=self._tried("keeps_crc64", self._keeps_crc64),
            refuses_wrong_crc64=self._tried("refuses_wrong_crc64", self._refuses_wrong_crc64),
            etag_is_md5=self._tried("etag_is_md5", self._etag_is_md5),
            refuses_wrong_md5=self._tried("refuses_wrong_md5", self._refuses_wrong_md5),
            puts_only_new=self._tried("puts_only_new", self._puts_only_new),
            replaces_known=self._tried("replaces_known", self._replaces_known),
            reads_ranges=self._tried("reads_ranges", self._reads_ranges),
            aborts_abandoned=self._store.aborts_abandoned(),
        )
        able = replace(able, one_winner=able.puts_only_new and self._tried("one_winner", self._one_winner))
        return replace(self._in_parts(able), remarks=self._remarks)

    def _tried(self, name: str, trying: Callable[[], str | None]) -> bool:
        """Whether it is so; what was there instead becomes a remark."""
        try:
            remark = trying()
        except RemoteError as error:
            remark = str(error)
        if remark is not None:
            self._remarks[name] = remark
        return remark is None

    def _write_and_read(self) -> None:
        key, content = f"{self._key}/plain", b"lastgood was here"
        patiently(lambda: self._store.put(key, content), self._store.remote.patience)
        found = patiently(lambda: self._store.get(key), self._store.remote.patience)
        if found is None or found[0] != content:
            raise RemoteError(f"{self._store.remote.url(key)} does not give back what was written to it")
        if not any(listed.key == key for listed in self._store.listed(f"{self._key}/")):
            raise RemoteError(f"{self._store.remote.url(key)} is not listed although it was written")

    # --- whole objects ---

    def _keeps_crc64(self) -> str | None:
        key, content = f"{self._key}/crc64", os.urandom(1000)
        self._store.put(key, content, crc64=local.crc64(content))
        return self._is_kept(key, local.crc64(content))

    def _is_kept(self, key: str, digest: str) -> str | None:
        head = self._store.head(key)
        found = head.crc64 if head else None
        return None if found == digest else f"it says {found or 'nothing'} of what has {digest}"

    def _refuses_wrong_crc64(self) -> str | None:
        return self._refused(lambda: self._store.put(f"{self._key}/wrong", b"other bytes", crc64=_WRONG))

    def _refuses_wrong_md5(self) -> str | None:
        return self._refused(lambda: self._store.put(f"{self._key}/wrong", b"other bytes", md5=bytes(16)))

    def _refused(self, doing: Callable[[], object]) -> str | None:
        try:
            doing()
        except RemoteError as error:
            return None if error.code in _REFUSAL else str(error)
        return "bytes with another digest were accepted"

    def _etag_is_md5(self) -> str | None:
        key, content = f"{self._key}/etag", os.urandom(1000)
        self._store.put(key, content)
        return self._has_etag(key, hashlib.md5(content, usedforsecurity=False).hexdigest())

    def _has_etag(self, key: str, wanted: str) -> str | None:
        """By looking at it: some stores answer one thing to whoever writes, and another to whoever asks."""
        head = self._store.head(key)
        found = head.etag if head else None
        return None if found == wanted else f"it is {found}, not {wanted}"

    def _puts_only_new(self) -> str | None:
        key = f"{self._key}/once"
        self._store.put(key, b"first", only_new=True)
        try:
            self._store.put(key, b"second", only_new=True)
        except RemoteError as error:
            return None if error.code == "PreconditionFailed" else str(error)
        return "a second put succeeded"

    def _one_winner(self) -> str | None:
        won = 0
        with ThreadPoolExecutor(_RACERS) as racers:
            for future in [racers.submit(self._race, number) for number in range(_RACERS)]:
                won += future.result()
        return None if won == 1 else f"{won} of {_RACERS} puts at once succeeded"

    def _race(self, number: int) -> bool:
        try:
            self._store.put(f"{self._key}/race", bytes([number]) * 200_000, only_new=True)
        except RemoteError:
            return False
        return True

    def _replaces_known(self) -> str | None:
        key = f"{self._key}/replaced"
        etag = self._store.put(key, b"first")
        self._store.put(key, b"second", replaces=etag)
        try:
            self._store.put(key, b"third", replaces=etag)
        except RemoteError as error:
            return None if error.code == "PreconditionFailed" else str(error)
        return "a put over what had changed succeeded"

    def _reads_ranges(self) -> str | None:
        key, content = f"{self._key}/range", bytes(range(200))
        self._store.put(key, content)
        found = b"".join(self._store.read(key, 50, 100))
        return None if found == content[50:150] else "other bytes came than were asked for"

    # --- in parts ---

    def _in_parts(self, able: Capabilities) -> Capabilities:
        content = os.urandom(_PART + 1000)
        pieces = local.stretches(len(content), _PART)
        parts = [content[piece.start : piece.start + piece.size] for piece in pieces]
        whole = local.crc64(content)
        keeps = self._tried("keeps_crc64_of_parts", lambda: self._keeps_crc64_of_parts(parts, whole))
        refuses = keeps and self._tried(
            "refuses_wrong_crc64_of_parts", lambda: self._refuses_wrong_crc64_of_parts(parts)
        )
        return replace(
            able,
            keeps_crc64_of_parts=keeps,
            refuses_wrong_crc64_of_parts=refuses,
            etag_is_md5_of_parts=self._tried("etag_is_md5_of_parts", lambda: self._etag_is_md5_of_parts(parts)),
            lists_parts=self._tried("lists_parts", lambda: self._lists_parts(parts)),
        )

    def _send(self, key: str, parts: list[bytes], *, crc64: bool) -> tuple[str, list[Part]]:
        upload = self._store.begin(key, crc64=crc64)
        sent = []
        for number, content in enumerate(parts, 1):
            digest = local.crc64(content) if crc64 else None
            etag = self._store.put_part(key, upload, number, content, crc64=digest, md5=None)
            sent.append(Part(number, len(content), etag, digest))
        return upload, sent

    def _keeps_crc64_of_parts(self, parts: list[bytes], whole: str) -> str | None:
        key = f"{self._key}/parts-crc64"
        upload, sent = self._send(key, parts, crc64=True)
        self._store.complete(key, upload, sent, crc64=whole)
        return self._is_kept(key, whole)

    def _refuses_wrong_crc64_of_parts(self, parts: list[bytes]) -> str | None:
        """A part with another digest, and a whole with another one."""
        key = f"{self._key}/parts-wrong"
        upload, sent = self._send(key, parts, crc64=True)
        wrong = self._refused(lambda: self._store.put_part(key, upload, 1, parts[0], crc64=_WRONG, md5=None))
        return wrong or self._refused(lambda: self._store.complete(key, upload, sent, crc64=_WRONG))

    def _etag_is_md5_of_parts(self, parts: list[bytes]) -> str | None:
        key = f"{self._key}/parts-etag"
        upload, sent = self._send(key, parts, crc64=False)
        self._store.complete(key, upload, sent, crc64=None)
        digests = (hashlib.md5(part, usedforsecurity=False).digest() for part in parts)
        return self._has_etag(key, local.md5_of_parts(digests))

    def _lists_parts(self, parts: list[bytes]) -> str | None:
        key = f"{self._key}/parts-pending"
        upload, sent = self._send(key, parts[:1], crc64=False)
        if not any(pending.id == upload for pending in self._store.pending(f"{self._key}/")):
            return "an unfinished upload is not listed"
        found = self._store.parts(key, upload)
        same = 1 in found and (found[1].size, found[1].etag) == (len(parts[0]), sent[0].etag)
        return None if same else f"its parts are listed as {json.dumps(sorted(found))}"


def _clear(store: Store, key: str) -> None:
    """As far as the store lets us: a probe that is left behind is small, and nobody takes it for a copy."""
    with contextlib.suppress(RemoteError):
        for pending in store.pending(f"{key}/"):
            store.abort(pending.key, pending.id)
    with contextlib.suppress(RemoteError):
        store.remove([found.key for found in store.listed(f"{key}/")])
