"""What a person reads: plain text, with marks and words that say the same, so that colour is never needed."""

from __future__ import annotations

import shlex
from datetime import datetime
from itertools import groupby
from typing import IO, TYPE_CHECKING, Any, Final

import click

from lastgood import naming
from lastgood.facts import Level, Presence
from lastgood.findings import SOUND, Finding, Severity, Verdict
from lastgood.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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
    Verdict.CORRUPT: "bytes are wrong, or files contradict each other",
    Verdict.UNHEALTHY: "bytes are right, numbers are not",
    Verdict.UNREADABLE: "it could not be looked at",
}
_BY_HEADERS: Final = {
    Verdict.COMPLETE: "everything there, as far as headers tell",
    Verdict.PARTIAL: "some training state is missing; the rest is there, as far as headers tell",
}
_COLOURS: Final = {Verdict.COMPLETE: "green", Verdict.PARTIAL: "yellow"}
_GROUPS: Final = (
    (Severity.ERROR, "errors", "✗", "red"),
    (Severity.WARNING, "warnings", "!", "yellow"),
    (Severity.INFO, "remarks", "·", "blue"),
)
_ACTION_COLOURS: Final = {"REMOVE": "red", "trash": "yellow"}
_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")


def report(found: Report, *, verbose: bool, colour: bool = False) -> str:
    """One report: verdict, components with marks, findings with what to do, and how much was read."""
    text = "\n".join(_report_lines(found, verbose=verbose))
    return text if colour else click.unstyle(text)


