"""The stores and the proxy that the tests of copies rest on do what those tests take for granted."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import threading
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import boto3
import pytest
from awscrt import checksums
from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError, ReadTimeoutError, SSLError

import s3_servers
from fault_proxy import PASSING, Fault, fault_proxy, first, seeded_plan
from running import free_port, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

    from fault_proxy import Plan, Proxy
    from s3_servers import S3Server

    Behinds = Callable[..., AbstractContextManager["Behind"]]

BODY: Final = bytes(range(256)) * 400
PART: Final = os.urandom(5 << 20)  # no part but the last may be smaller
UNSIGNED: Final[dict[str, Any]] = {"s3": {"payload_signing_enabled": False}}  # so that only the checksum can tell


class Behind:
    """One key of a store, seen through a proxy, and past it."""

    def __init__(self, server: S3Server, bucket: str, proxy: Proxy) -> None:
        self.proxy, self._server, self._through = proxy, server, replace(server, endpoint=proxy.endpoint)
        self.names: dict[str, Any] = {"Bucket": bucket, "Key": f"{uuid.uuid4().hex}/checkpoint-10/model.safetensors"}

    def client(self, **config: Any) -> S3Client:
        return self._through.client(**config)

    def put(self, client: S3Client | None = None, **more: Any) -> None:
        (client or self.client()).put_object(**self.names, Body=BODY, **more)

    def get(self) -> bytes:
        return self.client().get_object(**self.names)["Body"].read()

    def put_past_it(self) -> None:
        self._server.client().put_object(**self.names, Body=BODY)

    def held(self) -> bytes | None:
        """What the store really holds under the key; None where that is nothing."""
        client = self._server.client()
        try:
            return client.get_object(**self.names)["Body"].read()
        except client.exceptions.NoSuchKey:
            return None


@pytest.fixture(scope="module")
def behind(seaweed: S3Server) -> Behinds:
    """SeaweedFS behind a proxy with this plan; each time another key."""
    bucket = seaweed.new_bucket()

    @contextmanager
    def behind(*plan: Plan) -> Iterator[Behind]:
        with fault_proxy(seaweed.endpoint, *plan) as proxy:
            yield Behind(seaweed, bucket, proxy)

    return behind


@pytest.mark.parametrize("name", ["seaweed", "seaweed_tls", "moto_server", "rclone_server"])
def test_each_store_gives_back_what_it_was_given(name: str, request: pytest.FixtureRequest) -> None:
    server: S3Server = request.getfixturevalue(name)
    client, bucket = server.client(), server.new_bucket()
    client.put_object(Bucket=bucket, Key="a/key", Body=BODY)
    assert client.get_object(Bucket=bucket, Key="a/key")["Body"].read() == BODY


def test_a_store_behind_tls_is_reached_only_by_those_who_know_its_authority(seaweed_tls: S3Server) -> None:
    with pytest.raises(SSLError):
        replace(seaweed_tls, ca_file=None).client().list_buckets()


def test_wrong_keys_are_refused(seaweed: S3Server) -> None:
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        replace(seaweed, secret_key="another").client().list_buckets()


def test_the_environment_of_a_store_is_all_that_boto3_finds(seaweed: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "somebody")
    s3_servers.use(monkeypatch, seaweed)
    boto3.session.Session().client("s3", endpoint_url=seaweed.endpoint).list_buckets()
    assert {name for name in os.environ if name.startswith("AWS_")} == set(seaweed.environment)


def test_what_goes_through_the_proxy_arrives_as_it_was_sent(behind: Behinds) -> None:
    with behind() as it:
        it.put()
        assert it.get() == it.held() == BODY
        it.client().delete_object(**it.names)
        assert it.held() is None
    path = "/{Bucket}/{Key}".format(**it.names)
    assert it.proxy.requests == [("PUT", path), ("GET", path), ("DELETE", path)]
    assert it.proxy.faults == Counter()


def test_an_upload_in_parts_goes_through_the_proxy(behind: Behinds) -> None:
    with behind() as it:
        client, names = it.client(), it.names
        upload = client.create_multipart_upload(**names)["UploadId"]
        parts: list[CompletedPartTypeDef] = [
            {"PartNumber": n, "ETag": client.upload_part(**names, UploadId=upload, PartNumber=n, Body=body)["ETag"]}
            for n, body in enumerate((PART, BODY), 1)
        ]
        client.complete_multipart_upload(**names, UploadId=upload, MultipartUpload={"Parts": parts})
        assert client.head_object(**names)["ContentLength"] == len(PART + BODY)
        assert it.held() == PART + BODY


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault.INTERNAL_ERROR, 500, "InternalError"),
        (Fault.SLOW_DOWN, 503, "SlowDown"),
        (Fault.CONFLICT, 409, "ConditionalRequestConflict"),
        (Fault.PRECONDITION_FAILED, 412, "PreconditionFailed"),
    ],
)
def test_a_request_that_is_refused_never_reaches_the_store(
    behind: Behinds, fault: Fault, status: int, code: str
) -> None:
    with behind(first(1, fault)) as it:
        with pytest.raises(ClientError) as refused:
            it.put()
        assert it.held() is None
        it.put()
        assert it.held() == BODY
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert refused.value.response["Error"]["Code"] == code
    assert it.proxy.faults == {fault: 1}


def test_a_refused_head_has_no_body(behind: Behinds) -> None:
    with behind(first(1, Fault.SLOW_DOWN)) as it:
        client = it.client()
        with pytest.raises(ClientError, match="503"):
            client.head_bucket(Bucket=it.names["Bucket"])
        client.head_bucket(Bucket=it.names["Bucket"])


def test_a_request_that_is_reset_leaves_nothing(behind: Behinds) -> None:
    with behind(first(1, Fault.RESET)) as it:
        with pytest.raises(ConnectionClosedError):
            it.put()
        assert it.held() is None
    assert it.proxy.faults == {Fault.RESET: 1}


def test_an_answer_that_is_lost_leaves_the_object_there(behind: Behinds) -> None:
    with behind(first(1, Fault.LOST_ANSWER)) as it:
        with pytest.raises(ConnectionClosedError):
            it.put()
        assert it.held() == BODY
    assert it.proxy.faults == {Fault.LOST_ANSWER: 1}


def test_an_answer_that_is_cut_off_is_noticed_by_its_length(behind: Behinds) -> None:
    with behind(first(1, Fault.TRUNCATED, method="GET")) as it:
        it.put_past_it()
        with pytest.raises(HTTPClientError):
            it.get()
        assert it.get() == BODY
    assert it.proxy.faults == {Fault.TRUNCATED: 1}


def test_an_answer_that_is_delayed_comes_later(behind: Behinds) -> None:
    with behind(first(1, Fault.DELAYED, delay=0.3)) as it:
        began = time.monotonic()
        it.put()
        assert time.monotonic() - began >= 0.3
        assert it.held() == BODY
    assert it.proxy.faults == {Fault.DELAYED: 1}


def test_a_flipped_bit_of_a_request_is_refused_by_a_store_that_was_told_the_checksum(behind: Behinds) -> None:
    checksum = base64.b64encode(checksums.crc64nvme(BODY).to_bytes(8, "big")).decode()
    with behind(first(1, Fault.FLIPPED_REQUEST)) as it:
        client = it.client(**UNSIGNED)
        with pytest.raises(ClientError) as refused:
            it.put(client=client, ChecksumCRC64NVME=checksum)
        assert it.held() is None
        it.put(client=client, ChecksumCRC64NVME=checksum)
        assert it.held() == BODY
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert it.proxy.faults == {Fault.FLIPPED_REQUEST: 1}


def test_a_flipped_bit_of_a_request_is_stored_by_a_store_that_was_told_nothing(behind: Behinds) -> None:
    with behind(first(1, Fault.FLIPPED_REQUEST)) as it:
        it.put(client=it.client(**UNSIGNED))
        held = it.held()
    assert held is not None
    assert _differing_bits(held, BODY) == 1


def test_a_flipped_bit_of_an_answer_is_another_only_at_the_client(behind: Behinds) -> None:
    with behind(first(1, Fault.FLIPPED_ANSWER)) as it:
        it.put_past_it()
        assert _differing_bits(it.get(), BODY) == 1
        assert it.get() == it.held() == BODY
    assert it.proxy.faults == {Fault.FLIPPED_ANSWER: 1}


def test_a_request_that_hangs_does_so_until_the_client_gives_up(behind: Behinds) -> None:
    with behind(first(1, Fault.HUNG)) as it:
        with pytest.raises(ReadTimeoutError):
            it.put(client=it.client(read_timeout=0.3))
        assert it.held() is None
    assert it.proxy.faults == {Fault.HUNG: 1}


def test_a_request_that_hangs_is_cut_off_when_the_proxy_ends(behind: Behinds) -> None:
    failures: list[Exception] = []

    def hang() -> None:
        try:
            it.put()
        except HTTPClientError as error:
            failures.append(error)

    with behind(first(1, Fault.HUNG)) as it:
        thread = threading.Thread(target=hang)
        thread.start()
        wait_for("the request", lambda: it.proxy.faults, 10)
    thread.join(10)
    assert len(failures) == 1


@pytest.mark.parametrize("fault", [Fault.FLIPPED_REQUEST, Fault.FLIPPED_ANSWER, Fault.TRUNCATED])
def test_a_fault_of_a_body_cannot_befall_a_request_without_one(behind: Behinds, fault: Fault) -> None:
    with behind(first(1, fault)) as it:
        it.put_past_it()
        assert it.client().head_object(**it.names)["ContentLength"] == len(BODY)
    assert it.proxy.faults == Counter()


def test_only_matching_requests_count_among_the_first() -> None:
    plan = first(1, Fault.RESET, method="PUT", containing="partNumber=2")
    asked = [("GET", "/b/k?partNumber=2"), ("PUT", "/b/k?partNumber=1"), *[("PUT", "/b/k?partNumber=2")] * 2]
    assert [plan(method, path) for method, path in asked] == [None, None, Fault.RESET, None]


def test_a_seed_always_means_the_same_faults() -> None:

    plan, same_plan, other_plan = seeded_plan(1, 0.3), seeded_plan(1, 0.3), seeded_plan(2, 0.3)
    faults = [plan("GET", "/") for _ in range(1000)]
    assert [same_plan("GET", "/") for _ in range(1000)] == faults
    assert [other_plan("GET", "/") for _ in range(1000)] != faults
    assert set(faults) == {None, *PASSING}
    assert 250 < sum(fault is not None for fault in faults) < 350


def test_after_so_many_faults_there_are_no_more() -> None:
    plan = seeded_plan(1, 1.0, [Fault.RESET], at_most=2)
    assert [plan("GET", "/") for _ in range(4)] == [Fault.RESET, Fault.RESET, None, None]


class Echo(BaseHTTPRequestHandler):
    """Answers in chunks with the body that it got, and says how that came."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.rfile.readline(), 16))
        assert self.rfile.read(7) == b"\r\n0\r\n\r\n"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("X-Came", f"{self.headers['Transfer-Encoding']} {self.headers['Host']}")
        self.end_headers()
        self.wfile.write(b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def echo() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def talking_to(proxy: Proxy) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(urlsplit(proxy.endpoint).netloc, timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def test_a_body_in_chunks_goes_on_in_chunks_and_comes_back_in_chunks() -> None:
    with echo() as upstream, fault_proxy(upstream) as proxy, talking_to(proxy) as connection:
        for _ in range(2):  # the second over the same connection
            connection.request("POST", "/", iter([b"abc", b"def"]), {"Host": "signed.example"}, encode_chunked=True)
            answer = connection.getresponse()
            assert answer.read() == b"abcdef"
            assert answer.headers["Transfer-Encoding"] == "chunked"
            assert answer.headers["X-Came"] == "chunked signed.example"


def test_a_request_that_breaks_off_never_reaches_the_store(seaweed: S3Server) -> None:
    with fault_proxy(seaweed.endpoint) as proxy:
        address = urlsplit(proxy.endpoint)
        with socket.create_connection((address.hostname, address.port), 10) as client:
            client.sendall(b"PUT /bucket/key HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
            client.shutdown(socket.SHUT_WR)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
    assert proxy.requests == []


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"Content-Length: 1\r\nContent-Length: 2", id="two lengths"),
        pytest.param(b"Content-Length: 5\r\nTransfer-Encoding: chunked", id="a length and chunks"),
        pytest.param(b"Content-Length: -1", id="a length that is none"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n5 \r\nabcde\r\n0\r\n", id="a chunk whose size is none"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcde\r\n0\r\n", id="a chunk that is too long"),
    ],
)
def test_a_request_whose_end_is_in_doubt_is_refused(seaweed: S3Server, head: bytes) -> None:
    with fault_proxy(seaweed.endpoint) as proxy:
        address = urlsplit(proxy.endpoint)
        with socket.create_connection((address.hostname, address.port), 10) as client:
            client.sendall(b"PUT /bucket/key HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 400 ")
    assert proxy.requests == []


def test_a_store_that_is_gone_looks_like_a_reset(seaweed: S3Server) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    with fault_proxy(gone) as proxy, pytest.raises(ConnectionClosedError):
        replace(seaweed, endpoint=proxy.endpoint).client().list_buckets()


def _differing_bits(one: bytes, other: bytes) -> int:
    assert len(one) == len(other)
    return sum((a ^ b).bit_count() for a, b in zip(one, other, strict=True))
