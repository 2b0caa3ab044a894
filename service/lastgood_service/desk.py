"""What every route works with."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import Request  # noqa: TC002 - FastAPI looks the annotation up

if TYPE_CHECKING:
    from lastgood.catalog import Catalog
    from lastgood.settings import Settings
    from lastgood_service.answers import Answers
    from lastgood_service.asking import Asked
    from lastgood_service.clock import Clock
    from lastgood_service.counting import EventCounts
    from lastgood_service.knowledge import Knowledge
    from lastgood_service.plans import Plans


@dataclass(frozen=True, slots=True)
class Desk:
    settings: Settings
    catalog: Catalog
    knowledge: Knowledge
    answers: Answers
    plans: Plans
    clock: Clock
    event_counts: EventCounts
    asked: dict[bytes, Asked] = field(default_factory=dict)  #: by the query string that said so
    closing: threading.Event = field(default_factory=threading.Event)  #: we are asked to end: nobody waits any longer


def desk_of(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk
