"""Between an S3 client and a store: hands on what each says to the other, byte by byte, and now and then does not.

Strict, so that a test can trust it: what the client did not send whole never reaches the store, what the store did not
answer whole ends in a reset, and nothing is tried twice. The Host header stays as it came, for it is signed. Messages
are held in memory.
"""

from __future__ import annotations

import itertools
import random
import re
import socket
import socketserver
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

Headers = Sequence[tuple[str, str]]

DELAY: Final = 1.0
_HOST: Final = "127.0.0.1"
_UPSTREAM_SECONDS: Final = 60.0
_RESET_WHEN_CLOSED: Final = struct.pack("ii", 1, 0)  # linger, for 0 s
_OF_ONE_CONNECTION: Final = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding"}
)
_CHUNKED: Final[Headers] = [("Transfer-Encoding", "chunked")]


class Fault(StrEnum):
    """What can go wrong with one request."""

    INTERNAL_ERROR = "internal-error"  #: 500; the store never sees it
    SLOW_DOWN = "slow-down"  #: 503; the store never sees it
    CONFLICT = "conflict"  #: 409; the store never sees it
    PRECONDITION_FAILED = "precondition-failed"  #: 412; the store never sees it
    RESET = "reset"  #: the connection is reset; the store never sees it
    TRUNCATED = "truncated"  #: the store does it; its answer ends in the middle of the body
    DELAYED = "delayed"  #: the store does it; its answer comes late
    LOST_ANSWER = "lost-answer"  #: the store does it; instead of its answer comes a reset
    FLIPPED_REQUEST = "flipped-request"  #: the store gets another body, by one bit
    FLIPPED_ANSWER = "flipped-answer"  #: the client gets another body, by one bit
    HUNG = "hung"  #: nothing comes for as long as the client waits; the store never sees it


#: Method, and path with query, to the fault that this request suffers. One with an attribute `delay` says how many
#: seconds a delayed answer takes.
Plan = Callable[[str, str], Fault | None]

PASSING: Final = tuple(fault for fault in Fault if fault is not Fault.HUNG)
_REFUSALS: Final = {
    Fault.INTERNAL_ERROR: (HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError"),
    Fault.SLOW_DOWN: (HTTPStatus.SERVICE_UNAVAILABLE, "SlowDown"),
    Fault.CONFLICT: (HTTPStatus.CONFLICT, "ConditionalRequestConflict"),
    Fault.PRECONDITION_FAILED: (HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed"),
}


@dataclass
class Proxy:
    """Where to find it, and what it did so far."""

    endpoint: str
    faults: Counter[Fault] = field(default_factory=Counter)  #: those that came about, each before anybody notices
    requests: list[tuple[str, str]] = field(default_factory=list)  #: method, and path with query, as they came


def no_faults(_method: str, _path: str) -> None:
    """The plan of a proxy that only hands on."""


def seeded_plan(
    seed: int, rate: float, kinds: Sequence[Fault] = PASSING, at_most: int | None = None, *, delay: float = DELAY
) -> Plan:
    """Each request suffers some fault with the probability `rate`, until there were `at_most`."""
    dice = random.Random(seed)
    left = itertools.count() if at_most is None else iter(range(at_most))

    def decide(_method: str, _path: str) -> Fault | None:
        # Thrown each time, whatever comes of it, so that a seed means the same with any rate and limit.
        throw, kind = dice.random(), dice.choice(kinds)
        return kind if throw < rate and next(left, None) is not None else None

    return _OneByOne(decide, delay)


def first(n: int, fault: Fault, *, method: str | None = None, containing: str = "", delay: float = DELAY) -> Plan:
    """The first `n` requests with this method and this in their path suffer the fault; also those that it cannot befall
    count among them.
    """
    left = iter(range(n))

    def decide(asked: str, path: str) -> Fault | None:
        matches = method in (None, asked) and containing in path
        return fault if matches and next(left, None) is not None else None

    return _OneByOne(decide, delay)


@contextmanager
def fault_proxy(upstream_endpoint: str, plan: Plan = no_faults) -> Iterator[Proxy]:
    """A proxy before the store at this http:// address. Whoever still waits at the end is cut off."""
    server = _Server(upstream_endpoint, plan)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="fault proxy", daemon=True)
    thread.start()
    try:
        yield server.proxy
    finally:
        server.end()
        thread.join()
    assert not server.failures, server.failures


@dataclass(frozen=True)
class _OneByOne:
    """A plan that is asked by one thread at a time."""

    decide: Plan
    delay: float
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, method: str, path: str) -> Fault | None:
        with self.lock:
            return self.decide(method, path)


