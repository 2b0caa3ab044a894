"""The judge's front door: a path in, a report out. Nothing in the checkpoint is changed or executed."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

from lastgood import deep, layouts, naming
from lastgood.checks import run_checks
from lastgood.discovery import copies_in, discover, holds_payload
from lastgood.errors import NotACheckpoint
from lastgood.facts import (
    Component,
    Facts,
    FileDigest,
    FileFacts,
    Inventory,
    Level,
    Manifest,
    Presence,
    Report,
)
from lastgood.findings import MEANINGS, Code, Finding, Severity, Verdict, conclude
from lastgood.formats import Unsteady, read_file
from lastgood.inventory import take_inventory
from lastgood.manifest import manifest_of, read_file_list
from lastgood.reading import known_digests, read_files
from lastgood.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_log = logging.getLogger("lastgood")
_NOT_THERE: Final = (Presence.MISSING, Presence.NOT_APPLICABLE)
_NEEDED_FOR_EXACT_RESUME: Final = (Component.WEIGHTS, Component.OPTIMIZER, Component.SCHEDULER, Component.RNG)
# The last one: shards of two saves may be mixed.
_EMPTY: Final = {
    Code.OPTIMIZER_EMPTY: Component.OPTIMIZER,
    Code.SCHEDULER_EMPTY: Component.SCHEDULER,
    Code.RNG_EMPTY: Component.RNG,
    Code.TRAINING_STATE_MISSING: Component.TRAINING_STATE,
}
_INEXACT: Final = frozenset(
    {
        Code.RNG_BASELINE,
        Code.STATE_LEFT_OUT,
        Code.SHARD_STRAY,
        Code.PROGRESS_UNTOLD,
        Code.PROGRESS_ESTIMATED,
        Code.SCHEDULER_STRANGE,
    }
)


class How(TypedDict, total=False):
    """What a reading is held against, and how it is done."""

    previous: Manifest | None  #: of the checkpoint before it
    manifest: Manifest | None  #: its own, of an earlier reading
    inodes: bool  #: whether they mean anything where it lies; true unless told otherwise
    digest: str  #: "crc64nvme", as it is unless told otherwise, or "sha256"
    threads: int
    on_bytes: Callable[[int], None]  #: hears of every block that was read


def verify(path: str, level: Level = Level.FULL, **how: Unpack[How]) -> Report:
    """What the checkpoint at `path` is worth. The verdict depends on its bytes and nothing else.

    NotACheckpoint where there is no folder with files in it; CannotTell where the disk does not answer.
    """
    return examine(path, level, **how)[1]


def examine(
    path: str,
    level: Level = Level.FULL,
    *,
    previous: Manifest | None = None,
    manifest: Manifest | None = None,
    inodes: bool = True,
    digest: str = naming.USUAL_DIGEST,
    threads: int = 2,
    on_bytes: Callable[[int], None] = lambda _count: None,
) -> tuple[Facts, Report]:
    """The report, as `verify` makes it, and the facts that it rests on."""
    started = time.monotonic()
    path = os.path.abspath(path)
    if level is Level.DEEP:
        deep.require_loaders(path)
    inventory, saved = take_inventory(path, inodes=inodes), read_file_list(path)
    if naming.step_in_name(os.path.basename(path)) is None:
        _require_checkpoint(path, inventory)
    unsteady: tuple[Finding, ...] = ()
    loaded: tuple[Finding, ...] = ()
    try:
        read = partial(read_file, path, level=level, on_bytes=on_bytes, digest=digest, threads=threads)
        found = {facts.path: facts for facts in read_files(read, inventory, known_digests(manifest, saved))}
        files = layouts.excuse_strangers(inventory.names, found, manifest, previous)
        if level is Level.DEEP:
            loaded = deep.load_findings(path, files.values())
    except Unsteady as changed:
        files, unsteady = {}, (Finding(Code.STILL_BEING_WRITTEN, str(changed), "it changed while it was read"),)
    if not unsteady and _has_changed(path, inventory, inodes=inodes):
        unsteady = (Finding(Code.STILL_BEING_WRITTEN, None, "files changed while they were read"),)
    facts, findings = _checked(path, inventory, files, previous=previous, manifest=manifest, saved=saved)
    findings = unsteady or deep.merged(findings, loaded)
    facts = replace(facts, components=_components_after(findings, facts))
    return facts, _report(path, facts, findings, level, time.monotonic() - started)


def _require_checkpoint(path: str, inventory: Inventory) -> None:
    """NotACheckpoint where a folder of any other name than a checkpoint's is none: it is empty, or holds them."""
    if not (inventory.entries or inventory.temporary or inventory.unreadable):
        raise NotACheckpoint(f"{path}: the folder is empty")
    if inside := _checkpoints_inside(path):
        held = counted(len(inside), "checkpoint")
        raise NotACheckpoint(f"{path} is not a checkpoint but holds {held}: name one, such as {path}/{inside[-1]}")


def _checkpoints_inside(path: str) -> list[str]:
    """The checkpoints that a run's folder holds, by their paths below it, the last one last; or nothing but copies."""
    found = sorted(discover(path).candidates, key=lambda candidate: candidate.number)
    saves = [candidate.relative_path for candidate in found if not candidate.copy]
    return saves or ([] if holds_payload(path) else copies_in(path))


