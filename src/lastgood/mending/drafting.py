"""A plan in the making, and what its makers have in common. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lastgood import naming
from lastgood.findings import Code

if TYPE_CHECKING:
    from collections.abc import Collection

    from lastgood.facts import Facts, FileFacts, Report
    from lastgood.findings import Finding
    from lastgood.mending.words import Repair

OF_RNG: Final = frozenset({Code.RNG_MISSING, Code.RNG_EMPTY, Code.RNG_INCOMPLETE})


@dataclass
class Draft:
    """Which repairs there will be, which findings they mend, and what was refused, with the reason."""

    facts: Facts
    report: Report
    repairs: dict[str, Repair] = field(default_factory=dict)  #: by file
    mended: set[Finding] = field(default_factory=set)
    emptied: bool = False  #: states that are missing will be there, and empty
    refused: list[str] = field(default_factory=list)

    def add(self, repair: Repair, mended: Collection[Finding] = ()) -> None:
        self.repairs[repair.file] = repair
        self.mended.update(mended)

    def found(self, *codes: Code) -> list[Finding]:
        """The findings of these codes."""
        return [finding for finding in self.report.findings if finding.code in codes]


def without_wrappers(facts: Facts, file: FileFacts, prefix: str = "") -> dict[str, str]:
    """By the names of the file's tensors, those that are others without wrappers. They count over all files."""
    if would_be_called_the_same(facts):
        return {}
    bare = naming.bare_names(facts.weights)
    names = (name.removeprefix(prefix) for name in file.tensors if name.startswith(prefix))
    return {name: bare[name] for name in names if name in bare and bare[name] != name}


def would_be_called_the_same(facts: Facts) -> bool:
    bare = naming.bare_names(facts.weights)
    return len(set(bare.values())) < len(bare)


def why_not_rewritten(file: FileFacts) -> str | None:
    """What is kept of a file of torch must be loaded, and nothing in it is trusted. NumPy's own pieces are known."""
    unknown = sorted(name for name in file.globals if not name.startswith("numpy."))
    if unknown:
        return f"{file.path} holds {unknown[0]}, and is not rewritten: to load it would be to trust it"
    return None if isinstance(file.contents, dict) else f"{file.path} does not hold what it should"
