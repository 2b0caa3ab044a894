"""Damaged and missing files, from a proven copy of the very same save."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from lastgood import naming
from lastgood.errors import CannotMend, NotACopy
from lastgood.findings import Severity
from lastgood.manifest import algorithm_of
from lastgood.mending.carrying import carry_out
from lastgood.mending.words import FromCopy, Plan, Repair
from lastgood.remote import read_bundle
from lastgood.remote.fetching import fetch_file
from lastgood.remote.pacing import patiently
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lastgood.cloud import Bundle, CloudCopy
    from lastgood.facts import Facts, FileDigest, Report
    from lastgood.remote import Store


def plan_fetching(
    report: Report, fingerprint: str, copies: Iterable[CloudCopy], store: Store, *, threads: int = 2
) -> tuple[Plan, Bundle]:
    """What would make it what was copied, and the copy. CannotMend, with every reason, where none is of this save.

    `report`: what verification says of it now. `copies`: the proven ones of its run.
    """
    reasons: list[str] = []
    name = os.path.basename(report.path)
    for copy in (copy for copy in copies if copy.name == name and copy.proof is not None):
        try:
            bundle = patiently(partial(read_bundle, store, copy), store.remote.patience)
        except NotACopy as error:
            reasons.append(str(error))
            continue
        report = _by_its_digests(report, bundle, threads)
        wanted, why = differing(report, bundle.manifest.files)
        if wanted:
            return Plan(report.path, fingerprint, _repairs(wanted, bundle, store), copy.verdict), bundle
        reasons.append(f"{store.remote.url(copy.key)}: {why or 'it lacks the same'}")
    raise CannotMend("; ".join(reasons) or f"no proven copy of {name} is known")


def differing(report: Report, copied: Sequence[FileDigest]) -> tuple[tuple[FileDigest, ...], str | None]:
    """The files to fetch, and why not: where a file that is sound is another one, the copy is of another save."""
    here = {file.path: file for file in report.files}
    damaged = {finding.file for finding in report.findings if finding.severity is Severity.ERROR}
    wanted = tuple(file for file in copied if file.path not in here or here[file.path].digest != file.digest)
    sound = [file.path for file in wanted if file.path in here and file.path not in damaged]
    if sound:
        return (), f"it is of another save: {sound[0]} is sound here, and not the same"
    if len(wanted) == len(copied):
        return (), "no file is as it is there: nothing tells that it is of the same save"
    strays = sorted(path for path in set(here) - {file.path for file in copied} if not naming.is_backup(path))
    if strays:
        return (), f"it is of another save: it has no {strays[0]}"
    return wanted, None


def carry_out_fetching(
    store: Store, plan: Plan, bundle: Bundle, *, backup: bool = True, threads: int = 2, **how: Any
) -> tuple[Facts, Report]:
    """As `carry_out`. RemoteError, NotACopy and CannotTell as `remote.fetch` raises them; then nothing was touched."""

    def make(repair: Repair, path: str) -> None:
        assert isinstance(repair.work, FromCopy)
        fetch_file(store, bundle.copy, repair.work.digest, path)

    def accepts(report: Report) -> str | None:
        return None if differing(report, bundle.manifest.files) == ((), None) else "would not be what was copied"

    digest = algorithm_of(bundle.manifest) or naming.USUAL_DIGEST
    return carry_out(plan, make, backup=backup, digest=digest, threads=threads, accepts=accepts, **how)


def _repairs(wanted: Iterable[FileDigest], bundle: Bundle, store: Store) -> tuple[Repair, ...]:
    url = store.remote.url(bundle.copy.key)
    return tuple(
        Repair(
            file.path,
            FromCopy(file, bundle.mtimes_ns.get(file.path)),
            (f"fetch {file.bytes:,} bytes from {url}",),
        )
        for file in wanted
    )


def _by_its_digests(report: Report, bundle: Bundle, threads: int) -> Report:
    """The same report with digests that can be compared."""
    algorithm = algorithm_of(bundle.manifest) or naming.USUAL_DIGEST
    if any((file.digest or "").startswith(f"{algorithm}:") for file in report.files):
        return report
    return verify(report.path, digest=algorithm, threads=threads)
