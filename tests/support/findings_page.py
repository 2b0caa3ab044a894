"""docs/findings.md as the code has it: `python tests/support/findings_page.py docs/findings.md` renews it in place.

What a finding means and how it comes about is written in the page itself and kept; the rest is taken from the code.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lastgood.findings import MEANINGS, Code, Severity

if TYPE_CHECKING:
    from collections.abc import Mapping

_ENTRY: Final = re.compile(r"^### `([a-z-]+)`\n\n[^\n]*\n\n(.*?)\n\n\*\*What to do:\*\*", re.MULTILINE | re.DOTALL)
_WORDS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "information"}


def findings_page(head: str, texts: Mapping[Code, str]) -> str:
    """The whole page: what stands before the first entry, then one entry a code, in the order of the code."""
    return head + "\n".join(_entry(code, texts.get(code, "")) for code in Code)


def head_of(page: str) -> str:
    return page[: page.index("### `")]


def texts_of(page: str) -> dict[Code, str]:
    """What the page says of each code in its own words."""
    known = {code.value: code for code in Code}
    return {known[name]: text for name, text in _ENTRY.findall(page) if name in known}


def _entry(code: Code, text: str) -> str:
    meaning = MEANINGS[code]
    verdict = f"the checkpoint is `{meaning.verdict}`" if meaning.verdict else "the verdict stays"
    return f"### `{code}`\n\n{_WORDS[meaning.severity]}; {verdict}\n\n{text}\n\n**What to do:** {meaning.hint}.\n"


def main() -> None:
    path = Path(sys.argv[1])
    page = path.read_text(encoding="utf-8")
    path.write_text(findings_page(head_of(page), texts_of(page)), encoding="utf-8")


if __name__ == "__main__":
    main()
