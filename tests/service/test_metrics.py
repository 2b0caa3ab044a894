"""What Prometheus is told."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lastgood.cloud import CopyState
from lastgood.findings import Verdict
from service_world import NOON, REMOTE, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.testclient import TestClient

LATEST = "/checkpoints/latest"


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    """Of a service with a place for copies, which the worker has looked through."""
    world.listed()
    with world.client(remote=REMOTE) as made:
        yield made


def _metrics(client: TestClient) -> dict[str, dict[tuple[str, ...], float]]:
    """By name, then by the values of the labels, in the order of their names."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation
        for sample in family.samples:
            labels = tuple(value for _name, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def test_metrics_tell_of_checkpoints_and_of_the_resume_point(world: World, client: TestClient) -> None:
    sizes = [world.catalog.record(world.save(step))[0].bytes for step in (100, 200)]
    world.save(300, Verdict.CORRUPT, run="bert")
    world.land(400, run="bert")
    world.discard(world.save(50))
    world.catalog.vanished(world.save(40))
    watch = {"mode": "events", "degraded": False, "reason": None, "roots": [world.root]}
    world.beat(watch=watch | {"free_bytes": {world.root: 12_000_000}})
    found = _metrics(client)
    assert found["lastgood_ready"] == {(): 1}
    assert found["lastgood_worker_heartbeat_timestamp_seconds"] == {(): world.now.timestamp()}
    assert found["lastgood_root_free_bytes"] == {(world.root,): 12_000_000}
    assert found["lastgood_checkpoints"] == {
        ("bert", "landing", "none"): 1,
        ("bert", "verified", "corrupt"): 1,
        ("llama", "trashed", "complete"): 1,
        ("llama", "verified", "complete"): 2,
    }
    assert found["lastgood_checkpoints_bytes"][("llama",)] == sum(sizes)
    answer = client.get(LATEST, params={"run": "llama"}).json()
    assert found["lastgood_resume_point_step"] == {("llama",): 200}
    saved = datetime.fromisoformat(answer["saved_at"]).timestamp()
    assert found["lastgood_resume_point_saved_timestamp_seconds"] == {("llama",): saved}


def test_metrics_tell_of_copies_and_of_the_place_where_they_lie(world: World, client: TestClient) -> None:
    world.save(300)
    world.copy(100, of=world.save(100))
    world.copy(200, of=world.save(200), state=CopyState.CONFLICT)
    world.copy(100, run="bert")
    world.listed(drilled_at=NOON - timedelta(days=1), trouble="Access Denied")
    found = _metrics(client)
    copies = {labels: count for labels, count in found["lastgood_copies"].items() if count}
    assert copies == {("bert", "proven"): 1, ("llama", "conflict"): 1, ("llama", "proven"): 1}
    assert found["lastgood_copies"][("llama", "failed")] == 0
    assert found["lastgood_copied_bytes"] == {("bert",): 1000, ("llama",): 1000}
    assert found["lastgood_copies_waiting"] == {("llama",): 1}
    assert found["lastgood_cloud_trouble"] == {(): 1}
    assert found["lastgood_last_cloud_listing_success_timestamp_seconds"] == {(): NOON.timestamp()}
    drilled = (NOON - timedelta(days=1)).timestamp()
    assert found["lastgood_last_restore_drill_success_timestamp_seconds"] == {(): drilled}


def test_metrics_count_events_once_each(world: World, client: TestClient) -> None:
    for _ in range(3):
        world.log("it landed")
    assert _metrics(client)["lastgood_events_total"] == {("landing", "info"): 3}
    world.log("it landed")
    assert _metrics(client)["lastgood_events_total"] == {("landing", "info"): 4}


def test_metrics_are_whole_where_no_worker_ever_ran_and_no_place_for_copies_is_set(tmp_path: Any) -> None:
    world = World(tmp_path)
    with world.client() as client:
        found = _metrics(client)
    assert found == {"lastgood_ready": {(): 0}}
    world.catalog.close()


def test_names_in_metrics_are_text_and_nothing_else(world: World, client: TestClient) -> None:
    world.save(100, run='a"b\\c')
    assert _metrics(client)["lastgood_resume_point_step"] == {('a"b\\c',): 100}