def _has_changed(path: str, inventory: Inventory, *, inodes: bool) -> bool:
    try:
        return take_inventory(path, inodes=inodes).fingerprint != inventory.fingerprint
    except NotACheckpoint:
        return True


def _checked(
    path: str, inventory: Inventory, files: Mapping[str, FileFacts], **held_against: Any
) -> tuple[Facts, tuple[Finding, ...]]:
    """The facts, and what the checks find. What nobody foresaw in one checkpoint keeps nobody from the others."""
    try:
        facts = replace(_facts(path, inventory, files), **held_against)
        return facts, run_checks(facts)
    except Exception as error:  # noqa: BLE001 - as above
        _log.exception("%s cannot be judged: please report this", path)
        why = f"judging it failed: {type(error).__name__}: {error}"
        return _facts(path, inventory, {}, layouts.UNKNOWN), (Finding(Code.CHECKER_DIED, None, why),)


def _facts(
    path: str, inventory: Inventory, files: Mapping[str, FileFacts], layout: layouts.Layout | None = None
) -> Facts:
    names = inventory.names
    layout = layout or layouts.recognise(names)
    reading = layout.read(names, files)
    components = {
        component: _presence(presence, reading.homes.get(component, ()), files)
        for component, presence in reading.components.items()
    }
    if any(finding.code is Code.WEIGHTS_MISSING for finding in reading.findings):  # the file is there
        components[Component.WEIGHTS] = Presence.EMPTY
    return Facts(
        name=os.path.basename(path),
        layout=layout.name,
        inventory=inventory,
        files=files,
        lacking=(*layout.missing(names, files), *reading.findings),
        components=components,
        progress=reading.progress,
        step_by_name=naming.step_in_name(os.path.basename(path)),
        homes=reading.homes,
        weights=reading.weights,
        optimizer=reading.optimizer,
        rng=reading.rng,
        baseline=reading.baseline,
        left_out=reading.left_out,
        made_up=reading.made_up,
        trained=reading.trained,
    )


def _report(path: str, facts: Facts, findings: tuple[Finding, ...], level: Level, seconds: float) -> Report:
    verdict = conclude(findings)
    return Report(
        path=path,
        name=facts.name,
        layout=facts.layout,
        level=level,
        verdict=verdict,
        exact_resume=verdict is Verdict.COMPLETE and _resumes_exactly(facts.components, findings),
        step=facts.progress.step,
        epoch=facts.progress.epoch,
        world_size=facts.progress.world_size,
        components=facts.components,
        findings=findings,
        files=tuple(FileDigest(file.path, file.size, file.digest) for file in facts.files.values()),
        bytes=facts.inventory.bytes,
        seconds=seconds,
        fingerprint=facts.inventory.fingerprint,
        metrics=facts.progress.metrics,
        best=facts.progress.best,
        manifest=None if level is Level.QUICK else manifest_of(facts),
    )


def _presence(presence: Presence, homes: tuple[str, ...], files: Mapping[str, FileFacts]) -> Presence:
    """A component whose file is empty or damaged is so itself, unless the file can tell that it never held it."""
    problems = [problem for home in homes if home in files for problem in files[home].problems if _is_error(problem)]
    if any(problem.code is Code.FILE_EMPTY for problem in problems):
        return Presence.EMPTY
    if presence in _NOT_THERE and all(_tells_what_it_holds(files[home]) for home in homes if home in files):
        return presence
    return Presence.DAMAGED if problems else presence


def _tells_what_it_holds(file: FileFacts) -> bool:
    return file.contents is not None and not file.doubtful


def _components_after(findings: Iterable[Finding], facts: Facts) -> dict[Component, Presence]:
    """What is there, but for what lies in a file that the checks found damaged, or to hold nothing."""
    found = list(findings)
    damaged = {finding.file for finding in found if MEANINGS[finding.code].verdict is Verdict.CORRUPT}
    empty = {_EMPTY[finding.code] for finding in found if finding.code in _EMPTY}
    if facts.rng and not any(facts.rng.values()):
        empty.add(Component.RNG)
    components = dict(facts.components)
    for component in (component for component, presence in components.items() if presence is Presence.PRESENT):
        if damaged.intersection(facts.homes.get(component, ())):
            components[component] = Presence.DAMAGED
        elif component in empty:
            components[component] = Presence.EMPTY
    return components


def _resumes_exactly(components: Mapping[Component, Presence], findings: Iterable[Finding]) -> bool:
    """Everything for a bit-for-bit continuation is there. A layout that never saves random states cannot promise it."""
    if components.get(Component.RNG) is not Presence.PRESENT or any(map(_is_inexact, findings)):
        return False
    return all(
        components.get(component) in (Presence.PRESENT, Presence.NOT_APPLICABLE)
        for component in _NEEDED_FOR_EXACT_RESUME
    )


def _is_inexact(finding: Finding) -> bool:
    """Also where optimizer or scheduler are of another step than the state; a folder may be called as it likes."""
    return finding.code in _INEXACT or (finding.code is Code.STEP_DISAGREES and finding.file is not None)


def _is_error(finding: Finding) -> bool:
    return finding.severity is Severity.ERROR
