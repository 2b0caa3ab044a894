"""What a store's errors mean: whether to try again, and in which words to say it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lastgood.errors import RemoteError

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError

_PASSES: Final = frozenset(
    {"RequestTimeout", "SlowDown", "InternalError", "OperationAborted", "ConditionalRequestConflict", "BadDigest"}
    | {"XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "InvalidDigest", "IncompleteBody", "MalformedXML"}
    | {"RequestTimeTooSkewed", "NoSuchUpload", "PreconditionFailed", "InvalidPart"}
)


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def refused(what: str, error: ClientError) -> RemoteError:
    code, said = code_of(error), error.response.get("Error", {}).get("Message", "")
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if status == 412:
        code = "PreconditionFailed"
    passes = code in _PASSES or status >= 500 or status in (408, 409, 429)
    return RemoteError(f"{what}: {code or status} {said}".rstrip(), code=code, transient=passes)


def passes(error: BotoCoreError) -> bool:
    """A connection that broke may be had again; credentials that are not there will not come by themselves."""
    return type(error).__name__ not in ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError")
