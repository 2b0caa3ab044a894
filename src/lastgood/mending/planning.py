"""What would mend a checkpoint, and what cannot be mended honestly. Pure: facts in, a plan out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lastgood.errors import CannotMend
from lastgood.facts import Component, Presence
from lastgood.findings import MEANINGS, SOUND, Code, Finding, Severity, Verdict, conclude
from lastgood.layouts import base
from lastgood.mending.drafting import OF_RNG, Draft
from lastgood.mending.states import amend_training_state, write_random_states, write_training_state
from lastgood.mending.tensors import rebuild_index, unwrap_names
from lastgood.mending.words import FromNeighbour, Plan, Repair, shapes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastgood.facts import Facts, Report
    from lastgood.mending.words import Neighbour

# The same in every checkpoint of a run. Of the last ones, a run may have none.
_CONFIG: Final = ("config.json",)
_AGREE: Final = 2  # so many of the nearest ones
_OF_ADAPTER: Final = "adapter_config.json"
_BESIDE_IT: Final = ("generation_config.json", *base.TOKENIZER_FILES, "chat_template.jinja", "chat_template.json")
_BECOMES: Final = {
    Code.OPTIMIZER_MISSING: Code.OPTIMIZER_EMPTY,
    Code.SCHEDULER_MISSING: Code.SCHEDULER_EMPTY,
}


def plan_repairs(facts: Facts, report: Report, neighbours: Sequence[Neighbour]) -> Plan:
    """What would make the checkpoint one to go on from. A plan without repairs where nothing is amiss.

    `neighbours`: the nearest first. CannotMend, with every reason, where it would not be sound afterwards, or nothing
    at all could be done about what is missing.
    """
    draft = Draft(facts, report)
    model = shapes_of(facts)
    alike = [other for other in neighbours if other.weights and other.weights == model]
    _take_from_neighbours(draft, alike, len(neighbours))
    write_training_state(draft, neighbours)
    amend_training_state(draft, neighbours)
    write_random_states(draft, neighbours)
    unwrap_names(draft)
    rebuild_index(draft, neighbours)
    return _concluded(draft)


def _concluded(draft: Draft) -> Plan:
    facts, report = draft.facts, draft.report
    left = [finding for finding in report.findings if finding not in draft.mended]
    if draft.emptied:
        left = [Finding(_BECOMES.get(found.code, found.code), found.file, found.message) for found in left]
    promised = conclude(left)
    errors = [finding for finding in left if finding.severity is Severity.ERROR]
    mended_before = bool(facts.baseline or facts.made_up)
    if promised not in SOUND or not (promised is Verdict.COMPLETE or draft.repairs or mended_before):
        raise CannotMend("; ".join((*draft.refused, *map(_reason, _untold(errors, draft.refused)))))
    repairs = tuple(draft.repairs.values())
    return Plan(report.path, facts.inventory.fingerprint, repairs, promised, tuple(draft.refused))


def _reason(finding: Finding) -> str:
    where = f"{finding.file}: " if finding.file else ""
    what = f"{where}{finding.message}"
    if finding.code in (Code.OPTIMIZER_MISSING, Code.OPTIMIZER_EMPTY):
        return f"{what}, and nothing but a copy brings its moments back"
    if finding.code in (Code.SCHEDULER_MISSING, Code.SCHEDULER_EMPTY):
        return f"{what}, and nothing but a copy tells how far it was"
    return f"{what}, which nothing but a copy mends" if MEANINGS[finding.code].verdict is Verdict.CORRUPT else what


def _untold(errors: Sequence[Finding], refused: Sequence[str]) -> list[Finding]:
    """Those of which no repair has said why it cannot be done."""
    told = OF_RNG | {Code.TRAINING_STATE_MISSING} if refused else frozenset()
    return [e for e in errors if e.code not in told and not any(why.startswith(f"{e.file}: ") for why in refused)]


def lacking_files(facts: Facts, report: Report) -> list[str]:
    """Configuration and tokenizer, the same in all checkpoints of one run: what of them it lacks, or has damaged.

    Also those of a tokenizer that it may never have had.
    """
    errors = (found.file or "" for found in report.findings if found.severity is Severity.ERROR)
    broken = set(errors)
    of_adapters = [file for file in sorted(broken) if file.rpartition("/")[2] == _OF_ADAPTER]
    names = (*_CONFIG, *of_adapters, *_BESIDE_IT)
    there = facts.inventory.names
    return [name for name in names if name in broken or not (name in there or _was_never_there(facts, name))]


def _was_never_there(facts: Facts, name: str) -> bool:
    """An adapter has no configuration of a model; and a save may list what it consists of.

    A model that seems to have none may have lost it: other checkpoints of the same model tell.
    """
    if name in _CONFIG:
        seems = any(finding.code is Code.CONFIG_NOT_SAVED for finding in facts.lacking)
        return facts.components.get(Component.CONFIG) is not Presence.MISSING and not seems
    listed = {file.path for file in facts.saved.files} if facts.saved else set()
    return bool(listed) and name not in listed


def _take_from_neighbours(draft: Draft, alike: Sequence[Neighbour], asked: int) -> None:
    """What is the same in all checkpoints of one run, if their weights are those of one model. `asked`: of so many."""
    facts, report = draft.facts, draft.report
    listed = {file.path: file.digest for file in facts.saved.files} if facts.saved else {}
    for name in lacking_files(facts, report):
        broken = [found for found in report.findings if found.file == name and found.severity is Severity.ERROR]
        having = [other for other in alike if name in other.sound]
        if not broken and _has_others(facts, name) and having[:_AGREE] != list(alike[:_AGREE]):
            continue  # a tokenizer needs some of its files: those that all have
        source = _source(name, having, listed.get(name))
        if source is not None:
            why = "damaged" if name in facts.inventory.names else "missing"
            work = FromNeighbour(f"{source.path}/{name}")
            draft.add(Repair(name, work, (f"{why}: copy that of {source.name}",)), broken)
        elif broken:
            lack = "has a sound one" if not having else "has the one that was saved here"
            if having and listed.get(name) is None:
                lack = "tells which one it was: they have different ones"
            draft.refused.append(f"{name}: no other checkpoint of the same model, of {asked} that were seen, {lack}")


def _source(name: str, having: Sequence[Neighbour], saved: str | None) -> Neighbour | None:
    """Whose file is taken: the very one that was saved here, where that is known; otherwise the nearest ones agree."""
    if saved is not None:
        return next((other for other in having if other.digests.get(name) == saved), None)
    differ = len({other.digests.get(name) for other in having[:_AGREE]}) > 1
    return having[0] if having and not differ else None


def _has_others(facts: Facts, name: str) -> bool:
    return name in base.TOKENIZER_FILES and bool(facts.homes.get(Component.TOKENIZER))
