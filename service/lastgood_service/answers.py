"""The resume point of each run, kept as ready bytes for as long as it may be believed without looking again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lastgood.discovery import saved_otherwise
from lastgood.errors import NoCheckpointsYet, Refusal
from lastgood.latest import resume_point_now
from lastgood.life import State
from lastgood.naming import ROOT_FOLDER
from lastgood.resume import answer_as_json, nothing_saved
from lastgood_service.choosing import choose_run, not_vouched_for, where
from lastgood_service.copies import said_of
from lastgood_service.exception_handlers import problem_of
from lastgood_service.offering import with_copies
from lastgood_service.readiness import not_ready, trouble_of_worker
from lastgood_service.responses import Rendered, render
from lastgood_service.sharing import Shared

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lastgood.records import Record
    from lastgood.resume import Wishes
    from lastgood.settings import Settings
    from lastgood_service.asking import Asked
    from lastgood_service.clock import Clock
    from lastgood_service.knowledge import Knowledge, Known

STAT_LASTS: Final = 1.0  #: seconds for which a look at the files is believed
_LOOK_AHEAD: Final = 0.5  # asked again after this long, we look again while the last look still holds
_KEPT: Final = 256


@dataclass(frozen=True, slots=True)
class Held:
    """One answer, and as of when."""

    edition: tuple[Any, ...]
    looked_at: float  #: on the monotonic clock, before the look began
    answer: Mapping[str, Any] | None  #: what `GET /checkpoints/latest` says, where there is an answer
    refusal: Refusal | None  #: why there is none, where there is not
    busy: bool  #: a newer one is in work: whoever wants to wait for it may
    rendered: Rendered


class Answers:
    """Ask as often as you like: looks at the disk at most about twice a second for each run and set of wishes."""

    def __init__(self, knowledge: Knowledge, clock: Clock, settings: Settings) -> None:
        self._knowledge, self._clock, self._settings = knowledge, clock, settings
        self._kept: dict[tuple[str, Wishes], _Keeper] = {}

    async def latest(self, asked: Asked) -> Held:
        """The resume point of a run, or of the only one. NotReady where nothing can be vouched for."""
        known = await self._knowledge.now()
        if trouble := trouble_of_worker(known.worker, self._clock.now()):
            raise not_ready([trouble])
        try:
            name = choose_run(known, asked.run)
        except NoCheckpointsYet:
            name = ROOT_FOLDER  # where copies may lie that nobody counts
        if refusal := not_vouched_for(known, name, self._clock.now()):
            raise refusal
        return await self.of_run(known, name, asked)

    async def of_run(self, known: Known, run: str, asked: Asked) -> Held:
        """The same by the records and the disk alone, whether or not anybody vouches for them."""
        wishes = asked.wishes_in(run, self._settings)
        keeper = self._kept.get((run, wishes))
        if keeper is None:
            if len(self._kept) >= _KEPT:  # wishes are the asker's: they must not fill our memory
                del self._kept[next(iter(self._kept))]
            keeper = self._kept[run, wishes] = _Keeper(run, wishes, self._clock)
        return await keeper.get(known)

    def forget(self, run: str) -> None:
        """Somebody found a checkpoint of this run changed since we looked: the next one who asks makes us look anew."""
        for key in [key for key in self._kept if key[0] == run]:
            del self._kept[key]


class _Keeper:
    """One run's answer to one set of wishes."""

    def __init__(self, run: str, wishes: Wishes, clock: Clock) -> None:
        self._run, self._wishes, self._clock = run, wishes, clock
        self._known: Known | None = None
        self._held: Held | None = None
        self._looking = Shared(self._look, run)

    async def get(self, known: Known) -> Held:
        self._known = known
        held = self._held
        for _ in range(2):  # a look that had begun before we asked may have had older records
            if held is not None and held.edition == known.edition:
                age = self._clock.monotonic() - held.looked_at
                if age <= STAT_LASTS:
                    if age > _LOOK_AHEAD:
                        self._looking.start()
                    return held
            held = await self._looking.result()
        assert held is not None
        return held

    def _look(self) -> Held:
        known = self._known
        assert known is not None
        looked_at = self._clock.monotonic()
        records = known.records.get(self._run, ())
        try:
            found = resume_point_now(records, self._wishes)
        except Refusal as refusal:
            pending = (record for record in records if not record.copy)
            true = _true_of_the_disk(refusal, known, self._run)
            said = with_copies(true, known.copies, self._run, records, self._wishes)
            held = Held(known.edition, looked_at, None, said, is_busy(pending), problem_of(said))
        else:
            answer = answer_as_json(found, known.seconds_left, said_of(known.copies, found.record.id))
            held = Held(known.edition, looked_at, answer, None, is_busy(found.pending), render(answer))
        self._held = held
        return held


def _true_of_the_disk(refusal: Refusal, known: Known, run: str) -> Refusal:
    """That nothing was saved must be true of the folder too: the catalog knows of copies only beside what was saved."""
    if not isinstance(refusal, NoCheckpointsYet):
        return refusal
    folders = (where(known, run).path,) if run in known.runs else known.watched
    return nothing_saved([name for folder in folders for name in saved_otherwise(folder)])


def is_busy(records: Iterable[Record]) -> bool:
    """Whether one of them is being judged, or written by somebody who is alive. A dead save is not waited for."""
    return any(record.state is State.SETTLED or (record.state is State.LANDING and record.active) for record in records)
