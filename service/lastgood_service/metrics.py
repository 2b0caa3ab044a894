"""What Prometheus is told, by its own client library. Pure: the numbers are gathered elsewhere.

There is no registry of ours that lives on: every answer is made of what is known at that moment.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from lastgood.cloud import CopyState
from lastgood.life import IN_PLACE, State
from lastgood_service.copies import NO_LONGER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lastgood_service.copies import Copies
    from lastgood_service.knowledge import Known

MEDIA_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
_UNJUDGED: Final = "none"
_SHOWN: Final = tuple(state for state in CopyState if state not in NO_LONGER)


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known at one moment. `answers` and `waiting`: by run."""

    known: Known
    ready: bool
    answers: Mapping[str, Mapping[str, Any]]
    waiting: Mapping[str, int]  #: checkpoints that are to be copied
    events: Mapping[tuple[str, str], int]  #: by kind and severity


def as_text(measured: Measured) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Families(measured))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, measured: Measured) -> None:
        self._measured = measured

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        known = self._measured.known
        yield from _of_worker(known, ready=self._measured.ready)
        yield from _of_checkpoints(known)
        yield from _of_answers(self._measured.answers)
        if known.copies is not None:
            yield from _of_copies(known.copies, self._measured.waiting)
            yield from _of_place(known.copies)
        yield _of_events(self._measured.events)


def _of_worker(known: Known, *, ready: bool) -> Iterator[GaugeMetricFamily]:
    yield GaugeMetricFamily("lastgood_ready", "Whether answers can be vouched for, as /readyz says.", float(ready))
    if known.worker is None:
        return
    heartbeat = known.worker.heartbeat_at.timestamp()
    yield GaugeMetricFamily(
        "lastgood_worker_heartbeat_timestamp_seconds", "When the worker last said that it lives.", heartbeat
    )
    free = (known.worker.watch.get("free_bytes") or {}).items()
    yield _gauge(
        "lastgood_root_free_bytes",
        "What may still be written below a watched folder, to two digits.",
        ("root",),
        (((root,), count) for root, count in free if count is not None),
    )


def _of_checkpoints(known: Known) -> Iterator[GaugeMetricFamily]:
    there = [r for records in known.records.values() for r in records if r.state is not State.GONE]
    counts = Counter((r.run, r.state.value, r.verdict.value if r.verdict else _UNJUDGED) for r in there)
    yield _gauge(
        "lastgood_checkpoints",
        "Checkpoints that are here, those in the trash among them; verdict none: not judged yet.",
        ("run", "state", "verdict"),
        counts.items(),
    )
    sizes = dict.fromkeys(known.records, 0)
    for record in there:
        if record.state in IN_PLACE and not record.copy:
            sizes[record.run] += record.bytes
    yield _gauge(
        "lastgood_checkpoints_bytes",
        "Size of a run's checkpoints, without the trash.",
        ("run",),
        (((run,), size) for run, size in sizes.items()),
    )


def _of_answers(answers: Mapping[str, Mapping[str, Any]]) -> Iterator[GaugeMetricFamily]:
    yield _gauge(
        "lastgood_resume_point_step",
        "Step of the checkpoint to start from; absent where there is none.",
        ("run",),
        (((run,), answer["step"]) for run, answer in answers.items()),
    )
    yield _gauge(
        "lastgood_resume_point_saved_timestamp_seconds",
        "When the checkpoint to start from was saved.",
        ("run",),
        (((run,), datetime.fromisoformat(answer["saved_at"]).timestamp()) for run, answer in answers.items()),
    )


def _of_copies(copies: Copies, waiting: Mapping[str, int]) -> Iterator[GaugeMetricFamily]:
    runs = sorted({*waiting, *copies.runs})
    states = {run: Counter(upload.state for upload in copies.of_run(run)) for run in runs}
    yield _gauge(
        "lastgood_copies",
        "Copies in the cloud, by how far they are.",
        ("run", "state"),
        (((run, state.value), states[run][state]) for run in runs for state in _SHOWN),
    )
    yield _gauge(
        "lastgood_copied_bytes",
        "Size of a run's proven copies in the cloud.",
        ("run",),
        (((run,), sum(copy.bytes for copy in copies.proven(run))) for run in runs),
    )
    yield _gauge(
        "lastgood_copies_waiting",
        "Checkpoints that are to have a copy in the cloud and have none.",
        ("run",),
        (((run,), count) for run, count in waiting.items()),
    )


def _of_place(copies: Copies) -> Iterator[GaugeMetricFamily]:
    place = copies.place
    trouble = place is not None and place.trouble is not None
    yield GaugeMetricFamily("lastgood_cloud_trouble", "Whether the cloud takes no copies at the moment.", trouble)
    if place is not None and place.listed_at is not None:
        yield GaugeMetricFamily(
            "lastgood_last_cloud_listing_success_timestamp_seconds",
            "When all copies in the cloud were last looked for.",
            place.listed_at.timestamp(),
        )
    if place is not None and place.drilled_at is not None:
        yield GaugeMetricFamily(
            "lastgood_last_restore_drill_success_timestamp_seconds",
            "When a copy last came back whole from the cloud.",
            place.drilled_at.timestamp(),
        )


def _of_events(events: Mapping[tuple[str, str], int]) -> CounterMetricFamily:
    family = CounterMetricFamily(
        "lastgood_events", "What happened since the catalog was made.", labels=("kind", "severity")
    )
    for labels, count in sorted(events.items()):
        family.add_metric(labels, count)
    return family


def _gauge(
    name: str, meaning: str, labels: tuple[str, ...], samples: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for values, number in sorted(samples):
        family.add_metric(values, number)
    return family
