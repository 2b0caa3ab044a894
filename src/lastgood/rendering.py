"""What a person reads: plain text, with marks and words that say the same, so that colour is never needed."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from lastgood.facts import Presence
from lastgood.findings import Finding, Severity, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lastgood.facts import Report

_MARKS: Final = {
    Presence.PRESENT: "✓",
    Presence.MISSING: "✗",
    Presence.EMPTY: "✗",
    Presence.DAMAGED: "✗",
    Presence.NOT_APPLICABLE: "-",
}
_MEANING: Final = {
    Verdict.COMPLETE: "every byte sound, everything there",
    Verdict.PARTIAL: "sound, but some training state is missing",
    Verdict.INCOMPLETE: "the save never finished",
    Verdict.CORRUPT: "bytes are wrong",
    Verdict.UNHEALTHY: "bytes are right, numbers are not",
    Verdict.UNREADABLE: "it could not be looked at",
}
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")


def report(found: Report, *, verbose: bool) -> str:
    """One report: verdict, components with marks, findings with what to do."""
    return "\n".join(_report_lines(found, verbose=verbose))


def status(found: Mapping[str, Any]) -> str:
    """The service's status: one block a run."""
    return "\n".join(_status_lines(found))


def event(found: Mapping[str, Any]) -> str:
    at = datetime.fromisoformat(found["at"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    mark = "!" if found["severity"] != Severity.INFO else " "
    return f"{found['id']:>6}  {at} {mark} {found['kind']:<18} {found['run'] or ''}  {found['message']}"


def size(count: float) -> str:
    """Bytes in decimal units, three digits or so: 1.49 GB."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError


def _report_lines(found: Report, *, verbose: bool) -> Iterator[str]:
    yield f"{found.path}"
    yield f"  {found.verdict.upper()}: {_MEANING[found.verdict]}"
    place = f"step {found.step}" if found.step is not None else "step not known"
    epoch = f", epoch {found.epoch:g}" if found.epoch is not None else ""
    speed = f"{size(found.bytes)} in {found.seconds:.2f} s ({found.level})"
    yield f"  {place}{epoch}; layout {found.layout}; {speed}"
    for component, presence in found.components.items():
        yield f"  {_MARKS[presence]} {component.value:<15} {presence.value}"
    for finding in found.findings:
        if verbose or finding.severity is not Severity.INFO:
            yield from _finding_lines(finding)
    if verbose:
        for file in found.files:
            yield f"    {file.bytes:>15,}  {file.digest or '':<26}  {file.path}"
    if found.verdict is Verdict.COMPLETE and found.exact_resume:
        yield "  A resumed run can continue bit for bit."


def _finding_lines(finding: Finding) -> Iterator[str]:
    where = f"{finding.file}: " if finding.file else ""
    yield f"  {finding.severity.value}: {where}{finding.message} [{finding.code.value}]"
    yield f"      {finding.advice}"


def _status_lines(found: Mapping[str, Any]) -> Iterator[str]:
    watch = found["watch"] or {}
    how = f"watching by {watch.get('mode', '?')}"
    if watch.get("degraded"):
        how += f" (degraded: {watch.get('reason')})"
    yield f"{'ready' if found['ready'] else 'NOT READY'}; {how}"
    for obstacle in found["obstacles"]:
        yield f"  {obstacle['message']}: {obstacle['advice']}"
    for run in found["runs"]:
        yield from _run_lines(run)
    if progress := found.get("progress"):
        done, total = progress["bytes_done"], progress["bytes_total"]
        yield f"  reading {progress['run']} {progress['name']}: {size(done)} of {size(total)}"


def _run_lines(run: Mapping[str, Any]) -> Iterator[str]:
    answer = run.get("resume_point")
    if answer:
        yield f"run {run['name']}: {answer['name']} (step {answer['step']}, {answer['verdict']}, {answer['evidence']})"
        yield f"  {answer['path']}"
    else:
        yield f"run {run['name']}: no resume point: {run['refusal']['detail']}"
