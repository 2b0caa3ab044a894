"""The client that speaks to the store, and what objects are written with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastgood.cloud import Remote

_DEFAULT_REGION: Final = "us-east-1"


def client_of(remote: Remote) -> Any:
    """Every request goes to the endpoint that is configured.

    `payload_signing_enabled`: each body has a digest of its own; to sign it besides would read it twice.
    Checksums are sent and compared by us: what botocore adds by itself, weak stores refuse.
    """
    session = boto3.session.Session()
    config = Config(
        retries={"mode": "standard", "total_max_attempts": remote.tries},
        connect_timeout=remote.connect_timeout,
        read_timeout=remote.read_timeout,
        tcp_keepalive=True,
        max_pool_connections=2 * remote.parallel + 2,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": remote.addressing, "payload_signing_enabled": False},  # type: ignore[arg-type]
    )
    return session.client(
        "s3",
        endpoint_url=remote.endpoint or None,
        region_name=remote.region or session.region_name or _DEFAULT_REGION,
        verify=remote.ca or None,
        config=config,
    )


def settings_of_objects(remote: Remote) -> Mapping[str, str]:
    said = {
        "ServerSideEncryption": remote.sse,
        "SSEKMSKeyId": remote.kms_key,
        "StorageClass": remote.storage_class,
        "Tagging": remote.tags,
    }
    return {name: value for name, value in said.items() if value}