def takes_colour(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """A terminal does, unless the person asked for none (no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def meaning_of(found: Report) -> str:
    """The verdict in words. Of a layout that nobody knows it cannot be said that its save never finished."""
    if found.verdict is Verdict.INCOMPLETE and found.layout == naming.UNKNOWN_LAYOUT:
        return "nothing that lastgood knows how to go on from"
    return _MEANING[found.verdict]


def warnings(found: Report) -> list[str]:
    """What a job may trip over although the verdict stands, a line each."""
    return [f"  ! {warning.file or 'the checkpoint'}: {warning.message}" for warning in found.warnings]


def coloured(verdict: Verdict) -> str:
    return click.style(verdict.upper(), fg=_COLOURS.get(verdict, "red"), bold=True)


def summary(verdicts: Sequence[Verdict], failed: int) -> str:
    """Several reports in one line: `3 checkpoints: 2 complete, 1 corrupt`. `failed`: paths without a report."""
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in Verdict if verdict in verdicts]
    if failed:
        counts.append(f"{failed} could not be judged")
    return f"{counted(len(verdicts) + failed, 'checkpoint')}: {', '.join(counts)}"


def status(found: Mapping[str, Any]) -> str:
    """The service's status: one block a run."""
    return "\n".join(_status_lines(found))


def retention(found: Mapping[str, Any], *, colour: bool = False) -> str:
    """The plan of each run: what becomes of each checkpoint, every reason, and what to type next."""
    text = "\n\n".join("\n".join(_plan_lines(plan)) for plan in found["items"]) or "nothing has been saved yet"
    return text if colour else click.unstyle(text)


def event(found: Mapping[str, Any]) -> str:
    at = local_time(found["at"])
    mark = "!" if found["severity"] != Severity.INFO else " "
    return f"{found['id']:>6}  {at} {mark} {found['kind']:<18} {found['run'] or ''}  {found['message']}"


def size(count: float) -> str:
    """Bytes in decimal units, three digits or so: 1.49 GB."""
    if round(count) < 1000:
        return f"{count:.0f} B"
    # Rounded first: 999,999 bytes are 1 MB.
    digits, power = f"{count:.2e}".split("e")
    unit = min(int(power) // 3, len(_UNITS) - 1)
    return f"{float(digits) * 10 ** (int(power) - 3 * unit):.10g} {_UNITS[unit]}"


def _report_lines(found: Report, *, verbose: bool) -> Iterator[str]:
    yield click.style(found.path, bold=True)
    exact = "; a resumed run can continue bit for bit" if found.exact_resume else ""
    by_headers = found.level is Level.QUICK and found.verdict in SOUND
    meaning = _BY_HEADERS[found.verdict] if by_headers else meaning_of(found)
    yield f"  {coloured(found.verdict)}: {meaning}{exact}"
    place = f"step {found.step}" if found.step is not None else "step not known"
    epoch = f", epoch {found.epoch:g}" if found.epoch is not None else ""
    yield f"  {place}{epoch}; layout {found.layout}"
    yield ""
    for component, presence in found.components.items():
        yield f"  {_mark(presence)} {component.value:<15} {presence.value}"
    for severity, title, mark, colour in _GROUPS:
        group = [finding for finding in found.findings if finding.severity is severity]
        if group and (verbose or severity is not Severity.INFO):
            yield from _group_lines(title, click.style(mark, fg=colour), group)
    yield ""
    if verbose:
        yield from _file_lines(found)
    yield f"  {_totals(found)}"
    if (hidden := sum(f.severity is Severity.INFO for f in found.findings)) and not verbose:
        yield f"  {counted(hidden, 'remark')}: -v shows {'it' if hidden == 1 else 'them'}"


def _mark(presence: Presence) -> str:
    colour = {"✓": "green", "✗": "red"}.get(_MARKS[presence])
    return click.style(_MARKS[presence], fg=colour)


def _group_lines(title: str, mark: str, findings: Iterable[Finding]) -> Iterator[str]:
    """The findings of one severity; advice that several share in a row is given once, after the last of them."""
    yield ""
    yield f"  {title}"
    for advice, group in groupby(findings, key=lambda finding: finding.advice):
        for finding in group:
            where = f"{finding.file}: " if finding.file else ""
            yield f"  {mark} {where}{finding.message} [{finding.code.value}]"
        yield f"      → {advice}"


def _file_lines(found: Report) -> Iterator[str]:
    yield "  files"
    for file in found.files:
        yield f"  {file.bytes:>15,}  {file.digest or '(not digested)':<26}  {file.path}"
    yield ""


def _totals(found: Report) -> str:
    files = counted(len(found.files), "file")
    if found.level is Level.QUICK:
        return f"{files}, {size(found.bytes)}; headers alone were read, in {found.seconds:.2f} s (quick)"
    rate = f", {size(found.bytes / found.seconds)}/s" if found.seconds > 0 else ""
    return f"{files}, {size(found.bytes)} read in {found.seconds:.2f} s{rate} ({found.level})"


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
    if cloud := found.get("cloud"):
        yield from _cloud_lines(cloud)


def _cloud_lines(cloud: Mapping[str, Any]) -> Iterator[str]:
    yield f"copies go to {cloud['url']}" + (f"; NOT NOW: {cloud['trouble']}" if cloud["trouble"] else "")
    if (errand := cloud["errand"]) and errand["name"]:
        done, total = errand["bytes_done"], errand["bytes_total"]
        yield f"  {errand['kind']} {errand['run']} {errand['name']}: {size(done)} of {size(total)}"


def _run_lines(run: Mapping[str, Any]) -> Iterator[str]:
    answer = run.get("resume_point")
    if answer:
        yield f"run {run['name']}: {answer['name']} (step {answer['step']}, {answer['verdict']}, {answer['evidence']})"
        yield f"  {answer['path']}"
    else:
        yield f"run {run['name']}: no resume point: {run['refusal']['detail']}"
    if space := run.get("space"):
        full = f"; full at about {space['full_at'][:16].replace('T', ' ')} UTC" if space["full_at"] else ""
        room = f"{size(space['bytes_per_save'])} a save, {size(space['free_bytes'])} free"
        yield f"  room for {space['room_for']} more saves ({room}){full}"


def _plan_lines(plan: Mapping[str, Any]) -> Iterator[str]:
    yield click.style(f"run {plan['run']}: {plan['policy']}", bold=True)
    yield from _coloured_rows([*map(_decision_row, plan["decisions"]), *(_trash_row(t, plan) for t in plan["trash"])])
    doomed = _doomed(plan)
    if doomed:
        most = f"{len(doomed)} of {counted(len(plan['decisions']), 'checkpoint')}"
        yield f"  would remove {most}: {size(plan['bytes_freed'])} freed; plan {plan['plan']}"
    else:
        yield "  nothing would be removed"
    yield from _next_lines(plan, plan["run"])
    if (copies := plan["copies"]) and copies["decisions"]:
        yield click.style(f"  copies in the cloud: {copies['policy']}", bold=True)
        yield from _coloured_rows([_copy_row(decision) for decision in copies["decisions"]])
        if doomed := _doomed(copies):
            most = f"{len(doomed)} of {counted(len(copies['decisions']), 'copy', 'copies')}"
            yield f"  would remove {most}; plan {copies['plan']}"
        yield from _next_lines(copies, plan["run"])


def _doomed(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [decision for decision in plan["decisions"] if decision["action"] == "remove"]


def _coloured_rows(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for line in aligned(rows):
        yield "  " + click.style(line, fg=_ACTION_COLOURS.get(line.split(maxsplit=1)[0]))


def _decision_row(decision: Mapping[str, Any]) -> tuple[str, ...]:
    judged = decision["verdict"] or "not judged"
    return (
        _action(decision),
        decision["name"],
        judged,
        f"step {decision['step']}",
        size(decision["bytes"]),
        _reasons(decision),
    )


def _copy_row(decision: Mapping[str, Any]) -> tuple[str, ...]:
    return (_action(decision), decision["name"], f"step {decision['step']}", _reasons(decision))


def _action(decision: Mapping[str, Any]) -> str:
    return "REMOVE" if decision["action"] == "remove" else "keep"


def _reasons(decision: Mapping[str, Any]) -> str:
    return "; ".join(reason["message"] for reason in decision["reasons"])


def _trash_row(found: Mapping[str, Any], plan: Mapping[str, Any]) -> tuple[str, ...]:
    back = f"lastgood undo {shlex.quote(found['name'])} --run {shlex.quote(plan['run'])}"
    until = f"until {local_time(found['until'])}: " if found["until"] else ""
    return ("trash", found["name"], "", f"step {found['step']}", size(found["bytes"]), until + back)


def _next_lines(plan: Mapping[str, Any], run: str) -> Iterator[str]:
    wait = plan["waits_for"]
    if not _doomed(plan):
        return
    if not wait:
        yield "  the worker does it by itself"
        return
    yield f"  waits: {wait['message']}"
    if wait["code"] != "frozen":
        yield f"  to do it now: lastgood retention --run {shlex.quote(run)} --apply --confirm {plan['plan']}"


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A line for each, its columns below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def local_time(moment: str) -> str:
    """As the clock on the wall says it, and which zone that is."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
