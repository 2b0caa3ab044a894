"""The application: `create_app(settings, catalog)`. Nothing is read from the environment, nothing is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI

import lastgood
from lastgood.cloud import Remote
from lastgood_service import exception_handlers, openapi
from lastgood_service.answers import Answers
from lastgood_service.clock import Clock
from lastgood_service.counting import EventCounts
from lastgood_service.desk import Desk
from lastgood_service.head import AnswersHead
from lastgood_service.knowledge import Knowledge
from lastgood_service.plans import Plans
from lastgood_service.routes import ROUTERS
from lastgood_service.security import Guard, obtain_token

if TYPE_CHECKING:
    from lastgood.catalog import Catalog
    from lastgood.settings import Settings


def create_app(settings: Settings, catalog: Catalog, clock: Clock | None = None) -> FastAPI:
    """SettingsError where the token cannot be had."""
    clock = clock or Clock()
    knowledge = Knowledge(catalog, Remote.of(settings))
    # The documentation pages of the framework fetch their scripts from elsewhere; the document itself is served.
    app = FastAPI(
        title="lastgood", version=lastgood.__version__, description=openapi.WORDS, docs_url=None, redoc_url=None
    )
    answers, plans = Answers(knowledge, clock, settings), Plans(catalog, clock, settings)
    app.state.desk = Desk(settings, catalog, knowledge, answers, plans, clock, EventCounts(catalog))
    app.add_middleware(Guard, settings=settings, token=obtain_token(settings.token_path))
    app.add_middleware(AnswersHead)
    exception_handlers.install(app)
    for router in ROUTERS:
        # As they are: `include_router` would make each anew, and look the copy up again at every request.
        app.router.routes.extend(router.routes)
    openapi.install(app)
    return app
