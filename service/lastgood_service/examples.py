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
CLOUD_COPY: Final[dict[str, Any]] = {
    "url": "s3://checkpoints/lab/llama/checkpoint-4000-9f2c41d07ab3",
    "state": "proven",
    "run": "llama",
    "name": "checkpoint-4000",
    "step": 4000,
    "verdict": "complete",
    "exact_resume": True,
    "bytes": 4831838208,
    "proof": "full-object-crc64nvme",
    "saved_at": "2026-01-05T03:14:07+00:00",
    "committed_at": "2026-01-05T03:15:02+00:00",
    "error": None,
}
COPIES: Final[dict[str, Any]] = {
    "items": [{**CLOUD_COPY, "checkpoint_id": 17, "checked_at": "2026-01-12T03:20:44+00:00"}],
    "next_cursor": None,
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
    "cloud_copy": CLOUD_COPY,
}
LEASED: Final[dict[str, Any]] = {
    "lease": {
        "id": 3,
        "checkpoint_id": 17,
        "holder": "trainer-0 (process 4242)",
        "until": "2026-01-05T04:20:00+00:00",
        "pin": False,
    },
    "resume_point": RESUME_POINT,
}
RETENTION: Final[dict[str, Any]] = {
    "items": [
        {
            "run": "llama",
            "policy": "keep_last 2, accept complete",
            "plan": "3f1c0a9be2d4",
            "waits_for": {
                "code": "observing",
                "message": "new here: nothing is removed before 2026-01-06T03:00:00+00:00",
                "until": "2026-01-06T03:00:00+00:00",
            },
            "bytes_freed": 4831838208,
            "decisions": [
                {
                    "id": 15,
                    "name": "checkpoint-3000",
                    "step": 3000,
                    "branch": 1,
                    "verdict": "complete",
                    "bytes": 4831838208,
                    "saved_at": "2026-01-05T02:14:07+00:00",
                    "metrics": {"eval_loss": 2.31},
                    "action": "remove",
                    "reasons": [{"why": "unwanted", "message": "no rule keeps it"}],
                },
                {
                    "id": 17,
                    "name": "checkpoint-4000",
                    "step": 4000,
                    "branch": 1,
                    "verdict": "complete",
                    "bytes": 4831838208,
                    "saved_at": "2026-01-05T03:14:07+00:00",
                    "metrics": {"eval_loss": 2.24},
                    "action": "keep",
                    "reasons": [
                        {"why": "resume-point", "message": "a job would start from it now"},
                        {"why": "keep-last", "message": "one of the last 2"},
                    ],
                },
            ],
            "trash": [
                {
                    "id": 14,
                    "name": "checkpoint-2500",
                    "step": 2500,
                    "bytes": 4831838208,
                    "until": "2026-01-06T01:44:09+00:00",
                }
            ],
            "copies": {
                "policy": "no rule: nothing is removed",
                "plan": "0d4f8c6b1a57",
                "waits_for": None,
                "decisions": [
                    {
                        "name": "checkpoint-4000",
                        "step": 4000,
                        "url": "s3://checkpoints/lab/llama/checkpoint-4000-9f2c41d07ab3",
                        "action": "keep",
                        "reasons": [{"why": "resume-point", "message": "a job would start from it now"}],
                    }
                ],
            },
        }
    ]
}
