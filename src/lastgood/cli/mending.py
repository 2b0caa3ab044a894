"""Mending what is damaged, or lacks something."""

from __future__ import annotations

import errno
import json
import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from lastgood import ownership
from lastgood.cli.base import GOOD, NOT_DONE, PLACE, WANTING, commands, complain, settings_with
from lastgood.errors import CannotMend, CannotTell, LastgoodError, NotACheckpoint
from lastgood.findings import MEANINGS, SOUND, Severity, Verdict
from lastgood.report_json import report_as_json
from lastgood.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastgood.cloud import Bundle
    from lastgood.facts import Facts, Report
    from lastgood.mending import Plan
    from lastgood.remote import Store
    from lastgood.settings import Settings


@commands.command()
@click.argument("path", type=PLACE, metavar="PATH", required=False)
@click.option("--all", "folder", type=PLACE, metavar="RUN", help="Every checkpoint in this folder.")
@click.option("--run", help="Its run in the cloud, where its place does not tell.")
@click.option("--local", is_flag=True, help="Do not look for a copy in the cloud.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--no-backup", is_flag=True, help="Do not keep what was replaced as FILE.backup.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each: what was done, and the report.")
def fix(
    path: str | None,
    *,
    folder: str | None,
    run: str | None,
    local: bool,
    dry_run: bool,
    no_backup: bool,
    as_json: bool,
) -> int:
    """Mend the checkpoint at PATH, and say what a resume from it will be like. No service is needed.

    What is damaged is fetched from a proven copy of the same save, where there is one. Missing random states, a missing
    training state, wrappers' names, a shard index, configuration and tokenizer are mended from what is there. What
    cannot be mended honestly is refused, and left as it is.
    """
    if (path is None) == (folder is None):
        raise click.UsageError("name one PATH, or a run's folder with --all")
    bench = _Bench(settings_with(), run, local=local, dry_run=dry_run, backup=not no_backup, as_json=as_json)
    place = os.path.abspath(path or folder or ".")
    try:
        if path is None:
            return bench.mend_all(place)
        return bench.mend(os.path.realpath(place) if os.path.islink(place) else place)
    except LastgoodError as error:
        bench.tell_refused(place, error)
        if isinstance(error, NotACheckpoint) and path and _is_run(path):
            raise NotACheckpoint(f"{error}; or mend all of them: lastgood fix --all {shlex.quote(path)}") from None
        raise


