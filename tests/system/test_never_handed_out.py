"""What must never be handed out, by real writers, where no file event helps: events switched off, and behind FUSE.

A fifth of a second of quiet stands for the three seconds of the defaults; what a writer here pauses is more than twice
that. Most of the time is spent in these pauses, so two of these tests may well run at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from builders import hf_files, make_hf_checkpoint, make_plain_checkpoint, plain_files, write_files
from mounting import bindfs
from running import SHORT, Asker, Watcher, both
from writing import Writer, acts_of_file, acts_of_save, writer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from writing import Act

PAUSE: Final = 0.5
ROWS: Final = 20_000  # 1.3 MB of weights


@dataclass
class Place:
    """One run below the watched folder, as the job that writes it sees it."""

    watcher: Watcher
    run: str
    written_at: Path  #: where the job writes; the watcher may see it elsewhere

    def folder(self, step: int) -> Path:
        return self.written_at / f"checkpoint-{step}"

    def latest(self) -> str | None:
        return self.watcher.latest_name(self.run)

    def record(self, step: int) -> dict[str, object]:
        return self.watcher.record(self.run, f"checkpoint-{step}")

    def wait_for_latest(self, step: int) -> None:
        self.watcher.wait(f"checkpoint-{step} of {self.run}", lambda: self.latest() == f"checkpoint-{step}")

    def wait_for_verdict(self, step: int, *verdicts: str) -> None:
        self.watcher.wait(f"{verdicts} on {step}", lambda: self.record(step).get("verdict") in verdicts)

    def wait_until_told(self, kind: str, step: int) -> None:
        def is_told() -> bool:
            told = self.watcher.events(run=self.run, kind=kind, name=f"checkpoint-{step}")
            return len(told) > 0

        self.watcher.wait(f"{kind} of checkpoint-{step}", is_told)

    def wait_until_seen(self, step: int) -> None:
        self.watcher.wait(f"checkpoint-{step} to be seen", lambda: self.record(step))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(False, id="events switched off"),
        pytest.param(True, id="behind FUSE", marks=pytest.mark.needs("bindfs")),
    ],
)
def watched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Watcher, Path]]:
    """A watcher whose file events never come, and where to write for it."""
    folder = tmp_path_factory.mktemp("watched")
    front, back = folder / "front", folder / "back"
    if not request.param:
        back.mkdir()
        with both(back, folder / "place", LASTGOOD_EVENTS="false", **SHORT) as watcher:
            yield watcher, back
        return
    with bindfs(back, front), both(front, folder / "place", **SHORT) as watcher:
        yield watcher, back


@pytest.fixture
def place(watched: tuple[Watcher, Path], request: pytest.FixtureRequest) -> Place:
    watcher, root = watched
    run = request.node.originalname.removeprefix("test_")
    (root / run).mkdir()
    return Place(watcher, run, root / run)


@pytest.fixture
def job() -> Iterator[Writer]:
    with writer() as made:
        yield made


@pytest.fixture
def hf(tmp_path: Path) -> Path:
    """What a save at step 200 holds."""
    return make_hf_checkpoint(tmp_path / "hf", 200, weight_rows=ROWS)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return make_plain_checkpoint(tmp_path / "plain", 200, weight_rows=ROWS)


HF_NAMES: Final = [name for name, _content in hf_files(200)]
PLAIN_NAMES: Final = [name for name, _content in plain_files(200)]


def test_a_slow_writer_is_waited_for(place: Place, job: Writer, hf: Path) -> None:
    make_hf_checkpoint(place.folder(100), 100)
    place.wait_for_latest(100)
    with Asker(place.watcher, [place.run]) as asker:
        for names in (HF_NAMES[:2], HF_NAMES[2:4], HF_NAMES[4:5], HF_NAMES[5:6], HF_NAMES[6:-1]):
            job.do([*acts_of_save(place.folder(200), hf, names), ("pause", PAUSE)])
            assert asker.handed_out(place.run) == {"checkpoint-100"}
            assert place.record(200)["state"] == "landing"
        job.do(acts_of_file(place.folder(200), HF_NAMES[-1], hf))
        place.wait_for_latest(200)
    assert place.record(200)["generation"] == 1


def test_a_file_of_full_size_that_is_filled_later_is_waited_for(place: Place, job: Writer, plain: Path) -> None:
    make_plain_checkpoint(place.folder(100), 100)
    place.wait_for_latest(100)
    weights, source = str(place.folder(200) / "model.safetensors"), str(plain / "model.safetensors")
    size = os.path.getsize(source)
    with Asker(place.watcher, [place.run]) as asker:
        job.do([("folder", str(place.folder(200))), ("create", weights, size), ("append", weights, source, 0, 4096)])
        job.do(acts_of_save(place.folder(200), plain, [n for n in PLAIN_NAMES if n != "model.safetensors"]))
        for at in range(4096, size, size // 3):
            job.do([("pause", PAUSE), ("append", weights, source, at, size // 3)])
            assert asker.handed_out(place.run) == {"checkpoint-100"}
        job.do([("close", weights)])
        place.wait_for_latest(200)
    assert place.record(200)["generation"] == 1


# Not behind FUSE: no lease tells of writers there, and a mapping that is not written through shows in nothing else.
@pytest.mark.parametrize("watched", [pytest.param(False, id="events switched off")], indirect=True)
def test_a_file_that_is_mapped_shared_is_waited_for(place: Place, job: Writer, plain: Path) -> None:
    weights = str(place.folder(200) / "model.safetensors")
    with Asker(place.watcher, [place.run]) as asker:
        job.do([*acts_of_file(place.folder(200), "model.safetensors", plain), ("map", weights)])
        job.do([*acts_of_save(place.folder(200), plain, [n for n in PLAIN_NAMES if n != "model.safetensors"])])
        place.watcher.wait(
            "the mapping to be noticed", lambda: "open for writing" in str(place.record(200).get("waiting_for"))
        )
        job.do([("pause", 3 * PAUSE)])
        assert asker.handed_out(place.run) == set()
        job.do([("unmap", weights)])
        place.wait_for_latest(200)


def test_a_folder_that_is_renamed_into_place_is_handed_out(place: Place, job: Writer, plain: Path) -> None:
    landing = place.written_at / "tmp-checkpoint-200"
    with Asker(place.watcher, [place.run]) as asker:
        job.do([*acts_of_save(landing, plain, PLAIN_NAMES), ("pause", 2 * PAUSE)])
        assert asker.handed_out(place.run) == set()
        assert place.watcher.records(place.run) == {}
        job.do([("rename", str(landing), str(place.folder(200)))])
        place.wait_for_latest(200)
    assert place.record(200)["evidence"] == "renamed"


def test_a_folder_renamed_into_place_before_it_is_whole_is_not_handed_out(
    place: Place, job: Writer, plain: Path
) -> None:
    landing = place.written_at / "tmp-checkpoint-200"
    weights, source = landing / "model.safetensors", plain / "model.safetensors"
    others = [name for name in PLAIN_NAMES if name != "model.safetensors"]
    half = [("create", str(weights)), ("append", str(weights), str(source), 0, source.stat().st_size // 2)]
    with Asker(place.watcher, [place.run]) as asker:
        job.do([*acts_of_save(landing, plain, others), *half, ("close", str(weights))])
        job.do([("rename", str(landing), str(place.folder(200))), ("pause", 3 * PAUSE)])
        place.wait_until_seen(200)
        make_plain_checkpoint(place.folder(300), 300)
        place.wait_for_latest(300)
        place.wait_for_verdict(200, "incomplete", "corrupt")
    assert asker.handed_out(place.run) <= {"checkpoint-300"}


def test_names_within_names_are_followed_when_each_is_renamed(place: Place, job: Writer, hf: Path) -> None:
    outer, inner = place.written_at / "job-tmp", place.written_at / "job-tmp" / "checkpoint-200-tmp"
    names = HF_NAMES[:-1]
    run = f"{place.run}/job"
    with Asker(place.watcher, [run, f"{run}-tmp"]) as asker:
        job.do([*acts_of_save(inner, hf, names), ("pause", PAUSE)])
        job.do([("rename", str(inner), str(outer / "checkpoint-200")), ("pause", PAUSE)])
        job.do([("rename", str(outer), str(place.written_at / "job")), ("pause", 2 * PAUSE)])
        assert asker.first_seen == {}
        job.do(acts_of_file(place.written_at / "job" / "checkpoint-200", HF_NAMES[-1], hf))
        place.watcher.wait("the whole of it", lambda: asker.first_seen)
    assert list(asker.first_seen) == [(run, "checkpoint-200")]


def test_a_save_over_an_old_one_is_not_handed_out_on_the_old_ones_marker(place: Place, job: Writer, hf: Path) -> None:
    make_hf_checkpoint(place.folder(200), 200, weight_rows=ROWS)
    place.wait_for_latest(200)
    job.do(acts_of_file(place.folder(200), HF_NAMES[0], hf))
    place.watcher.wait("the change to be seen", lambda: place.latest() is None, 10)
    with Asker(place.watcher, [place.run]) as asker:
        for names in (HF_NAMES[1:3], HF_NAMES[3:5], HF_NAMES[5:-1]):
            job.do([*acts_of_save(place.folder(200), hf, names), ("pause", PAUSE)])
            assert asker.handed_out(place.run) == set()
        job.do(acts_of_file(place.folder(200), HF_NAMES[-1], hf))
        place.wait_for_latest(200)
    assert place.record(200)["generation"] == 2


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_a_file_that_was_cut_short_keeps_its_checkpoint_back(
    watched: tuple[Watcher, Path], job: Writer, hf: Path, name: str
) -> None:
    watcher, root = watched
    place = Place(watcher, f"cut {name}", root / f"cut {name}")
    make_hf_checkpoint(place.folder(100), 100)
    place.wait_for_latest(100)
    with Asker(watcher, [place.run]) as asker:
        with (hf / name).open("r+b") as file:
            file.truncate((hf / name).stat().st_size // 2)
        job.do(acts_of_save(place.folder(200), hf, HF_NAMES))
        place.wait_until_seen(200)
        make_hf_checkpoint(place.folder(300), 300)
        place.wait_for_latest(300)
        place.wait_for_verdict(200, "incomplete", "corrupt")
    assert asker.handed_out(place.run) <= {"checkpoint-100", "checkpoint-300"}


def test_rotation_in_progress_raises_no_alarm(place: Place, job: Writer) -> None:
    for step in (100, 200, 300):
        make_hf_checkpoint(place.folder(step), step)
        place.wait_for_latest(step)
    for step in (100, 300):  # the oldest, as trainers do; then the very one that is handed out
        folder = place.folder(step)
        removals: list[Act] = [("remove", str(path)) for path in sorted(folder.iterdir())]
        for act in removals:
            job.do([act, ("pause", PAUSE / 16)])
        job.do([("remove", str(folder))])
        place.wait_until_told("removed-externally", step)
        place.wait_for_latest(200 if step == 300 else 300)
    told = place.watcher.events(run=place.run)
    assert {event["severity"] for event in told} == {"info"}
    assert [event for event in told if event["kind"] in ("changed", "damaged", "save-unfinished")] == []


def test_the_watch_says_that_it_is_blind_and_why(watched: tuple[Watcher, Path]) -> None:
    watcher, root = watched
    write_files(root / "blind" / "checkpoint-100", hf_files(100))
    watcher.wait("the run", lambda: watcher.latest_name("blind") == "checkpoint-100")
    if watcher.root == root:
        watch = watcher.get("/status")["watch"]
        assert (watch["mode"], watch["degraded"], watch["reason"]) == ("polling", False, "switched off")
        return
    watcher.wait("the watch to say so", lambda: watcher.get("/status")["watch"]["degraded"], 15)
    watch = watcher.get("/status")["watch"]
    assert watch["mode"] == "polling"
    assert "events" in watch["reason"]
