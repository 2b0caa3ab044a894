"""What a checkpoint is loaded into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Targets:
    """The job's own objects. None: it has none, or wants it left as it is."""

    model: Any
    optimizer: Any = None
    scheduler: Any = None
    scaler: Any = None
    dataloader: Any = None
    device: Any = None  #: where the model is to be; None: where it is
    strict: bool = True  #: every weight must have its place
    schedule_anew: bool = False  #: it has a scheduler, which is not restored and begins with the rates that are set
