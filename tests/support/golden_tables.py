"""Retention as tables that a person can read: a title, the policy, and one row a checkpoint, the oldest first.

    python tests/support/golden_tables.py    writes the columns `then` and `because` of each anew

Read what it wrote before you keep it: it says what the planner does, not what it should do. Columns that do not matter
are left out; what an empty cell means is in `_record`.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lastgood import retention
from lastgood.findings import Verdict
from lastgood.life import IN_PLACE, State
from lastgood.records import Evidence, Hold, Record
from lastgood.settings import ENVIRONMENT_PREFIX, read_settings
from lastgood.settings_values import seconds_in
from recording import NOON, record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lastgood.retention import Decision, Policy

FOLDER: Final = Path(__file__).parents[1] / "library" / "golden_retention"
_COLUMNS: Final = (
    "name", "step", "state step", "branch", "state", "evidence", "verdict", "metrics", "best", "age", "mtime",
    "before us", "held", "mark",
)  # fmt: skip
_MARKS: Final = ("changed", "busy", "failed", "not copied")
_ANSWER: Final = ("then", "because")


class Table(NamedTuple):
    title: str
    policy: Policy
    settings: str
    rows: list[dict[str, str]]


def read(text: str) -> Table:
    """The parts of a file; ValueError where a column or a mark is none of ours."""
    title, settings, table = (part.strip("\n") for part in text.split("\n\n"))
    head, *rows = ([cell.strip() for cell in line.split("|")] for line in table.splitlines())
    if unknown := set(head) - {*_COLUMNS, *_ANSWER}:
        raise ValueError(f"no such column: {unknown}")
    lines = [line.split(" = ") for line in settings.splitlines() if settings != "no rule"]
    environ = {ENVIRONMENT_PREFIX + name.upper(): value for name, value in lines}
    policy = retention.policy_of(read_settings(environ), "llama")
    return Table(title, policy, settings, [dict(zip(head, row, strict=False)) for row in rows])


def rendered(text: str) -> str:
    """The same file, with what the planner says in its last two columns."""
    table = read(text)
    facts = [name for name in table.rows[0] if name not in _ANSWER]
    said = planned(table)
    lines = [
        [*facts, *_ANSWER],
        *([*(row.get(f, "") for f in facts), *then] for row, then in zip(table.rows, said, strict=True)),
    ]
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    shown = (" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return f"{table.title}\n\n{table.settings}\n\n" + "".join(f"{line}\n" for line in shown)


def planned(table: Table) -> list[tuple[str, str]]:
    """What becomes of each row, and why in stable words; nothing of what is not there."""
    records = [_record(place, row) for place, row in enumerate(table.rows)]
    marked = {mark: frozenset(r.id for r, row in _each(records, table) if row.get("mark") == mark) for mark in _MARKS}
    holds = {r.id: [_hold(r, row["held"])] for r, row in _each(records, table) if row.get("held")}
    plan = retention.plan(
        records,
        table.policy,
        holds,
        changed=marked["changed"],
        busy=marked["busy"],
        unproven=marked["not copied"],
    )
    decided = {decision.record.id: decision for decision in plan.decisions}
    assert set(decided) == {r.id for r in records if r.state in IN_PLACE}
    return [_in_words(decided.get(r.id)) for r in records]


def _in_words(decision: Decision | None) -> tuple[str, str]:
    if decision is None:
        return "", ""
    return "keep" if decision.keep else "remove", ", ".join(reason.why.value for reason in decision.reasons)


def _each(records: Iterable[Record], table: Table) -> Iterable[tuple[Record, Mapping[str, str]]]:
    return zip(records, table.rows, strict=True)


def _record(place: int, row: Mapping[str, str]) -> Record:
    """A complete one of the first branch, finished by a marker, seen one minute after the row above."""
    state = State(row.get("state") or State.VERIFIED)
    judged = state not in (State.LANDING, State.SETTLED)
    facts: dict[str, Any] = {"state": state}
    if (mark := row.get("mark") or None) not in (None, *_MARKS):
        raise ValueError(f"no such mark: {mark}")
    facts["verdict"] = Verdict(row.get("verdict") or Verdict.COMPLETE) if judged else None
    evidence = row.get("evidence") or (Evidence.MARKER if state is not State.LANDING else "none")
    facts["evidence"] = None if evidence == "none" else Evidence(evidence)
    facts["failures"] = 2 if mark == "failed" else 0
    copy = facts["copy"] = bool(row.get("name")) and re.fullmatch(r"checkpoint-\d+", row["name"]) is None
    facts["branch"] = None if copy else int(row.get("branch") or 1)
    facts["step_in_state"] = int(row["state step"]) if row.get("state step") else None
    facts["metrics"] = {name: float(value) for name, value in map(str.split, _parts(row.get("metrics")))}
    facts["best"] = row.get("best") or None
    facts["before_us"] = row.get("before us") == "yes"
    if row.get("age"):
        facts |= dict.fromkeys(("first_seen_at", "saved_at", "settled_at", "verified_at"), _before_noon(row["age"]))
    if row.get("mtime"):
        facts["saved_at"] = _before_noon(row["mtime"])
    if row.get("name"):
        facts["name"] = facts["relative_path"] = row["name"]
    return record(int(row["step"]), place, **facts)


def _parts(cell: str | None) -> list[str]:
    return [part for part in (cell or "").split(",") if part.strip()]


def _before_noon(age: str) -> Any:
    """`36h` before it; `-36h` after."""
    return NOON - timedelta(seconds=seconds_in(age.lstrip("-"))) * (-1 if age.startswith("-") else 1)


def _hold(held: Record, cell: str) -> Hold:
    """`pin by anna`, `lease by job-1`."""
    kind, holder = cell.split(" by ")
    return Hold(1, held.id, holder, {"pin": None, "lease": NOON + timedelta(hours=1)}[kind])


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.txt")):
        path.write_text(rendered(path.read_text()))
