"""Stores that speak S3, on 127.0.0.1 and on ports that are free: SeaweedFS, which does all that we ask of a store, and
moto and rclone, which do less.

Each has a folder to itself, and is ended by its process id. Each has keys of its own, so that whoever got hold of the
port that was meant for it is not taken for it.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import logging
import os
import re
import shutil
import socket
import sys
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from running import Program, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pytest
    from mypy_boto3_s3 import S3Client

REGION: Final = "us-east-1"
_HOST: Final = "127.0.0.1"
_READY_SECONDS: Final = 30.0
_TRIES: Final = 5
_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL")  # no server outlives a test process that was killed
_SEAWEEDFS_PARTS: Final = ("master", "volume", "filer", "s3", "admin")
_SEAWEEDFS_OPTIONS: Final = (
    "-dir=.",
    f"-ip={_HOST}",
    f"-ip.bind={_HOST}",
    "-master.telemetry=false",
    "-volume.max=20000",  # by its own count the disk would be full after some seventy buckets
    "-filer.localSocket=filer.sock",
    "-s3.localSocket=s3.sock",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-s3.autoCreateBucket=false",  # as everywhere else, a bucket that is not there is an error
    "-webdav=false",
    "-admin.ui=false",
)


@dataclass(frozen=True)
class S3Server:
    """Where a store answers, and to whom."""

    endpoint: str
    access_key: str = field(default_factory=lambda: f"key{uuid.uuid4().hex[:16]}")
    secret_key: str = field(default_factory=lambda: uuid.uuid4().hex, repr=False)
    ca_file: str | None = None

    def client(self, **config: Any) -> S3Client:
        """A client for the tests' own looks: it tries once, and neither sends nor checks what it was not told to."""
        asked = {
            "retries": {"mode": "standard", "total_max_attempts": 1},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "proxies": {},
            **config,
            "s3": {"addressing_style": "path", **config.get("s3", {})},
        }
        return _session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            verify=self.ca_file,
            config=Config(**asked),
        )

    def new_bucket(self) -> str:
        """The name of a bucket that nobody else uses."""
        name = f"bucket-{uuid.uuid4().hex[:16]}"
        self.client().create_bucket(Bucket=name)
        return name

    @property
    def environment(self) -> dict[str, str]:
        """What boto3 has to find to be let in, and to find nobody's settings."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def answers(self) -> bool:
        try:
            self.client(connect_timeout=5, read_timeout=5).list_buckets()
        except (BotoCoreError, ClientError):
            return False
        return True


def use(monkeypatch: pytest.MonkeyPatch, server: S3Server) -> None:
    """For as long as the test lasts, boto3 finds in the environment what `server` asks for, and nothing else."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


@contextmanager
def seaweedfs(folder: Path, *, tls: bool = False) -> Iterator[S3Server]:
    """`weed mini`, ready. With `tls`, behind a certificate that only its own authority vouches for."""
    ca_file = make_certificates(folder) if tls else None
    with ExitStack() as stack:
        for number in range(_TRIES):
            # Between our finding a port free and its taking it, somebody else may.
            server = stack.enter_context(_seaweedfs_once(folder / f"try-{number}", ca_file))
            if server is not None:
                yield server
                return
        logs = [log.read_text(errors="replace") for log in sorted(folder.glob("try-*/log"))]
        raise AssertionError("\n".join(("SeaweedFS did not start:", *logs)))


