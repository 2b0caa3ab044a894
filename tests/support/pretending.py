"""A server that pretends to be the service: it answers as it is told, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from lastgood.client import Service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READY: Final = {"ready": True, "obstacles": [], "runs": []}


class Pretender:
    """Answers as it is told, by path; remembers what it was asked, and what it was sent."""

    def __init__(self, answers: dict[str, tuple[int, Any]]) -> None:
        self.answers, self.asked = answers, []  # type: tuple[dict[str, tuple[int, Any]], list[str]]
        self.sent: list[tuple[str, str, Any]] = []  #: method, path and body of what was to change something
        pretender = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                pretender.asked.append(self.path)
                self.answer()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                pretender.sent.append((self.command, self.path, json.loads(body) if body else None))
                self.answer()

            do_PUT = do_DELETE = do_POST  # noqa: N815 - the names that the server looks for

            def answer(self) -> None:
                status, content = pretender.answers.get(self.path.partition("?")[0], (404, {"detail": "Not Found"}))
                body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.service = Service(f"http://127.0.0.1:{self.server.server_address[1]}")


@contextmanager
def answering(latest: tuple[int, Any], folder: Path, **status: Any) -> Iterator[Pretender]:
    """A service that watches `folder`, in which one run lies."""
    runs = [{"name": ".", "path": str(folder)}]
    told = READY | {"watch": {"roots": [str(folder)]}, "runs": runs} | status
    with listening({"/status": (200, told), "/checkpoints/latest": latest}) as made:
        yield made


@contextmanager
def listening(answers: dict[str, tuple[int, Any]]) -> Iterator[Pretender]:
    made = Pretender(answers)
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join()
