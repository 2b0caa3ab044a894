"""Mending what is damaged, or lacks something."""

from __future__ import annotations

import json
import os
import shlex
import sys
from typing import TYPE_CHECKING

import click

from lastgood.cli.base import GOOD, NOT_DONE, PLACE, WANTING, commands, complain, say, settings_with
from lastgood.errors import CannotMend, LastgoodError, NotACheckpoint
from lastgood.findings import SOUND, Verdict
from lastgood.rendering import warnings
from lastgood.report_json import report_as_json
from lastgood.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastgood.mending import Plan
    from lastgood.mending.workbench import Bench, Mended


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
    place = os.path.abspath(path or folder or ".")
    try:
        mending = _Mending(_bench(run, local=local, dry_run=dry_run, backup=not no_backup), as_json=as_json)
        if path is None:
            return mending.mend_all(place)
        return mending.mend(os.path.realpath(place) if os.path.islink(place) else place)
    except LastgoodError as error:
        _tell_refused(place, error, as_json=as_json)
        if isinstance(error, NotACheckpoint) and path and _is_run(path):
            raise NotACheckpoint(f"{error}; or mend all of them: lastgood fix --all {shlex.quote(path)}") from None
        raise


def _bench(run: str | None, **how: bool) -> Bench:
    from lastgood.mending.workbench import Bench
    from lastgood.progress import progress_bar

    return Bench(settings_with(), run, shows=lambda path: progress_bar(path, sys.stderr), **how)


class _Mending:
    """Each checkpoint mended, and told: in lines, or as one JSON object."""

    def __init__(self, bench: Bench, *, as_json: bool) -> None:
        self._bench, self._as_json = bench, as_json

    def mend_all(self, folder: str) -> int:
        paths = list(_checkpoints_in(folder))
        worst, told = GOOD, []
        for number, path in enumerate(paths, 1):
            self._tell(f"[{number}/{len(paths)}] {os.path.basename(path)}")
            try:
                code = self.mend(path)
            except LastgoodError as error:
                code = WANTING if isinstance(error, CannotMend) else NOT_DONE
                _tell_refused(path, error, as_json=self._as_json)
                if code == NOT_DONE:
                    complain(str(error))
                else:
                    self._tell(f"  refused: {error}")
            told.append(code)
            worst = max(worst, code)
        good = told.count(GOOD)
        become = "good, or would be mended" if self._bench.dry_run else "good"
        self._tell(f"{counted(len(paths), 'checkpoint')}: {good} {become}, {len(paths) - good} not")
        return worst

    def mend(self, path: str) -> int:
        from lastgood.mending.words import plan_as_json
        from lastgood.mending.workbench import mend

        mended = mend(path, self._bench, self._tell_plan)
        plan, report = mended.plan, mended.report
        for sentence in mended.outlook:
            self._tell(f"  · {sentence}")
        for warning in warnings(report) if mended.done or not plan.repairs else ():
            self._tell(warning)
        self._tell(_in_words(mended))
        if self._as_json:
            told = {**plan_as_json(plan), "report": report_as_json(report)}
            click.echo(json.dumps({**told, "outlook": list(mended.outlook)} if mended.done else told))
        return WANTING if mended.done and report.verdict not in SOUND else GOOD

    def _tell_plan(self, plan: Plan) -> None:
        for reason in plan.refused:
            self._tell(f"  not done: {reason}")
        for repair in plan.repairs:
            self._tell(f"  {repair.file}: {'; '.join(repair.does)}")

    def _tell(self, line: str) -> None:
        if not self._as_json:
            say(line)


def _tell_refused(path: str, error: LastgoodError, *, as_json: bool) -> None:
    """As JSON, where that is asked for: one object for each checkpoint, whatever becomes of it."""
    why = {"refused": [str(error)]} if isinstance(error, CannotMend) else {"error": str(error)}
    if as_json:
        click.echo(json.dumps({"path": path, "files": [], "repairs": [], **why}))


def _in_words(mended: Mended) -> str:
    path, verdict = mended.report.path, mended.report.verdict
    if mended.done:
        return f"{path} is {verdict}"
    if mended.plan.repairs:
        return f"  it would be {mended.plan.promised} then; nothing was changed"
    if verdict is Verdict.COMPLETE:
        return f"{path}: nothing is damaged"
    return f"{path}: it was mended before, and is {verdict}: no more can be done"


def _is_run(folder: str) -> bool:
    try:
        return any(_checkpoints_in(folder))
    except LastgoodError:
        return False


def _checkpoints_in(folder: str) -> Iterator[str]:
    """Those of this run, by number; links and copies are another's business."""
    from lastgood.discovery import copies_in, discover, require_folder, require_listed

    require_folder(folder)
    found = discover(folder)
    if not found.saves:
        require_listed(folder, found)
        if copies := copies_in(folder):
            raise NotACheckpoint(f"{folder} holds nothing but copies: name one, such as {folder}/{copies[-1]}")
        raise NotACheckpoint(f"{folder} holds no checkpoints; name the folder that they lie in")
    return (os.path.join(folder, c.relative_path) for c in sorted(found.saves, key=lambda save: save.number))
