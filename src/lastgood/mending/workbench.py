"""Mending from the first look to the last: with a proven copy where there is one, otherwise with what is here."""

from __future__ import annotations

import errno
import logging
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lastgood import ownership
from lastgood.cloud import Remote
from lastgood.errors import CannotMend, CannotTell
from lastgood.findings import MEANINGS, Severity, Verdict
from lastgood.inspection import outlook
from lastgood.mending.carrying import carry_out, require_as_planned, require_not_cut_short, take_back
from lastgood.mending.making import maker, require_makeable
from lastgood.mending.neighbours import neighbours_of
from lastgood.mending.planning import plan_repairs
from lastgood.placing import is_below, run_meant
from lastgood.pulling import opened
from lastgood.verify import examine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lastgood.cloud import Bundle
    from lastgood.facts import Facts, Report
    from lastgood.mending.words import Plan
    from lastgood.remote import Store
    from lastgood.settings import Settings

    Hears = Callable[[int], None]

_log = logging.getLogger("lastgood")


def _unheard(_path: str) -> AbstractContextManager[Hears]:
    return nullcontext(lambda _count: None)


@dataclass(frozen=True, slots=True)
class Bench:
    """How somebody wants it done. `shows`: by a checkpoint's path, whom every block is told that is read or written."""

    settings: Settings
    run: str | None = None  #: in the cloud, where its place does not tell
    local: bool = False  #: no copy is looked for
    dry_run: bool = False  #: nothing is changed
    backup: bool = True  #: what is replaced stays as FILE.backup
    shows: Callable[[str], AbstractContextManager[Hears]] = _unheard


@dataclass(frozen=True, slots=True)
class Mended:
    """What became of it. `report` and `outlook`: as it is now."""

    plan: Plan
    report: Report
    done: bool  #: the plan was carried out
    outlook: Sequence[str] = ()  #: what a resume will be like, once it was


def mend(path: str, bench: Bench, on_plan: Callable[[Plan], object] = lambda _plan: None) -> Mended:
    """Mends the checkpoint at `path`. A plan without repairs: nothing is to be done.

    `on_plan` hears of the plan before it is carried out. CannotMend, with every reason, where it cannot be mended
    honestly; CannotTell, RemoteError or NotACopy where disk or store fail: then it is, byte for byte, what it was.
    """
    (require_not_cut_short if bench.dry_run else take_back)(path)
    with bench.shows(path) as hears:
        settings = bench.settings
        facts, report = examine(path, digest=settings.digest, threads=settings.verify_threads, on_bytes=hears)
    _require_readable(report)
    if report.still_changing:
        raise CannotMend(f"{path}: somebody is writing to it")
    plan, copy = _planned(facts, report, bench)
    on_plan(plan)
    if not plan.repairs:
        return Mended(plan, report, done=False)
    if bench.dry_run:
        require_as_planned(plan)
        return Mended(plan, report, done=False)
    facts, report = _carried_out(plan, copy, bench)
    return Mended(plan, report, done=True, outlook=outlook(facts, report))


def _planned(facts: Facts, report: Report, bench: Bench) -> tuple[Plan, Bundle | None]:
    """From a copy, where that is to be had: it gives back the very bytes. Otherwise from what is here."""
    no_copy = ""
    if any(finding.severity is Severity.ERROR for finding in report.findings):
        if bench.settings.remote and not bench.local:
            try:
                return _planned_from_copy(facts, report, bench)
            except CannotMend as error:
                no_copy = f"; {error}"
        else:
            why = "--local" if bench.settings.remote else "the setting `remote` is not set"
            no_copy = f"; no copy was looked for: {why}"
    try:
        plan = plan_repairs(facts, report, neighbours_of(facts, report))
        require_makeable(plan)
        return plan, None  # noqa: TRY300 - what is raised here is to be told with why no copy helps
    except CannotMend as error:
        raise CannotMend(f"{error}{no_copy}") from None


def _planned_from_copy(facts: Facts, report: Report, bench: Bench) -> tuple[Plan, Bundle]:
    settings, folder = bench.settings, os.path.dirname(report.path)
    with opened(Remote.needed_of(settings)) as store:
        from lastgood.mending.copies import plan_fetching  # noqa: PLC0415 - what speaks to a store may not be there
        from lastgood.remote import find_copies, find_runs  # noqa: PLC0415

        sides = ((settings.root,) if settings.root else (), settings.roots)
        roots = next((roots for roots in sides if any(is_below(folder, root) for root in roots)), ())
        meant = run_meant(folder, bench.run, roots, find_runs(store))
        if meant is None:
            raise CannotMend(f"{store.remote.url()} holds no copies of the run in {folder}")
        found = find_copies(store, meant[0])
        for why in found.broken.values():
            _log.warning("%s", why)
        fingerprint = facts.inventory.fingerprint
        return plan_fetching(report, fingerprint, found.copies, store, threads=settings.verify_threads)


def _carried_out(plan: Plan, copy: Bundle | None, bench: Bench) -> tuple[Facts, Report]:
    settings = bench.settings
    how: dict[str, Any] = {"backup": bench.backup, "threads": settings.verify_threads}
    with bench.shows(plan.path) as hears:
        if copy is None:
            return carry_out(plan, maker(plan, hears), digest=settings.digest, hears=hears, **how)
        with opened(Remote.needed_of(settings)) as store:
            return _fetched(store, plan, copy, hears=hears, **how)


def _fetched(store: Store, plan: Plan, copy: Bundle, **how: Any) -> tuple[Facts, Report]:
    from lastgood.mending.copies import carry_out_fetching  # noqa: PLC0415 - as above

    return carry_out_fetching(store, plan, copy, **how)


def _require_readable(report: Report) -> None:
    """CannotTell, with the user to run as, where something in it lets nobody like us in."""
    closed = next((f for f in report.findings if MEANINGS[f.code].verdict is Verdict.UNREADABLE), None)
    if closed is not None:
        place = os.path.normpath(os.path.join(report.path, closed.file or "."))
        why = ownership.why_closed("the file", place, write=False) or f"{closed.message}: {closed.advice}"
        raise CannotTell("reading", place, OSError(errno.EACCES, why))