@contextmanager
def moto(folder: Path) -> Iterator[S3Server]:
    """moto, in a thread of this process. Whatever it holds, it holds in memory; `folder` stays empty."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line a request is no part of what a test has logged
    running = ThreadedMotoServer(_HOST, 0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        server = S3Server(f"http://{host}:{port}")
        wait_for("moto", server.answers, _READY_SECONDS)
        yield server
    finally:
        running.stop()


@contextmanager
def rclone(folder: Path) -> Iterator[S3Server]:
    """`rclone serve s3`, ready; a bucket is a folder under `folder`/served."""
    (folder / "served").mkdir(parents=True)
    keys = S3Server("")
    key_pair = f"{keys.access_key},{keys.secret_key}"
    options = ("--addr", f"{_HOST}:0", "--config", os.devnull, "--auth-key", key_pair)
    with _running("rclone", ("serve", "s3", *options, "served"), folder) as program:
        wait_for("rclone", lambda: _rclone_endpoint(program), _READY_SECONDS, lambda: _ended(program))
        server = S3Server(_rclone_endpoint(program), keys.access_key, keys.secret_key)
        wait_for("rclone", server.answers, _READY_SECONDS, lambda: _ended(program))
        yield server


def _rclone_endpoint(program: Program) -> str:
    found = re.search(r"server on \[(http://[\d.]+:\d+)/\]", program.said())
    return found[1] if found else ""


@contextmanager
def _seaweedfs_once(folder: Path, ca_file: str | None) -> Iterator[S3Server | None]:
    """None where it ended by itself."""
    folder.mkdir(parents=True)
    ports = _free_ports(f"{part}.{kind}" for part in _SEAWEEDFS_PARTS for kind in ("port", "port.grpc"))
    listen = [f"-{option}={port}" for option, port in ports.items()]
    secure = ("-s3.cert.file=../server.pem", "-s3.key.file=../server.key") if ca_file else ()
    server = S3Server(f"{'https' if ca_file else 'http'}://{_HOST}:{ports['s3.port']}", ca_file=ca_file)
    # A bucket takes one volume, not seven.
    environment = {**server.environment, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
    with _running("weed", ("mini", *_SEAWEEDFS_OPTIONS, *listen, *secure), folder, environment) as program:
        try:
            wait_for("SeaweedFS", lambda: program.ended or server.answers(), _READY_SECONDS)
            yield None if program.ended else server
        finally:
            program.kill()
            _clear_away(folder, ports)


def _clear_away(folder: Path, ports: Mapping[str, int]) -> None:
    """What a server that was killed leaves: all but its log."""
    for part in _SEAWEEDFS_PARTS:
        # No option leads these elsewhere.
        Path(f"/tmp/seaweedfs-{part}-grpc-{ports[f'{part}.port.grpc']}.sock").unlink(missing_ok=True)
    for left in folder.iterdir():
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        elif left.name != "log":
            left.unlink()


@contextmanager
def _running(
    name: str, arguments: tuple[str, ...], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """One of the programs that lie beside this Python."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "GOMEMLIMIT": "1GiB",
        **(environment or {}),
    }
    command = (*_WITH_US, str(Path(sys.executable).with_name(name)), *arguments)
    program = Program(name, command, environ, folder / "log")
    try:
        program.start()
        yield program
    finally:
        program.kill()


def _ended(program: Program) -> str | None:
    return f"it ended; its log:\n{program.said()}" if program.ended else None


def _free_ports(names: Iterable[str]) -> dict[str, int]:
    """A port for each, all different."""
    with ExitStack() as stack:
        probes = {name: stack.enter_context(socket.socket()) for name in names}
        for probe in probes.values():
            probe.bind((_HOST, 0))
        return {name: int(probe.getsockname()[1]) for name, probe in probes.items()}


@cache
def _session() -> boto3.session.Session:
    """One of our own: that of boto3 remembers the first keys it saw in the environment."""
    return boto3.session.Session()


def make_certificates(folder: Path) -> str:
    """The path of a new authority's certificate; beside it server.pem and server.key, which it vouches for."""
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("authority of the tests", authority_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(_HOST))])
    server = _certificate("localhost", server_key).add_extension(names, critical=False)
    issuer = _name("authority of the tests")
    for file, builder in (("ca.pem", authority), ("server.pem", server)):
        signed = builder.issuer_name(issuer).sign(authority_key, hashes.SHA256())
        (folder / file).write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(_pem_of(server_key))
    return str(folder / "ca.pem")


def _certificate(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    """For a day, and not signed yet."""
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
