"""lastgood: which is the last good checkpoint? Names are loaded when first used, so that importing it costs nothing.

The judge is `lastgood.verify.verify`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from lastgood.client import resume_point as resume_point
    from lastgood.errors import LastgoodError as LastgoodError
    from lastgood.facts import Report as Report
    from lastgood.findings import Code as Code
    from lastgood.findings import Finding as Finding
    from lastgood.findings import Verdict as Verdict
    from lastgood.quick import quick_verify_checkpoint as quick_verify_checkpoint
    from lastgood.training import CheckpointManager as CheckpointManager
    from lastgood.training import SaveOptions as SaveOptions

__version__ = "0.1.0"
__all__ = [
    "CheckpointManager",
    "Code",
    "Finding",
    "LastgoodError",
    "Report",
    "SaveOptions",
    "Verdict",
    "quick_verify_checkpoint",
    "resume_point",
]

_HOMES: Final = {
    "CheckpointManager": "training",
    "Code": "findings",
    "Finding": "findings",
    "LastgoodError": "errors",
    "Report": "facts",
    "SaveOptions": "training",
    "Verdict": "findings",
    "quick_verify_checkpoint": "quick",
    "resume_point": "client",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"lastgood.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lastgood' has no attribute {name!r}")
