"""The resume point of each run, kept as ready bytes for as long as it may be believed without looking again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lastgood.errors import NoCheckpointsYet, NotReady, Refusal, RunAmbiguous, Unknown
from lastgood.latest import resume_point_now
from lastgood.life import State
from lastgood.resume import answer_as_json
from lastgood_service.exception_handlers import problem_of
from lastgood_service.readiness import frozen_roots, not_ready, trouble_of_worker
from lastgood_service.responses import Rendered, render
from lastgood_service.sharing import Shared

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

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
        name = choose_run(known, asked.run)
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
            held = Held(known.edition, looked_at, None, refusal, is_busy(pending), problem_of(refusal))
        else:
            answer = answer_as_json(found, known.seconds_left)
            held = Held(known.edition, looked_at, answer, None, is_busy(found.pending), render(answer))
        self._held = held
        return held


def is_busy(records: Iterable[Record]) -> bool:
    """Whether one of them is being judged, or written by somebody who is alive. A dead save is not waited for."""
    return any(record.state is State.SETTLED or (record.state is State.LANDING and record.active) for record in records)


def choose_run(known: Known, run: str | None) -> str:
    """The run that was asked for, or the only one: a job is never handed another job's checkpoint."""
    names = list(known.records)
    if run is not None and run in known.records:
        return run
    if run is None and len(names) == 1:
        return names[0]
    if run is None and names:
        raise RunAmbiguous(f"there are several runs: {', '.join(names)}; say which with run=", runs=names)
    if frozen := frozen_roots(known.roots):  # what lies there might be what was asked for
        raise not_ready(frozen)
    if run is None:
        raise NoCheckpointsYet("nothing has been saved here yet")
    there_are = f"there are: {', '.join(names)}" if names else "none has saved anything yet"
    raise Unknown(f"there is no run {run!r}; {there_are}", runs=names)


def not_vouched_for(known: Known, run: str, now: datetime) -> NotReady | None:
    """Why nothing that is known of this run can be vouched for at the moment; None where it can."""
    if trouble := trouble_of_worker(known.worker, now):
        return not_ready([trouble])
    frozen = [obstacle for obstacle in frozen_roots(known.roots) if obstacle.root == known.runs[run].root]
    return not_ready(frozen) if frozen else None
