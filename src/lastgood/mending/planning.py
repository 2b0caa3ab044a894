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
    _take_from_neighbours(draft, [other for other in neighbours if other.weights and other.weights == model])
    write_training_state(draft, neighbours)
    amend_training_state(draft, neighbours)
    write_random_states(draft, neighbours)
    unwrap_names(draft)
    rebuild_index(draft)
    return _concluded(draft)


def _concluded(draft: Draft) -> Plan:
    facts, report = draft.facts, draft.report
    left = [finding for finding in report.findings if finding not in draft.mended]
    if draft.emptied:
        left = [Finding(_BECOMES.get(found.code, found.code), found.file, found.message) for found in left]
    promised = conclude(left)
    errors = [finding for finding in left if finding.severity is Severity.ERROR]
    mended_before = bool(facts.baseline or facts.estimated)
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


def _take_from_neighbours(draft: Draft, alike: Sequence[Neighbour]) -> None:
    """Configuration, tokenizer: the same in all checkpoints of one run, if their weights are those of one model."""
    facts, report = draft.facts, draft.report
    errors = (found.file or "" for found in report.findings if found.severity is Severity.ERROR)
    of_adapters = [file for file in errors if file.rpartition("/")[2] == _OF_ADAPTER]
    for name in (*_CONFIG, *dict.fromkeys(of_adapters), *_BESIDE_IT):
        broken = [found for found in report.findings if found.file == name and found.severity is Severity.ERROR]
        if not broken and (name in facts.inventory.names or _is_of_no_use(facts, name)):
            continue
        source = next((other for other in alike if name in other.sound), None)
        if source is not None:
            why = "damaged" if name in facts.inventory.names else "missing"
            work = FromNeighbour(f"{source.path}/{name}")
            draft.add(Repair(name, work, (f"{why}: copy that of {source.name}",)), broken)
        elif broken:
            draft.refused.append(f"{name}: no other checkpoint of the same model has a sound one")


def _is_of_no_use(facts: Facts, name: str) -> bool:
    """An adapter has no configuration of a model; what has some of a tokenizer's files has those that it needs."""
    if name in _CONFIG:
        return facts.components.get(Component.CONFIG) is not Presence.MISSING
    return name in base.TOKENIZER_FILES and bool(facts.homes.get(Component.TOKENIZER))
