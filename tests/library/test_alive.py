"""`--check`, as the health checks of containers call it: an exit code, and one line where something is wrong."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from lastgood import alive
from lastgood.catalog import WorkerCatalog, WorkerStatus, worker_in
from lastgood.cli import main
from lastgood.errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def status(heartbeat_at: datetime) -> WorkerStatus:
    return WorkerStatus(7, NOW, heartbeat_at, first_scan_done=True, watch={}, progress={})


@pytest.mark.parametrize(
    ("ago", "trouble"),
    [
        pytest.param(timedelta(seconds=15), None, id="as long ago as may be"),
        pytest.param(
            timedelta(seconds=16), "the worker on /state (process 7) has said nothing since 2026-", id="silent"
        ),
    ],
)
def test_a_worker_is_at_work_while_its_heart_beats(ago: timedelta, trouble: str | None) -> None:
    found = alive.trouble_of_worker(status(NOW - ago), "/state", NOW)
    assert found is None if trouble is None else (found or "").startswith(trouble)


def test_where_no_worker_ever_ran_looking_makes_no_catalog(tmp_path: Path) -> None:
    assert worker_in(str(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []
    assert alive.trouble_of_worker(None, "/state", NOW) == "no worker has ever run on /state"


def test_the_heartbeat_is_read_from_the_catalog_while_others_hold_it_and_after(tmp_path: Path) -> None:
    catalog = WorkerCatalog(str(tmp_path))
    assert worker_in(str(tmp_path)) is None
    catalog.heartbeat(status(NOW))
    version = catalog.version()
    assert worker_in(str(tmp_path)) == status(NOW)
    assert catalog.version() == version
    catalog.close()
    assert worker_in(str(tmp_path)) == status(NOW)


def test_a_catalog_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"no database, " * 100)
    with pytest.raises(CatalogError, match=r"catalog\.db cannot be read: file is not a database"):
        worker_in(str(tmp_path))


@contextmanager
def answering(code: int) -> Iterator[int]:
    """A server that answers everything so. Its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_service_that_listens_everywhere_is_asked_on_loopback() -> None:
    with answering(200) as port:
        assert alive.trouble_of_service("0.0.0.0", port) is None


def test_another_answer_than_ours_is_no_sign_of_life() -> None:
    with answering(502) as port:
        assert alive.trouble_of_service("127.0.0.1", port) == (
            f"what answers at 127.0.0.1:{port} is not well, or not lastgood (status 502)"
        )
    assert alive.trouble_of_service("127.0.0.1", port) == (
        f"no service answers at 127.0.0.1:{port}: [Errno 111] Connection refused"
    )


@pytest.mark.parametrize(
    ("command", "said"),
    [("worker", "lastgood: no worker has ever run on "), ("service", "lastgood: no service answers at 127.0.0.1:1: ")],
)
def test_the_command_says_what_is_wrong_in_one_line_and_ends_with_1(
    command: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LASTGOOD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("LASTGOOD_PORT", "1")
    monkeypatch.setattr("sys.argv", ["lastgood", command, "--check"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    printed = capsys.readouterr().err
    assert printed.startswith(said)
    assert printed.count("\n") == 1


def test_the_command_ends_with_0_where_all_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = WorkerCatalog(str(tmp_path / "state"))
    catalog.heartbeat(status(datetime.now(UTC)))
    catalog.close()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LASTGOOD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr("sys.argv", ["lastgood", "worker", "--check"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
