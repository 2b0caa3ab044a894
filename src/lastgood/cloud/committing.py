"""`COMMIT` and `manifest.json` of a copy, as JSON and back. docs/format.md describes both."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from lastgood.cloud.addressing import content_digest
from lastgood.cloud.words import Bundle, CloudCopy, Proof
from lastgood.errors import NotACopy, NotAManifest
from lastgood.findings import Verdict
from lastgood.manifest import manifest_as_json, manifest_from_json
from lastgood.report_json import components_as_json, components_from_json

if TYPE_CHECKING:
    from lastgood.facts import Manifest

VERSION: Final = 1


def copy_as_json(copy: CloudCopy) -> dict[str, Any]:
    """What COMMIT holds: all but the key, which is where it lies."""
    return {
        "lastgood_copy": VERSION,
        "run": copy.run,
        "name": copy.name,
        "step": copy.step,
        "digest": copy.digest,
        "bytes": copy.bytes,
        "files": copy.files,
        "verdict": copy.verdict.value,
        "exact_resume": copy.exact_resume,
        "epoch": copy.epoch,
        "world_size": copy.world_size,
        "components": components_as_json(copy.components),
        "metrics": dict(copy.metrics),
        "best": copy.best,
        "warnings": list(copy.warnings),
        "saved_at": copy.saved_at.isoformat(),
        "proof": copy.proof.value if copy.proof else None,
        "committed_at": copy.committed_at.isoformat() if copy.committed_at else None,
        "write_id": copy.write_id,
        "writer": copy.writer,
    }


def copy_from_json(data: Any, key: str) -> CloudCopy:
    """The copy at `key` whose COMMIT says this. NotACopy where it says nothing that can be believed."""
    try:
        version = data["lastgood_copy"]
        if version != VERSION:
            raise NotACopy(f"its version is {version!r}; this lastgood reads version {VERSION}")
        return CloudCopy(
            run=str(data["run"]),
            name=str(data["name"]),
            step=int(data["step"]),
            digest=str(data["digest"]),
            key=key,
            bytes=int(data["bytes"]),
            files=int(data["files"]),
            verdict=Verdict(data["verdict"]),
            exact_resume=bool(data["exact_resume"]),
            epoch=data["epoch"],
            world_size=data["world_size"],
            components=components_from_json(data["components"]),
            metrics={str(name): float(value) for name, value in data["metrics"].items()},
            best=data["best"],
            warnings=tuple({"message": "", **warning} for warning in data["warnings"]),
            saved_at=_time(data["saved_at"]),
            proof=Proof(data["proof"]) if data["proof"] else None,
            committed_at=_time(data["committed_at"]) if data["committed_at"] else None,
            write_id=str(data["write_id"]),
            writer=str(data["writer"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotACopy(f"its COMMIT is not as it should be: {error!r}") from None


def copy_in(text: bytes, key: str) -> CloudCopy:
    """The same from what lies in the store."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotACopy(f"its COMMIT is no JSON: {error}") from None
    return copy_from_json(data, key)


def bundle_as_text(bundle: Bundle) -> bytes:
    """What `manifest.json` holds: our manifest, and what else a restored checkpoint needs."""
    more = {"mtimes_ns": dict(bundle.mtimes_ns), "file_list": bundle.file_list}
    return json.dumps({**manifest_as_json(bundle.manifest), **more}, ensure_ascii=True).encode()


def bundle_in(text: bytes, copy: CloudCopy) -> Bundle:
    """What lies in the store as a copy's manifest.json; its folder is "". NotACopy where that is of other bytes."""
    try:
        data = json.loads(text)
        manifest = manifest_from_json(data)
        times = {str(path): int(time) for path, time in data.get("mtimes_ns", {}).items()}
        text_of_list = data.get("file_list")
    except (ValueError, TypeError, AttributeError, RecursionError, NotAManifest) as error:
        raise NotACopy(f"its manifest cannot be read: {error}") from None
    if not _speaks_of(manifest, copy):
        raise NotACopy("its manifest is not the one that its COMMIT speaks of")
    return Bundle("", copy, manifest, times, str(text_of_list) if text_of_list is not None else None)


def committed(copy: CloudCopy, *, proof: Proof, now: datetime) -> CloudCopy:
    return replace(copy, proof=proof, committed_at=now)


def _speaks_of(manifest: Manifest, copy: CloudCopy) -> bool:
    try:
        return content_digest(manifest.files) == copy.digest
    except ValueError:
        return False


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
