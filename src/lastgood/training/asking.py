"""Which checkpoint a job goes on from: asked for by its first process, leased while it loads, told how that went."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from lastgood import client, naming, resume
from lastgood.discovery import discover
from lastgood.errors import LastgoodError, NoCheckpointsYet
from lastgood.findings import Verdict
from lastgood.remarks import telling_what_was_refused
from lastgood.training import ranks
from lastgood.training.whole_folder import put_back

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lastgood.settings import Settings

_log = logging.getLogger("lastgood")
_USUAL_FOLDER: Final = "checkpoints"  # where many trainers save below the folder that they are given


class Asking:
    """For the checkpoints in one folder. `accept`: the least verdict; None: as the settings have it."""

    def __init__(self, folder: str, settings: Settings, accept: str | None) -> None:
        self._folder, self._settings, self._accept = folder, settings, accept

    def last_good(self, wait: float, *, fetch: bool) -> Mapping[str, Any] | None:
        """The answer as JSON; None where nothing was saved yet. All processes must call it, and hear the same."""
        return ranks.told_by_first(lambda: self._last_good(wait, fetch=fetch))

    def _last_good(self, wait: float, *, fetch: bool) -> Mapping[str, Any] | None:
        settings = self._settings
        put_back(self._folder)
        question = client.Question(
            resume.Wishes(accept=Verdict(self._accept or settings.accept), order=settings.order),
            run=naming.ROOT_FOLDER,
            accept_as_set=self._accept is None and client.is_default_accept(settings),
            wait=wait,
            lease=client.Lease(),
            root=settings.root,
            fetch=client.Fetch(settings) if fetch else None,
        )
        for folder in chain((self._folder,), self._below()):
            with suppress(NoCheckpointsYet), telling_what_was_refused():
                return client.latest_held_in(folder, client.service_of(settings), question)
        return None

    def _below(self) -> Iterator[str]:
        """Where else a job of this folder may have saved, where it has saved nothing here."""
        candidates = discover(self._folder).candidates
        runs = sorted({found.run for found in candidates if not found.copy} - {naming.ROOT_FOLDER})
        if _USUAL_FOLDER in runs:
            yield os.path.join(self._folder, _USUAL_FOLDER)
        elif runs:
            _log.warning("nothing is saved in %s itself, but below it, in %s", self._folder, ", ".join(runs))

    @contextmanager
    def telling_how_it_goes(self, found: Mapping[str, Any]) -> Iterator[None]:
        """Whoever ends the job says nothing of the checkpoint: then its lease runs out by itself."""
        try:
            yield
        except Exception as error:
            with suppress(Exception):  # a device that broke down must not hide why loading failed
                self._tell(found, f"{type(error).__name__}: {error}")
            raise
        if (trouble := self._tell(found, None)) is not None:
            raise LastgoodError(f"{found['name']} was not loaded everywhere: {trouble}")

    def _tell(self, found: Mapping[str, Any], trouble: str | None) -> str | None:
        """What went wrong in whichever process."""
        trouble = ranks.trouble_of_any(trouble)
        if ranks.is_first():
            client.give_back(client.service_of(self._settings), found, trouble)
        return trouble
