"""Mending what is damaged."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from lastgood.cli.base import GOOD, WANTING, commands, complain, settings_with
from lastgood.errors import CannotMend
from lastgood.facts import report_as_json
from lastgood.findings import SOUND, Severity, Verdict

if TYPE_CHECKING:
    from lastgood.facts import Report
    from lastgood.mending import Mending
    from lastgood.remote import Store
    from lastgood.settings import Settings


@commands.command()
@click.argument("path", metavar="PATH")
@click.option("--run", help="Its run, where its place does not tell.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--no-backup", is_flag=True, help="Do not keep what was replaced as FILE.backup.")
@click.option("--json", "as_json", is_flag=True, help="What was done, and the report afterwards, as JSON.")
def fix(path: str, *, run: str | None, dry_run: bool, no_backup: bool, as_json: bool) -> int:
    """Fetch the damaged files of the checkpoint at PATH from a proven copy of the same save. No service is needed."""
    from lastgood.cloud import Remote
    from lastgood.pulling import opened
    from lastgood.verify import verify

    settings, path = settings_with(), os.path.abspath(path)
    report = verify(path, digest=settings.digest, threads=settings.verify_threads)
    if not _is_damaged(report):
        _say(as_json, {"path": path, "files": [], "report": report_as_json(report)}, f"{path}: nothing is damaged")
        return GOOD if report.verdict is Verdict.COMPLETE else WANTING
    with opened(Remote.needed_of(settings)) as store:
        from lastgood.mending import mend

        plan = _plan(store, path, run, report, settings)
        for file in plan.files if not as_json else ():
            click.echo(f"{file.path}: {file.bytes:,} bytes from {store.remote.url(plan.bundle.copy.key)}")
        told: dict[str, Any] = {"path": path, "files": [file.path for file in plan.files]}
        if dry_run:
            _say(as_json, {**told, "report": report_as_json(report)}, "nothing was changed")
            return GOOD
        after = mend(store, plan, backup=not no_backup, threads=settings.verify_threads)
    _say(as_json, {**told, "report": report_as_json(after)}, f"{path} is {after.verdict}")
    return GOOD if after.verdict in SOUND else WANTING


def _is_damaged(report: Report) -> bool:
    return any(finding.severity is Severity.ERROR for finding in report.findings)


def _plan(store: Store, path: str, run: str | None, report: Report, settings: Settings) -> Mending:
    from lastgood.mending import plan_mending
    from lastgood.placing import is_below, run_meant
    from lastgood.remote import find_copies, find_runs

    folder = os.path.dirname(path)
    sides = ((settings.root,) if settings.root else (), settings.roots)
    roots = next((roots for roots in sides if any(is_below(folder, root) for root in roots)), ())
    meant = run_meant(folder, run, roots, find_runs(store))
    if meant is None:
        raise CannotMend(f"{store.remote.url()} holds no copies of the run in {folder}")
    found = find_copies(store, meant[0])
    for why in found.broken.values():
        complain(f"warning: {why}")
    return plan_mending(path, report, found.copies, store, threads=settings.verify_threads)


def _say(as_json: bool, data: dict[str, Any], text: str) -> None:
    click.echo(json.dumps(data) if as_json else text)
