"""The resume point by our own look, where nobody watched: verified newest first, until one can be handed out."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lastgood import branches, naming, resume, writers
from lastgood.discovery import Candidate, discover, require_listed, saved_otherwise
from lastgood.errors import CannotTell, NotACheckpoint
from lastgood.facts import Inventory, Level
from lastgood.findings import Verdict
from lastgood.inventory import take_inventory
from lastgood.latest import inodes_are_stable, saved_at
from lastgood.life import State
from lastgood.records import Evidence, Record
from lastgood.report_json import finding_as_json
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lastgood.facts import Report


def own_look(
    run_folder: str,
    wishes: resume.Wishes,
    level: Level = Level.FULL,
    *,
    refused: Mapping[str, resume.Reason] | None = None,
) -> dict[str, Any]:
    """The answer as JSON. `refused`: by name, what the watcher is known to have refused, and what did not change since.

    It saw them land, which we did not: files of two saves, mixed, look whole.
    """
    found = discover(run_folder)
    if not found.saves:
        require_listed(run_folder, found)
        raise resume.nothing_saved(saved_otherwise(run_folder), f"in {run_folder}")
    skipped: list[resume.Skipped] = []
    guesses = _guessed_records(run_folder, found.saves)
    for guess in branches.lineage(guesses, wishes.order):
        known = (refused or {}).get(guess.name)
        record, refusal = (guess, resume.Skipped(guess, *known)) if known else _looked_at(guess, wishes, level)
        if refusal is None:
            disputed = resume.dispute(guesses, guess, wishes)
            return resume.answer_as_json(resume.Answer(record, tuple(skipped), disputed=disputed))
        skipped.append(refusal)
    raise resume.none_acceptable([], skipped, wishes, frozenset(), ask=shlex.quote(run_folder))


def judged_in(run_folder: str, known: Iterable[Record] = ()) -> list[Record]:
    """Every checkpoint of the run, each verified, but for those that are `known` and, by stat, as they were.

    What cannot be judged is there without a verdict.
    """
    as_read = {(record.name, record.fingerprint): record for record in known if record.verdict is not None}
    return [_as_read_or_judged(guess, as_read) for guess in _guessed_records(run_folder, discover(run_folder).saves)]


def _as_read_or_judged(guess: Record, as_read: Mapping[tuple[str, str], Record]) -> Record:
    record = as_read.get((guess.name, guess.fingerprint))
    if record is not None:
        return replace(record, id=guess.id, branch=guess.branch)
    try:
        return _judged(guess, Level.FULL)
    except (NotACheckpoint, CannotTell):
        return guess


def look_at(path: str, wishes: resume.Wishes, level: Level = Level.FULL) -> dict[str, Any]:
    """The same for this one alone, whatever lies beside it. NoneAcceptable where it will not do."""
    run_folder, name = os.path.split(path)
    number = naming.step_in_name(name) or 0
    candidate = Candidate(naming.ROOT_FOLDER, name, name, number, inode=0, mtime_ns=0, copy=False)
    (guess,) = _guessed_records(run_folder, [candidate])
    record, refusal = _looked_at(guess, wishes, level)
    if refusal is not None:
        raise resume.none_acceptable([], [refusal], wishes, frozenset())
    return resume.answer_as_json(resume.Answer(record))


def _looked_at(guess: Record, wishes: resume.Wishes, level: Level) -> tuple[Record, resume.Skipped | None]:
    """The record after verification, and why it cannot be handed out. Whatever is wrong with it stops no other."""
    try:
        record = _judged(guess, level)
    except NotACheckpoint as error:
        return guess, resume.Skipped(guess, Verdict.INCOMPLETE.value, str(error))
    except CannotTell as error:
        return guess, resume.Skipped(guess, Verdict.UNREADABLE.value, str(error))
    return record, resume.refusal_of(record, wishes, frozenset())


def _guessed_records(run_folder: str, candidates: list[Candidate]) -> list[Record]:
    """Records of folders that nobody watched while they landed, in the order in which they likely did."""
    inventories = [_inventory(os.path.join(run_folder, c.relative_path)) for c in candidates]
    saved = [(inventory.newest_mtime_ns / 1e9, c.number) for inventory, c in zip(inventories, candidates, strict=True)]
    records: list[Record] = []
    for place, branch in branches.first_look(saved):
        candidate, inventory = candidates[place], inventories[place]
        records.append(
            Record(
                id=len(records) + 1,
                run=os.path.basename(run_folder),
                root=run_folder,
                relative_path=candidate.relative_path,
                name=candidate.name,
                number=candidate.number,
                generation=1,
                state=State.SETTLED,
                first_seen_at=saved_at(inventory),
                saved_at=saved_at(inventory),
                bytes=inventory.bytes,
                fingerprint=inventory.fingerprint,
                before_us=True,
                branch=branch,
                evidence=Evidence.STRUCTURAL,
            )
        )
    return records


def _inventory(path: str) -> Inventory:
    try:
        return take_inventory(path, inodes=inodes_are_stable(os.path.dirname(path)))
    except (NotACheckpoint, CannotTell):
        return Inventory(())


def _judged(guess: Record, level: Level) -> Record:
    report = verify(guess.path, level, inodes=inodes_are_stable(guess.root))
    return replace(
        guess,
        state=State.VERIFIED,
        verdict=report.verdict,
        verified_at=datetime.now(UTC),
        fingerprint=report.fingerprint,
        bytes=report.bytes,
        evidence=Evidence.QUIET if _is_being_written(guess, report) else Evidence.STRUCTURAL,
        step_in_state=report.step,
        epoch=report.epoch,
        world_size=report.world_size,
        exact_resume=report.exact_resume,
        components=report.components,
        warnings=tuple(finding_as_json(finding) for finding in report.warnings),
    )


def _is_being_written(record: Record, report: Report) -> bool:
    paths = (os.path.join(record.path, file.path) for file in report.files)
    return any(writers.is_open_for_writing(path) for path in paths)
