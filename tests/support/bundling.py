"""A checkpoint on the disk, judged here and now, as what is to be sent."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

from lastgood.cloud import Bundle, CloudCopy
from lastgood.cloud.addressing import content_digest
from lastgood.findings import SOUND
from lastgood.inventory import take_inventory
from lastgood.latest import saved_at
from lastgood.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

    from lastgood.cloud import Remote


def bundle_of(folder: Path, run: str, remote: Remote, *, digest: str = "crc64nvme") -> Bundle:
    report = verify(str(folder), digest=digest)
    assert report.verdict in SOUND, report
    assert report.manifest is not None
    inventory = take_inventory(str(folder))
    contents = content_digest(report.manifest.files)
    copy = CloudCopy(
        run=run,
        name=folder.name,
        step=report.step or 0,
        digest=contents,
        key=remote.copy_key(run, folder.name, contents),
        bytes=report.bytes,
        files=len(report.files),
        verdict=report.verdict,
        saved_at=saved_at(inventory),
        exact_resume=report.exact_resume,
        components=report.components,
        metrics=report.metrics,
        write_id=uuid.uuid4().hex,
        writer="tests",
    )
    file_list = folder / ".lastgood.json"
    times = {entry.path: entry.mtime_ns for entry in inventory.entries}
    return Bundle(
        os.fspath(folder), copy, report.manifest, times, file_list.read_text() if file_list.exists() else None
    )
