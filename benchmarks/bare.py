"""The least that FastAPI can do: one route that returns the same bytes each time. For `latest.py` to compare with.

python benchmarks/bare.py PORT BODY_FILE HEADERS_FILE PATH
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.responses import Response


def main(port: str, body_file: str, headers_file: str, path: str) -> None:
    body, headers = Path(body_file).read_bytes(), json.loads(Path(headers_file).read_text())
    app = FastAPI(docs_url=None, redoc_url=None)

    @app.get(path)
    async def latest() -> Response:
        return Response(body, headers=headers)

    uvicorn.run(
        app, port=int(port), access_log=False, log_config=None, log_level="warning", lifespan="off",
        proxy_headers=False, server_header=False,
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
