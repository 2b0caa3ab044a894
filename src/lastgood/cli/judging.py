"""Judging here and now."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from lastgood import rendering
from lastgood.cli.base import (
    GOOD,
    NOT_DONE,
    PLACE,
    WANTING,
    answer,
    commands,
    complain,
    errors_as_json,
    say,
    settings_with,
)
from lastgood.errors import LastgoodError
from lastgood.facts import Level
from lastgood.findings import Severity, Verdict
from lastgood.report_json import report_as_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastgood.facts import Report


@commands.command()
@click.argument("paths", nargs=-1, required=True, type=PLACE, metavar="PATH...")
@click.option("-v", "--verbose", is_flag=True, help="Every file with its digest, and every remark.")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option(
    "--level",
    type=click.Choice(["quick", "full", "deep"]),
    default="full",
    help="Headers alone; every byte (default); or the real loaders as well, in a process of their own.",
)
@click.option("--accept", type=click.Choice(["complete", "partial"]), default="complete", help="What counts as good.")
@click.option("--manifest", metavar="FILE", help="Hold its bytes against this manifest.")
@click.option("--previous", metavar="FILE", help="Hold it against the manifest of the checkpoint before it.")
@click.option("--digest", type=click.Choice(["crc64nvme", "sha256"]), help="The digest of each file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line and path.")
def verify(paths: tuple[str, ...], *, verbose: bool, strict: bool, accept: str, as_json: bool, **how: Any) -> int:
    """Judge the checkpoints at PATH..., here and now. No service is needed."""
    with errors_as_json(*({"path": path} for path in paths), as_json=as_json):
        options = _reading(paths, **how)
    verdicts: list[Verdict] = []
    worst = GOOD
    for path in paths:
        try:
            with errors_as_json({"path": path}, as_json=as_json):
                report = _judged(path, options)
        except LastgoodError as error:
            complain(str(error))
            worst = NOT_DONE
            continue
        verdicts.append(report.verdict)
        shown = rendering.report(report, verbose=verbose, colour=True)
        answer(report_as_json(report), shown + "\n" * (len(paths) > 1), as_json=as_json)
        worst = max(worst, _exit_code(report, accept=accept, strict=strict))
    if len(paths) > 1 and not as_json:
        say(rendering.summary(verdicts, len(paths) - len(verdicts)))
    return worst


@commands.command()
@click.argument("path", type=PLACE, metavar="PATH")
@click.option("--level", type=click.Choice(["quick", "full"]), default="quick", help="Headers alone, or every byte.")
@click.option("--accept", type=click.Choice(["complete", "partial"]), default="complete", help="What counts as good.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def inspect(path: str, *, level: str, accept: str, as_json: bool) -> int:
    """Say where in training the checkpoint at PATH was saved, and what a resume from it will be like."""
    from lastgood import inspection
    from lastgood.progress import progress_bar
    from lastgood.rendering_inspection import inspection as rendered
    from lastgood.verify import examine

    with errors_as_json({"path": path}, as_json=as_json), progress_bar(path, sys.stderr) as on_bytes:
        facts, report = examine(path, Level(level), on_bytes=on_bytes)
    found = inspection.inspect(facts, report)
    answer(inspection.inspection_as_json(found), rendered(found), as_json=as_json)
    return _exit_code(report, accept=accept, strict=False)


def _reading(
    paths: tuple[str, ...], *, level: str, manifest: str | None, previous: str | None, digest: str | None
) -> dict[str, Any]:
    """What `lastgood.verify.verify` is to be called with."""
    from lastgood.manifest import algorithm_of, read_manifest

    if len(paths) > 1 and (manifest or previous):
        raise click.UsageError("--manifest and --previous apply to a single checkpoint: name one PATH")
    own = read_manifest(manifest) if manifest else None
    options = {
        "level": Level(level),
        "manifest": own,
        "previous": read_manifest(previous) if previous else None,
    }
    if options["level"] is Level.QUICK:
        return options  # it reads no byte that settings could be about, and they take a while to load
    settings = settings_with()
    # Only digests by the same algorithm can be compared.
    chosen = digest or algorithm_of(own) or settings.digest
    return {**options, "digest": chosen, "threads": settings.verify_threads}


def _judged(path: str, options: Mapping[str, Any]) -> Report:
    """The report, with a bar on a terminal for as long as it takes."""
    from lastgood.progress import progress_bar
    from lastgood.verify import verify as judge

    with progress_bar(path, sys.stderr) as on_bytes:
        return judge(path, **options, on_bytes=on_bytes)


def _exit_code(report: Report, *, accept: str, strict: bool) -> int:
    good = report.verdict in (Verdict.COMPLETE, Verdict(accept))
    if strict and any(finding.severity is Severity.WARNING for finding in report.findings):
        good = False
    if report.verdict is Verdict.UNREADABLE:
        return NOT_DONE
    return GOOD if good else WANTING
