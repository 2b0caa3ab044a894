"""Reports as JSON: what `verify --json` prints, and the catalog keeps."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lastgood.facts import Component, FileDigest, Level, Presence, Report
from lastgood.findings import Code, Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping


def finding_as_json(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity.value,
        "code": finding.code.value,
        "file": finding.file,
        "message": finding.message,
        "hint": finding.advice,
    }


def components_as_json(components: Mapping[Component, Presence]) -> dict[str, str]:
    return {component.value: presence.value for component, presence in components.items()}


def components_from_json(data: Mapping[str, str]) -> dict[Component, Presence]:
    """ValueError where it names what is none."""
    return {Component(component): Presence(presence) for component, presence in data.items()}


def report_as_json(report: Report) -> dict[str, Any]:
    """The object that `verify --json` prints and the catalog keeps."""
    return {
        "path": report.path,
        "name": report.name,
        "layout": report.layout,
        "level": report.level.value,
        "verdict": report.verdict.value,
        "exact_resume": report.exact_resume,
        "step": report.step,
        "epoch": report.epoch,
        "world_size": report.world_size,
        "components": components_as_json(report.components),
        "findings": [finding_as_json(f) for f in report.findings],
        "files": [asdict(f) for f in report.files],
        "bytes": report.bytes,
        "seconds": round(report.seconds, 4),
        "fingerprint": report.fingerprint,
        "metrics": dict(report.metrics),
        "best": report.best,
    }


def report_from_json(data: Mapping[str, Any]) -> Report:
    """The report that `report_as_json` wrote. KeyError or ValueError where it is not one."""
    return Report(
        path=data["path"],
        name=data["name"],
        layout=data["layout"],
        level=Level(data["level"]),
        verdict=Verdict(data["verdict"]),
        exact_resume=data["exact_resume"],
        step=data["step"],
        epoch=data["epoch"],
        world_size=data["world_size"],
        components=components_from_json(data["components"]),
        findings=tuple(Finding(Code(f["code"]), f["file"], f["message"], f["hint"]) for f in data["findings"]),
        files=tuple(FileDigest(**f) for f in data["files"]),
        bytes=data["bytes"],
        seconds=data["seconds"],
        fingerprint=data["fingerprint"],
        metrics=data.get("metrics", {}),
        best=data.get("best"),
    )
