"""A bucket, as we speak to it: each call asks one thing, and says in our own words why it was not done."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.parsers import ResponseParserError

from lastgood.errors import RemoteError
from lastgood.remote.connecting import client_of, settings_of_objects
from lastgood.remote.refusals import code_of, passes, refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from lastgood.cloud import Remote
    from lastgood.remote.pacing import Body

_ABSENT: Final = frozenset({"404", "NoSuchKey", "NoSuchUpload", "NotFound"})
# What botocore raises for an answer that was cut or altered on its way: nothing that it documents.
_GARBLED: Final = (ResponseParserError, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class Head:
    """What the store says of an object. `crc64`: 16 hex digits, where it keeps that of the whole object."""

    size: int
    etag: str
    crc64: str | None


@dataclass(frozen=True, slots=True)
class Listed:
    key: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an upload that is there. `crc64` as above, of the part."""

    number: int
    size: int
    etag: str
    crc64: str | None


@dataclass(frozen=True, slots=True)
class Pending:
    """An upload in parts that was begun."""

    key: str
    id: str
    begun: datetime


class Store:
    """Safe to use from several threads."""

    def __init__(self, remote: Remote) -> None:
        """No request is made yet. RemoteError where the address or the certificates cannot be used."""
        self.remote = remote
        self._new = settings_of_objects(remote)
        try:
            self._client = client_of(remote)
        except (BotoCoreError, ValueError, OSError) as error:
            raise RemoteError(f"{remote.url()} cannot be spoken to: {error}") from error

    @property
    def address(self) -> str:
        """Where every request goes."""
        return str(self._client.meta.endpoint_url)

    def close(self) -> None:
        self._client.close()

    # --- whole objects ---

    def head(self, key: str) -> Head | None:
        """None where there is no such object."""
        with self._asking("looking at", key):
            try:
                found = self._client.head_object(Bucket=self.remote.bucket, Key=key, ChecksumMode="ENABLED")
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return None
                raise
            whole = found.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
            digest = _as_hex(found.get("ChecksumCRC64NVME")) if whole else None
            return Head(int(found["ContentLength"]), found["ETag"].strip('"'), digest)

    def put(
        self,
        key: str,
        body: Body,
        *,
        crc64: str | None = None,
        md5: bytes | None = None,
        only_new: bool = False,
        replaces: str | None = None,
    ) -> str:
        """The ETag. `crc64`, `md5`: the store is to refuse other bytes. `only_new`, `replaces`: and to refuse to write
        over anything, or over what has another ETag; RemoteError `PreconditionFailed` then."""
        conditions = {"IfNoneMatch": "*"} if only_new else {"IfMatch": f'"{replaces}"'} if replaces else {}
        said = {**self._new, **_digests(crc64, md5), **conditions}
        with self._asking("writing", key):
            made = self._client.put_object(Bucket=self.remote.bucket, Key=key, Body=body, **said)
            return str(made["ETag"]).strip('"')

    def get(self, key: str) -> tuple[bytes, str, float] | None:
        """A small object, its ETag, and how many seconds ago it was written by the store's own clock; or None."""
        with self._asking("reading", key):
            try:
                found = self._client.get_object(Bucket=self.remote.bucket, Key=key)
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return None
                raise
            content = found["Body"].read()
            if len(content) != found["ContentLength"]:
                raise RemoteError(f"reading {self._name(key)}: the answer was cut", transient=True)
            return content, found["ETag"].strip('"'), _age(found)

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """Bytes of an object, in blocks; RemoteError also where fewer come than were asked for."""
        with self._asking("reading", key):
            wanted = f"bytes={start}-{start + length - 1}"
            found = self._client.get_object(Bucket=self.remote.bucket, Key=key, Range=wanted)
            left = length
            for block in found["Body"].iter_chunks(1 << 20):
                left -= len(block)
                if left < 0:
                    raise RemoteError(f"reading {self._name(key)}: the store does not read parts", code="NoRanges")
                yield block
            if left:
                raise RemoteError(f"reading {self._name(key)}: {left} bytes did not come", transient=True)

    def listed(self, prefix: str) -> Iterator[Listed]:
        """Every object whose key begins so."""
        with self._asking("listing", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.remote.bucket, Prefix=prefix)
            for page in pages:
                for found in page.get("Contents", ()):
                    yield Listed(found["Key"], int(found["Size"]), found["LastModified"])

    def remove(self, keys: Iterable[str]) -> None:
        """Those that are not there are no matter."""
        # One by one: DeleteObjects needs a digest of its body that weak stores do not know, and says less of failures.
        for key in keys:
            with self._asking("removing", key):
                self._client.delete_object(Bucket=self.remote.bucket, Key=key)

    # --- objects in parts ---

    def begin(self, key: str, *, crc64: bool) -> str:
        """The upload's id. `crc64`: the store is to keep the digest of the whole."""
        digest = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"} if crc64 else {}
        with self._asking("beginning", key):
            made = self._client.create_multipart_upload(Bucket=self.remote.bucket, Key=key, **self._new, **digest)
            return str(made["UploadId"])

    def put_part(self, key: str, upload: str, number: int, body: Body, *, crc64: str | None, md5: bytes | None) -> str:
        """The part's ETag."""
        said = {"UploadId": upload, "PartNumber": number, **_digests(crc64, md5)}
        with self._asking(f"sending part {number} of", key):
            made = self._client.upload_part(Bucket=self.remote.bucket, Key=key, Body=body, **said)
            return str(made["ETag"]).strip('"')

    def parts(self, key: str, upload: str) -> dict[int, Part]:
        """Those of the upload that are there, by number."""
        with self._asking("listing the parts of", key):
            pages = self._client.get_paginator("list_parts").paginate(
                Bucket=self.remote.bucket, Key=key, UploadId=upload
            )
            found = [part for page in pages for part in page.get("Parts", ())]
            return {
                part["PartNumber"]: Part(
                    part["PartNumber"],
                    int(part["Size"]),
                    part["ETag"].strip('"'),
                    _as_hex(part.get("ChecksumCRC64NVME")),
                )
                for part in found
            }

    def complete(self, key: str, upload: str, parts: Iterable[Part], *, crc64: str | None) -> str:
        """Makes the object of its parts. Its ETag. `crc64`: of the whole, where it was begun with one."""
        named = [_named(part, digests=crc64 is not None) for part in parts]
        whole = {"ChecksumCRC64NVME": _as_base64(crc64), "ChecksumType": "FULL_OBJECT"} if crc64 else {}
        with self._asking("finishing", key):
            made = self._client.complete_multipart_upload(
                Bucket=self.remote.bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": named}, **whole
            )
            return str(made["ETag"]).strip('"')

    def abort(self, key: str, upload: str) -> None:
        with self._asking("giving up", key):
            try:
                self._client.abort_multipart_upload(Bucket=self.remote.bucket, Key=key, UploadId=upload)
            except ClientError as error:
                if code_of(error) not in _ABSENT:
                    raise

    def pending(self, prefix: str) -> list[Pending]:
        """Uploads in parts that were begun below it and not finished, the newest first."""
        with self._asking("listing the uploads below", prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.remote.bucket, Prefix=prefix
            )
            found = [
                Pending(upload["Key"], upload["UploadId"], upload["Initiated"])
                for page in pages
                for upload in page.get("Uploads", ())
                if upload["Key"].startswith(prefix)  # not every store filters
            ]
        return sorted(found, key=lambda upload: upload.begun, reverse=True)

    def aborts_abandoned(self) -> bool | None:
        """Whether the bucket has a rule that does; None where it would not say."""
        try:
            with self._asking("reading the lifecycle of", ""):
                found = self._client.get_bucket_lifecycle_configuration(Bucket=self.remote.bucket)
        except RemoteError as error:
            return False if error.code == "NoSuchLifecycleConfiguration" else None
        rules = found.get("Rules")
        if rules is None:
            return None
        return any(rule.get("Status") == "Enabled" and "AbortIncompleteMultipartUpload" in rule for rule in rules)

    @contextlib.contextmanager
    def _asking(self, doing: str, key: str) -> Iterator[None]:
        """Whatever botocore raises becomes a RemoteError that says what was asked of which object."""
        what = f"{doing} {self._name(key)}"
        try:
            yield
        except RemoteError:
            raise
        except ClientError as error:
            raise refused(what, error) from error
        except HTTPClientError as error:
            raise RemoteError(f"{what}: {error}", code=type(error).__name__, transient=True) from error
        except BotoCoreError as error:
            raise RemoteError(f"{what}: {error}", code=type(error).__name__, transient=passes(error)) from error
        except _GARBLED as error:
            raise RemoteError(
                f"{what}: the answer makes no sense ({error!r})", code="Garbled", transient=True
            ) from error

    def _name(self, key: str) -> str:
        return self.remote.url(key)


def _digests(crc64: str | None, md5: bytes | None) -> dict[str, str]:
    found = {}
    if crc64 is not None:
        found["ChecksumCRC64NVME"] = _as_base64(crc64)
    if md5 is not None:
        found["ContentMD5"] = base64.b64encode(md5).decode()
    return found


def _named(part: Part, *, digests: bool) -> dict[str, Any]:
    digest = {"ChecksumCRC64NVME": _as_base64(part.crc64)} if digests and part.crc64 else {}
    return {"PartNumber": part.number, "ETag": f'"{part.etag}"', **digest}


def _as_base64(digits: str) -> str:
    return base64.b64encode(bytes.fromhex(digits)).decode()


def _as_hex(text: str | None) -> str | None:
    return base64.b64decode(text).hex() if text else None


def _age(found: Mapping[str, Any]) -> float:
    """By the store's clock alone: ours may be another."""
    now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
    written: datetime = found["LastModified"]
    return max((now - written).total_seconds(), 0.0)
