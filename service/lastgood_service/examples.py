"""What answers look like, for the OpenAPI document; a test holds them to the schemas."""

from __future__ import annotations

from typing import Any, Final

PROBLEM: Final[dict[str, Any]] = {
    "type": "urn:lastgood:problem:run-ambiguous",
    "title": "Several runs, and none was named",
    "status": 409,
    "detail": "there are several runs: bert, llama; say which with run=",
    "code": "run-ambiguous",
    "runs": ["bert", "llama"],
}
RESUME_POINT: Final[dict[str, Any]] = {
    "id": 17,
    "run": "llama",
    "name": "checkpoint-4000",
    "step": 4000,
    "epoch": 1.25,
    "path": "/data/output/llama/checkpoint-4000",
    "root": "/data/output",
    "relative_path": "llama/checkpoint-4000",
    "verdict": "complete",
    "exact_resume": True,
    "evidence": "marker",
    "fingerprint": "5d1ba5ea3f1d42a09c2f7a2f5a0c8d11",
    "world_size": 1,
    "saved_at": "2026-01-05T03:14:07+00:00",
    "verified_at": "2026-01-05T03:14:15+00:00",
    "bytes": 4831838208,
    "components": {"weights": "present", "optimizer": "present", "rng": "present"},
    "warnings": [],
    "skipped": [
        {
            "name": "checkpoint-4500",
            "step": 4500,
            "reason": "corrupt",
            "message": "it is corrupt (damaged: weights)",
        }
    ],
    "pending": [],
    "order_disputed": None,
    "cloud_copy": None,
}
