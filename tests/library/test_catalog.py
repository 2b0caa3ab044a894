"""What is remembered: every move goes through the table of moves, and no reader misses one."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from lastgood import writers
from lastgood.catalog import Root, Sighting, WorkerCatalog, WorkerStatus
from lastgood.errors import CatalogError, Conflict, IllegalMove, Unknown
from lastgood.facts import Component, FileDigest, Level, Presence, Report
from lastgood.findings import Verdict
from lastgood.life import State
from lastgood.records import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
SEEN = Sighting("print", 10, NOON, active=True, waiting_for="its files still change")
CONTENT = frozenset({("model.safetensors", 10, 1, 2)})


def report(digest: str = "crc64nvme:1", verdict: Verdict = Verdict.COMPLETE) -> Report:
    return Report(
        path="/out/checkpoint-100",
        name="checkpoint-100",
        layout="hf_trainer",
        level=Level.FULL,
        verdict=verdict,
        exact_resume=True,
        step=100,
        epoch=1.5,
        world_size=1,
        components={Component.WEIGHTS: Presence.PRESENT},
        findings=(),
        files=(FileDigest("model.safetensors", 10, digest),),
        bytes=10,
        seconds=0.1,
        fingerprint="print",
    )


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[WorkerCatalog]:
    made = WorkerCatalog(str(tmp_path / "state"))
    yield made
    made.close()


def add(catalog: WorkerCatalog, name: str = "checkpoint-100", run: str = ".", root: str = "/out") -> int:
    run_id = catalog.add_run(run, root, run, NOON)
    return catalog.add_checkpoint(
        run_id,
        name=name,
        relative_path=name,
        number=int(name.rpartition("-")[2]),
        copy=False,
        before_us=False,
        branch=1,
        seen=SEEN,
        now=NOON,
    )


def settle(catalog: WorkerCatalog, found: int) -> None:
    catalog.settled(found, seen=SEEN, content=CONTENT, evidence=Evidence.MARKER, now=NOON)


def judge(catalog: WorkerCatalog, found: int, **how: Any) -> None:
    catalog.judged(found, report(**how), boot="boot", now=NOON)


# --- moves ---


def test_a_life_from_landing_to_gone_is_remembered(catalog: WorkerCatalog) -> None:
    found = add(catalog)
    assert catalog.record(found)[0].state is State.LANDING
    settle(catalog, found)
    assert catalog.record(found)[0].landing_seq == 1
    assert catalog.settled_content(found) == CONTENT
    judge(catalog, found)
    record, told = catalog.record(found)
    assert (record.state, record.verdict, record.step, record.active) == (State.VERIFIED, Verdict.COMPLETE, 100, False)
    assert told is not None
    assert told["layout"] == "hf_trainer"
    catalog.vanished(found)
    assert catalog.records(gone=False) == []
    assert [record.state for record in catalog.records()] == [State.GONE]


MOVES: list[tuple[str, Callable[[WorkerCatalog, int], object], State]] = [
    ("judged", judge, State.LANDING),
    ("recheck", lambda catalog, found: catalog.recheck(found, "why"), State.LANDING),
    ("rewritten", lambda catalog, found: catalog.rewritten(found), State.LANDING),
    ("settled again", settle, State.SETTLED),
    ("rewritten before it was judged", lambda catalog, found: catalog.rewritten(found), State.SETTLED),
    ("stirred after it was judged", lambda catalog, found: catalog.stirred(found, SEEN), State.VERIFIED),
    ("settled after it was judged", settle, State.VERIFIED),
    ("judged after it went", judge, State.GONE),
    ("stirred after it went", lambda catalog, found: catalog.stirred(found, SEEN), State.GONE),
    ("vanished twice", lambda catalog, found: catalog.vanished(found), State.GONE),
]


@pytest.mark.parametrize(("happens", "state"), [pytest.param(do, state, id=name) for name, do, state in MOVES])
def test_a_move_that_does_not_exist_is_refused_and_changes_nothing(
    catalog: WorkerCatalog, happens: Callable[[WorkerCatalog, int], object], state: State
) -> None:
    found = add(catalog)
    if state in (State.SETTLED, State.VERIFIED):
        settle(catalog, found)
    if state is State.VERIFIED:
        judge(catalog, found)
    if state is State.GONE:
        catalog.vanished(found)
    before, revision = catalog.record(found), catalog.revision()
    with pytest.raises(IllegalMove):
        happens(catalog, found)
    assert (catalog.record(found), catalog.revision()) == (before, revision)


def test_each_generation_of_a_name_is_a_row_of_its_own(catalog: WorkerCatalog) -> None:
    first = add(catalog)
    catalog.vanished(first)
    second = add(catalog)
    assert [(r.id, r.generation) for r in catalog.records()] == [(first, 1), (second, 2)]
    settle(catalog, second)
    third = add(catalog, "checkpoint-200")
    settle(catalog, third)
    assert [r.landing_seq for r in catalog.records(gone=False)] == [1, 2]


def test_what_was_read_first_stays_until_it_settles_anew(catalog: WorkerCatalog) -> None:
    found = add(catalog)
    settle(catalog, found)
    judge(catalog, found, digest="first")
    judge(catalog, found, digest="other")
    assert catalog.digests(found) == {"model.safetensors": "first"}
    catalog.recheck(found, "the machine went down")
    judge(catalog, found, digest="other")
    assert catalog.digests(found) == {"model.safetensors": "first"}
    catalog.recheck(found, "the machine went down")
    catalog.stirred(found, SEEN)
    settle(catalog, found)
    judge(catalog, found, digest="other")
    assert catalog.digests(found) == {"model.safetensors": "other"}


# --- what a reader notices ---


def test_the_revision_changes_with_what_answers_depend_on_and_with_nothing_else(catalog: WorkerCatalog) -> None:
    revisions = [catalog.revision()]
    found = add(catalog)
    steps: list[Callable[[], object]] = [
        lambda: settle(catalog, found),
        lambda: judge(catalog, found),
        lambda: catalog.metadata_changed(found, SEEN),
        lambda: catalog.remember_root(Root("/out", "marker", 1, "away")),
        lambda: catalog.vanished(found),
    ]
    for step in steps:
        step()
        revisions.append(catalog.revision())
    assert sorted(set(revisions)) == revisions
    catalog.log("landing", "message", now=NOON)
    catalog.heartbeat(WorkerStatus(1, NOON, NOON, first_scan_done=True, watch={}, progress={}))
    catalog.add_request("landed", run=".", name="checkpoint-100", now=NOON)
    assert catalog.revision() == revisions[-1]


def test_records_since_a_revision_are_those_written_after_it(catalog: WorkerCatalog) -> None:
    first, second = add(catalog), add(catalog, "checkpoint-200")
    seen = catalog.revision()
    assert catalog.records_since(seen) == []
    settle(catalog, first)
    assert [record.id for record in catalog.records_since(seen)] == [first]
    seen = catalog.revision()
    catalog.vanished(second)
    assert [record.id for record in catalog.records_since(seen)] == [second]


def test_two_connections_see_each_others_writes(catalog: WorkerCatalog, tmp_path: Path) -> None:
    other = WorkerCatalog(str(tmp_path / "state"))
    version = other.version()
    assert other.version() == version
    found = add(catalog)
    assert other.version() != version
    assert other.record(found)[0].name == "checkpoint-100"
    request = other.add_request("landed", run=".", name="checkpoint-100", now=NOON)
    assert catalog.open_requests() == [request]
    catalog.close_request(request.id, done=True, result="well", now=NOON)
    assert (other.request(request.id).state, other.open_requests()) == ("done", [])
    other.close()


def test_pages_go_from_the_newest_down(catalog: WorkerCatalog) -> None:
    found = [add(catalog, f"checkpoint-{step}") for step in (100, 200, 300)]
    catalog.vanished(found[1])
    assert [record.number for record in catalog.page(limit=2)] == [300, 100]
    assert [record.number for record in catalog.page(before=found[2])] == [100]
    assert [record.number for record in catalog.page(state=State.GONE)] == [200]
    assert catalog.page(run="other") == []


# --- runs ---


def test_a_run_follows_its_roots_name_and_its_records_count_as_written(catalog: WorkerCatalog) -> None:
    found = add(catalog, run="llama")
    seen = catalog.revision()
    catalog.add_run("out/llama", "/out", "llama", NOON)
    assert [record.run for record in catalog.records_since(seen)] == ["out/llama"]
    assert catalog.record(found)[0].run == "out/llama"


def test_two_runs_never_share_a_name(catalog: WorkerCatalog) -> None:
    add(catalog, root="/yesterday")
    add(catalog, root="/today")
    assert {run.name: run.root for run in catalog.runs()} == {".": "/today", "/yesterday": "/yesterday"}
    assert [record.root for record in catalog.records(".")] == ["/today"]
    add(catalog, "checkpoint-200", root="/yesterday")
    assert {run.name: run.root for run in catalog.runs()} == {"/today": "/today", ".": "/yesterday"}


# --- events ---


def test_a_cursor_is_never_given_twice(catalog: WorkerCatalog, tmp_path: Path) -> None:
    for message in ("one", "two"):
        catalog.log("landing", message, now=NOON)
    last = catalog.events()[-1].id
    with sqlite3.connect(tmp_path / "state/catalog.db") as behind:
        behind.execute("DELETE FROM event")
    catalog.log("landing", "three", now=NOON)
    assert catalog.events()[0].id > last
    assert [event.message for event in catalog.events(since=last)] == ["three"]
    assert [event.message for event in catalog.last_events(5)] == ["three"]


def test_a_name_that_is_no_text_can_be_told(catalog: WorkerCatalog) -> None:
    catalog.log("landing", "caf\udce9 is landing", now=NOON)
    assert catalog.events()[0].message == r"caf\udce9 is landing"


# --- opening ---


def test_what_is_not_there_is_unknown(catalog: WorkerCatalog) -> None:
    with pytest.raises(Unknown):
        catalog.record(7)
    with pytest.raises(Unknown):
        catalog.request(7)
    assert catalog.worker() is None


def test_a_catalog_of_another_version_is_refused(catalog: WorkerCatalog, tmp_path: Path) -> None:
    catalog.close()
    with sqlite3.connect(tmp_path / "state/catalog.db") as behind:
        behind.execute("PRAGMA user_version = 99")
    with pytest.raises(CatalogError, match="schema 99"):
        WorkerCatalog(str(tmp_path / "state"))


def test_a_catalog_of_the_first_version_is_taken_over_with_all_that_it_holds(
    catalog: WorkerCatalog, tmp_path: Path
) -> None:
    found = add(catalog)
    settle(catalog, found)
    judge(catalog, found)
    catalog.close()
    later = {"checkpoint": ("metrics", "best", "failures", "trash", "until"), "root": ("known_since",)}
    with sqlite3.connect(tmp_path / "state/catalog.db") as behind:
        behind.execute("DROP TABLE hold")
        for table, columns in {**later, "run": ("policy",), "request": ("checkpoint_id", "arguments")}.items():
            for column in columns:
                behind.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        behind.execute("PRAGMA user_version = 1")
    again = WorkerCatalog(str(tmp_path / "state"))
    record, _report = again.record(found)
    assert (record.verdict, record.metrics, record.failures, record.trash) == (Verdict.COMPLETE, {}, 0, None)
    assert again.pin(found, holder="a person", now=NOON).pin
    again.close()


# --- leases and pins ---


def judged(catalog: WorkerCatalog, name: str = "checkpoint-100") -> int:
    found = add(catalog, name)
    settle(catalog, found)
    judge(catalog, found)
    return found


def chosen(catalog: WorkerCatalog, found: int, now: datetime = NOON) -> bool:
    return catalog.choose(found, trash="trash", until=now + timedelta(days=1), now=now)


def test_what_is_leased_cannot_be_chosen_for_removal_until_the_lease_ends(catalog: WorkerCatalog) -> None:
    found, hour = judged(catalog), timedelta(hours=1)
    lease = catalog.take_lease(found, holder="job", until=NOON + hour, now=NOON)
    assert not chosen(catalog, found)
    assert catalog.record(found)[0].state is State.VERIFIED
    catalog.renew_lease(lease.id, until=NOON + 2 * hour, now=NOON)
    assert not chosen(catalog, found, NOON + hour)
    with pytest.raises(Unknown, match="or it has ended"):
        catalog.renew_lease(lease.id, until=NOON + 4 * hour, now=NOON + 3 * hour)
    assert chosen(catalog, found, NOON + 3 * hour)
    assert catalog.record(found)[0].state is State.REMOVING


def test_what_is_chosen_for_removal_cannot_be_held_any_more(catalog: WorkerCatalog) -> None:
    found = judged(catalog)
    assert chosen(catalog, found)
    with pytest.raises(Conflict, match="the checkpoint is removing"):
        catalog.take_lease(found, holder="job", until=NOON + timedelta(hours=1), now=NOON)
    with pytest.raises(Conflict):
        catalog.pin(found, holder="a person", now=NOON)


def test_a_pin_is_one_has_no_end_and_is_no_lease(catalog: WorkerCatalog) -> None:
    found = judged(catalog)
    pin = catalog.pin(found, holder="a person", now=NOON)
    assert catalog.pin(found, holder="another", now=NOON) == pin
    assert catalog.holds(NOON + timedelta(days=9999)) == {found: [pin]}
    with pytest.raises(Unknown):
        catalog.end_lease(pin.id)
    assert not chosen(catalog, found)
    catalog.unpin(found)
    assert chosen(catalog, found)


def test_an_ended_lease_is_forgotten_and_its_id_never_given_again(catalog: WorkerCatalog) -> None:
    found = judged(catalog)
    lease = catalog.take_lease(found, holder="job", until=NOON, now=NOON)
    catalog.forget_leases(NOON + timedelta(days=1))
    assert catalog.take_lease(found, holder="job", until=NOON, now=NOON).id > lease.id


@pytest.mark.parametrize("verb", ["unpin", "end_lease"])
def test_there_is_nothing_to_end_where_nothing_is_held(catalog: WorkerCatalog, verb: str) -> None:
    with pytest.raises(Unknown):
        getattr(catalog, verb)(99)


def test_the_way_through_the_trash_is_remembered(catalog: WorkerCatalog) -> None:
    found = judged(catalog)
    chosen(catalog, found)
    catalog.discarded(found)
    record = catalog.record(found)[0]
    assert (record.state, record.trash, record.until) == (State.TRASHED, "trash", NOON + timedelta(days=1))
    catalog.undone(found)
    record = catalog.record(found)[0]
    assert (record.state, record.trash, record.until) == (State.VERIFIED, None, None)


def test_a_file_that_is_no_catalog_is_refused(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(CatalogError, match="cannot be used"):
        WorkerCatalog(str(tmp_path))


def test_a_network_filesystem_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "filesystem_of", lambda _path: "nfs4")
    with pytest.raises(CatalogError, match=r"lies on nfs4.*LASTGOOD_STATE_DIR"):
        WorkerCatalog(str(tmp_path))


@pytest.mark.parametrize("place", ["/proc/nowhere", "{}/file", "{}/file/below"])
def test_a_place_that_will_not_do_is_named(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = place.format(tmp_path)
    with pytest.raises(CatalogError, match=path):
        WorkerCatalog(path)