@dataclass(frozen=True)
class _Message:
    """A request or an answer, without its first line."""

    headers: Headers  #: without those that concern one connection only
    framing: Headers  #: those that say where the body ends, as they came
    body: bytes = b""

    @property
    def wire(self) -> bytes:
        """The body as it is sent: in one chunk where it came in chunks."""
        if self.framing != _CHUNKED:
            return self.body
        chunk = b"%x\r\n%b\r\n" % (len(self.body), self.body) if self.body else b""
        return chunk + b"0\r\n\r\n"

    def with_flipped_bit(self, dice: random.Random) -> _Message:
        place = dice.randrange(len(self.body) * 8)
        body = bytearray(self.body)
        body[place // 8] ^= 1 << place % 8
        return replace(self, body=bytes(body))


@dataclass(frozen=True)
class _Answer:
    status: int
    reason: str
    message: _Message


class _Malformed(Exception):
    """What the client says is not HTTP/1.1."""


class _Server(socketserver.ThreadingTCPServer):
    request_queue_size = 128

    def __init__(self, upstream_endpoint: str, plan: Plan) -> None:
        super().__init__((_HOST, 0), _Handler)
        upstream = urlsplit(upstream_endpoint)
        assert upstream.scheme == "http", upstream_endpoint
        assert upstream.hostname is not None, upstream_endpoint
        self._upstream, self._plan = (upstream.hostname, upstream.port), plan
        self._open: set[socket.socket] = set()
        self._lock, self.ended = threading.Lock(), threading.Event()
        self._dice = random.Random(0)
        self.delay = float(getattr(plan, "delay", DELAY))
        self.failures: list[BaseException | None] = []
        self.proxy = Proxy(f"http://{_HOST}:{self.server_address[1]}")

    def fault_for(self, method: str, path: str) -> Fault | None:
        self.proxy.requests.append((method, path))
        return self._plan(method, path)

    def count(self, fault: Fault) -> None:
        with self._lock:
            self.proxy.faults[fault] += 1

    def flipped(self, message: _Message) -> _Message:
        with self._lock:
            return message.with_flipped_bit(self._dice)

    def forward(self, method: str, path: str, message: _Message) -> _Answer:
        """What the store answers. OSError or HTTPException where it does not, or not to the end."""
        connection = HTTPConnection(*self._upstream, timeout=_UPSTREAM_SECONDS)
        connection.connect()
        upstream: socket.socket = connection.sock
        self._open.add(upstream)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in (*message.headers, *message.framing):
                connection.putheader(name, value)
            connection.endheaders(message.wire)
            return _answer_of(connection, method)
        finally:
            self._open.discard(upstream)
            connection.close()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        assert isinstance(request, socket.socket)
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # clients go away as they please; anything else is a mistake of ours
            self.failures.append(error)

    def end(self) -> None:
        """No new connection, no open one, and no thread left."""
        self.shutdown()
        self.ended.set()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client; `do_...` is called once a request."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _do(self) -> None:
        try:
            self._take(self._message())
        except _Malformed as error:
            self.send_error(HTTPStatus.BAD_REQUEST, str(error))
            self.close_connection = True
        except (OSError, HTTPException):
            self._reset()  # the store is gone, and so it looks to the client; or the client is gone

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _do  # noqa: N815 - as http.server calls them

    def _take(self, message: _Message) -> None:
        fault = self.server.fault_for(self.command, self.path)
        if fault in _REFUSALS:
            self.server.count(fault)
            self._answer(_refusal(fault, self.path))
        elif fault is Fault.RESET:
            self.server.count(fault)
            self._reset()
        elif fault is Fault.HUNG:
            self.server.count(fault)
            self._wait_for_the_client_to_leave()
        else:
            self._hand_on(message, fault)

    def _hand_on(self, message: _Message, fault: Fault | None) -> None:
        if fault is Fault.FLIPPED_REQUEST and message.body:
            self.server.count(fault)
            message = self.server.flipped(message)
        answer = self.server.forward(self.command, self.path, message)
        match fault:
            case Fault.LOST_ANSWER:
                self.server.count(fault)
                self._reset()
            case Fault.DELAYED:
                self.server.count(fault)
                self.server.ended.wait(self.server.delay)
                self._answer(answer)
            case Fault.FLIPPED_ANSWER if answer.message.body:
                self.server.count(fault)
                self._answer(replace(answer, message=self.server.flipped(answer.message)))
            case Fault.TRUNCATED if answer.message.body:
                self.server.count(fault)
                self._answer(answer, cut=True)
                self.close_connection = True
            case _:
                self._answer(answer)

    def _answer(self, answer: _Answer, *, cut: bool = False) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in (*answer.message.headers, *answer.message.framing):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            wire = answer.message.wire
            self.wfile.write(wire[: len(wire) // 2] if cut else wire)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_WHEN_CLOSED)
        self.rfile.close()  # which would keep the socket open
        self.connection.close()

    def _wait_for_the_client_to_leave(self) -> None:
        self.close_connection = True
        while self.connection.recv(1 << 16):
            pass

    def _message(self) -> _Message:
        """The rest of the request. ConnectionError where the client does not send all of it."""
        headers = self.headers.items()
        framing = [(name, value) for name, value in headers if name.lower() in ("content-length", "transfer-encoding")]
        passed_on = [(name, value) for name, value in headers if name.lower() not in _OF_ONE_CONNECTION]
        match [(name.lower(), value.lower()) for name, value in framing]:
            case []:
                return _Message(passed_on, [])
            case [("content-length", length)] if length.isdecimal():
                return _Message(passed_on, framing, self._exactly(int(length)))
            case [("transfer-encoding", "chunked")]:
                return _Message(passed_on, _CHUNKED, b"".join(self._chunks()))
            case _:
                raise _Malformed(f"where does the body end? {framing}")

    def _chunks(self) -> Iterator[bytes]:
        while size := self._chunk_size():
            yield self._exactly(size)
            if self._exactly(2) != b"\r\n":
                raise _Malformed("a chunk is longer than it says")
        while (trailer := self._line()) != b"\r\n":
            if b":" not in trailer:
                raise _Malformed(f"no trailer: {trailer!r}")

    def _chunk_size(self) -> int:
        line = self._line()
        found = re.fullmatch(rb"([0-9A-Fa-f]+)(?:;[^\r\n]*)?\r\n", line)
        if found is None:
            raise _Malformed(f"no size of a chunk: {line!r}")
        return int(found[1], 16)

    def _line(self) -> bytes:
        line = self.rfile.readline(1 << 16)
        if not line.endswith(b"\n"):
            raise ConnectionAbortedError
        return line

    def _exactly(self, size: int) -> bytes:
        read = self.rfile.read(size)
        if len(read) < size:
            raise ConnectionAbortedError
        return read

    def log_message(self, *_: object) -> None:
        """Nothing: what there is to know stands in `Proxy`."""


def _answer_of(connection: HTTPConnection, method: str) -> _Answer:
    response = connection.getresponse()
    headers = [(name, value) for name, value in response.getheaders() if name.lower() not in _OF_ONE_CONNECTION]
    body = response.read()
    if response.chunked:
        framing = _CHUNKED
    elif method == "HEAD" or response.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        framing = [(name, value) for name, value in response.getheaders() if name.lower() == "content-length"]
    else:
        framing = _length(body)
    return _Answer(response.status, response.reason, _Message(headers, framing, body))


def _refusal(fault: Fault, path: str) -> _Answer:
    """As S3 words it."""
    status, code = _REFUSALS[fault]
    resource = escape(path.partition("?")[0])
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>a fault of the tests</Message>'
        f"<Resource>{resource}</Resource><RequestId>0000000000000000</RequestId></Error>"
    ).encode()
    headers = [("Content-Type", "application/xml"), ("x-amz-request-id", "0000000000000000")]
    return _Answer(status, status.phrase, _Message(headers, _length(body), body))


def _length(body: bytes) -> Headers:
    return [("Content-Length", str(len(body)))]
