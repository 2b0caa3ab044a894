"""Every file of a checkpoint read, and read again where it seems to be damaged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lastgood.findings import MEANINGS, Code, Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lastgood.facts import FileFacts, FileList, Inventory, Manifest


def read_files(
    read: Callable[..., FileFacts], inventory: Inventory, known: Iterable[Mapping[str, str | None]] = ()
) -> Iterator[FileFacts]:
    """What each file tells. `known`: digests from before, by path; where one is another now, it is read again."""
    for entry in inventory.entries:
        facts = read(entry)
        if _is_damaged(facts) or any(_differs(digests.get(entry.path), facts.digest) for digests in known):
            facts = _confirmed(facts, read(entry, fresh=True))
        yield facts


def known_digests(*lists: Manifest | FileList | None) -> list[Mapping[str, str | None]]:
    return [{file.path: file.digest for file in known.files} for known in lists if known]


def _is_damaged(facts: FileFacts) -> bool:
    return any(MEANINGS[problem.code].verdict is Verdict.CORRUPT for problem in facts.problems)


def _differs(kept: str | None, found: str | None) -> bool:
    """Whether two digests by the same algorithm are others."""
    if kept is None or found is None:
        return False
    return kept != found and kept.partition(":")[0] == found.partition(":")[0]


def _confirmed(first: FileFacts, second: FileFacts) -> FileFacts:
    """Damage counts after a second read found the same; a cable or memory chip lies differently each time."""
    if (first.problems, first.digest) == (second.problems, second.digest):
        return first
    return replace(
        second,
        problems=(Finding(Code.READS_DIFFER, first.path, "damaged in one reading, otherwise in the next"),),
        digest=None,  # whichever it is, nothing may be held against it later
    )