class _Bench:
    """How the person wants it done."""

    def __init__(
        self, settings: Settings, run: str | None, *, local: bool, dry_run: bool, backup: bool, as_json: bool
    ) -> None:
        self._settings, self._run = settings, run
        self._from_cloud = bool(settings.remote) and not local
        self._dry_run, self._backup, self._as_json = dry_run, backup, as_json

    def mend_all(self, folder: str) -> int:
        paths = list(_checkpoints_in(folder))
        worst, told = GOOD, []
        for number, path in enumerate(paths, 1):
            if not self._as_json:
                click.echo(f"[{number}/{len(paths)}] {os.path.basename(path)}")
            try:
                code = self.mend(path)
            except LastgoodError as error:
                code = WANTING if isinstance(error, CannotMend) else NOT_DONE
                self.tell_refused(path, error)
                if code == NOT_DONE:
                    complain(str(error))
                elif not self._as_json:
                    click.echo(f"  refused: {error}")
            told.append(code)
            worst = max(worst, code)
        if not self._as_json:
            good = told.count(GOOD)
            become = "good, or would be mended" if self._dry_run else "good"
            click.echo(f"{counted(len(paths), 'checkpoint')}: {good} {become}, {len(paths) - good} not")
        return worst

    def tell_refused(self, path: str, error: LastgoodError) -> None:
        """As JSON, where that is asked for: one object for each checkpoint, whatever becomes of it."""
        why = {"refused": [str(error)]} if isinstance(error, CannotMend) else {"error": str(error)}
        if self._as_json:
            click.echo(json.dumps({"path": path, "files": [], "repairs": [], **why}))

    def mend(self, path: str) -> int:
        from lastgood.mending import require_as_planned

        self._take_back(path)
        facts, report = self._examined(path)
        _require_readable(report)
        if report.still_changing:
            raise CannotMend(f"{path}: somebody is writing to it")
        plan, found = self._planned(facts, report)
        for reason in plan.refused if not self._as_json else ():
            click.echo(f"  not done: {reason}")
        if not plan.repairs:
            complete = report.verdict is Verdict.COMPLETE
            text = (
                "nothing is damaged"
                if complete
                else f"it was mended before, and is {report.verdict}: no more can be done"
            )
            self._say(_told(report, plan), f"{path}: {text}")
            return GOOD
        self._tell_repairs(plan)
        if self._dry_run:
            require_as_planned(plan)
            self._say(_told(report, plan), f"  it would be {plan.promised} then; nothing was changed")
            return GOOD
        facts, report = self._carried_out(plan, found)
        self._tell_done(facts, report, plan)
        return GOOD if report.verdict in SOUND else WANTING

    def _take_back(self, path: str) -> None:
        from lastgood.mending import require_not_cut_short, take_back

        (require_not_cut_short if self._dry_run else take_back)(path)

    def _examined(self, path: str) -> tuple[Facts, Report]:
        from lastgood.progress import progress_bar
        from lastgood.verify import examine

        with progress_bar(path, sys.stderr) as hears:
            return examine(path, digest=self._settings.digest, threads=self._settings.verify_threads, on_bytes=hears)

    def _planned(self, facts: Facts, report: Report) -> tuple[Plan, Bundle | None]:
        """From a copy, where that is to be had: it gives back the very bytes. Otherwise from what is here."""
        from lastgood.mending import neighbours_of, plan_repairs
        from lastgood.mending.making import require_makeable

        no_copy = ""
        if _is_damaged(report):
            if self._from_cloud:
                try:
                    return self._planned_from_copy(facts, report)
                except CannotMend as error:
                    no_copy = f"; {error}"
            else:
                no_copy = f"; no copy was looked for: {self._why_no_copy()}"
        try:
            plan = plan_repairs(facts, report, neighbours_of(facts, report))
            require_makeable(plan)
            return plan, None  # noqa: TRY300 - what is raised here is to be told with why no copy helps
        except CannotMend as error:
            raise CannotMend(f"{error}{no_copy}") from None

    def _why_no_copy(self) -> str:
        return "--local" if self._settings.remote else "the setting `remote` is not set"

    def _planned_from_copy(self, facts: Facts, report: Report) -> tuple[Plan, Bundle]:
        from lastgood.cloud import Remote
        from lastgood.pulling import opened

        with opened(Remote.needed_of(self._settings)) as store:
            return _plan_fetching(store, facts, report, self._run, self._settings)

    def _carried_out(self, plan: Plan, found: Bundle | None) -> tuple[Facts, Report]:
        from lastgood.progress import progress_bar

        how: dict[str, Any] = {"backup": self._backup, "threads": self._settings.verify_threads}
        with progress_bar(plan.path, sys.stderr) as hears:
            if found is None:
                from lastgood.mending import carry_out
                from lastgood.mending.making import maker

                return carry_out(plan, maker(plan, hears), digest=self._settings.digest, hears=hears, **how)
            from lastgood.cloud import Remote
            from lastgood.mending.copies import carry_out_fetching
            from lastgood.pulling import opened

            with opened(Remote.needed_of(self._settings)) as store:
                return carry_out_fetching(store, plan, found, hears=hears, **how)

    def _tell_repairs(self, plan: Plan) -> None:
        for repair in plan.repairs if not self._as_json else ():
            click.echo(f"  {repair.file}: {'; '.join(repair.does)}")

    def _tell_done(self, facts: Facts, report: Report, plan: Plan) -> None:
        from lastgood.inspection import outlook

        sentences = outlook(facts, report)
        for sentence in sentences if not self._as_json else ():
            click.echo(f"  · {sentence}")
        for warning in report.warnings if not self._as_json else ():
            click.echo(f"  ! {warning.file or 'the checkpoint'}: {warning.message}")
        told = {**_told(report, plan), "outlook": list(sentences)}
        self._say(told, f"{report.path} is {report.verdict}")

    def _say(self, data: dict[str, Any], text: str) -> None:
        click.echo(json.dumps(data) if self._as_json else text)


def _told(report: Report, plan: Plan) -> dict[str, Any]:
    from lastgood.mending.words import plan_as_json

    return {**plan_as_json(plan), "report": report_as_json(report)}


def _is_damaged(report: Report) -> bool:
    return any(finding.severity is Severity.ERROR for finding in report.findings)


def _require_readable(report: Report) -> None:
    """CannotTell, with the user to run as, where something in it lets nobody like us in."""
    closed = next((f for f in report.findings if MEANINGS[f.code].verdict is Verdict.UNREADABLE), None)
    if closed is not None:
        place = os.path.normpath(os.path.join(report.path, closed.file or "."))
        why = ownership.why_closed("the file", place, write=False) or f"{closed.message}: {closed.advice}"
        raise CannotTell("reading", place, OSError(errno.EACCES, why))


def _is_run(folder: str) -> bool:
    try:
        return any(_checkpoints_in(folder))
    except NotACheckpoint:
        return False


def _checkpoints_in(folder: str) -> Iterator[str]:
    """Those of this run, by number; links and copies are another's business."""
    from lastgood.discovery import discover

    if not os.path.isdir(folder):
        raise NotACheckpoint(f"{folder}: no such folder")
    found = discover(folder).saves
    if not found:
        raise NotACheckpoint(f"{folder} holds no checkpoints; name the folder that they lie in")
    return (os.path.join(folder, c.relative_path) for c in sorted(found, key=lambda found: found.number))


def _plan_fetching(
    store: Store, facts: Facts, report: Report, run: str | None, settings: Settings
) -> tuple[Plan, Bundle]:
    from lastgood.mending.copies import plan_fetching
    from lastgood.placing import is_below, run_meant
    from lastgood.remote import find_copies, find_runs

    folder = os.path.dirname(report.path)
    sides = ((settings.root,) if settings.root else (), settings.roots)
    roots = next((roots for roots in sides if any(is_below(folder, root) for root in roots)), ())
    meant = run_meant(folder, run, roots, find_runs(store))
    if meant is None:
        raise CannotMend(f"{store.remote.url()} holds no copies of the run in {folder}")
    found = find_copies(store, meant[0])
    for why in found.broken.values():
        complain(f"warning: {why}")
    fingerprint = facts.inventory.fingerprint
    return plan_fetching(report, fingerprint, found.copies, store, threads=settings.verify_threads)
