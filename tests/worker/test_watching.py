"""Real file events, and every way in which they fail to come. Hints only: whatever is lost, a scan finds it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from lastgood.training.whole_folder import whole_folder
from lastgood_worker.watching import Watch, WatchStatus
from mounting import bindfs
from running import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

DIED: Final = "what reads file events died; it is started again within a minute"


class Tended:
    """A watch on one root, tended on a simulated clock."""

    def __init__(self, root: Path, *, events: bool = True, probed: bool = True) -> None:
        self.wake = threading.Event()
        self.watch = Watch(self.wake, events=events)
        self.root, self.at, self._probed = root, 1000.0, probed

    def tend(self, seconds: float = 0.0) -> WatchStatus:
        self.at += seconds
        roots = [str(self.root)]
        self.watch.tend(roots, roots if self._probed else [], self.at)
        return self.watch.status

    def wait_for_events(self) -> None:
        wait_for("the probe to be answered", lambda: self.tend().mode == "events", 30)

    def wait_for(self, path: Path) -> None:
        """Until an event told of the path."""
        seen: set[str] = set()

        def told() -> bool:
            seen.update(self.watch.take_stirred())
            return str(path) in seen

        wait_for(f"an event of {path}", told, 30)


@contextmanager
def tended(root: Path, *, events: bool = True, probed: bool = True) -> Iterator[Tended]:
    made = Tended(root, events=events, probed=probed)
    try:
        yield made
    finally:
        made.watch.stop()


def test_events_come_and_say_where_something_stirred(tmp_path: Path) -> None:
    with tended(tmp_path) as made:
        assert made.watch.status == WatchStatus("polling", degraded=False, reason="not tried yet")
        made.wait_for_events()
        assert made.watch.status == WatchStatus("events", degraded=False, reason=None)
        made.wake.clear()
        (tmp_path / "checkpoint-100").mkdir()
        made.wait_for(tmp_path / "checkpoint-100")
        assert made.wake.is_set()
        (tmp_path / "checkpoint-100/config.json").write_text("{}")
        made.wait_for(tmp_path / "checkpoint-100/config.json")
        (tmp_path / "checkpoint-100").rename(tmp_path / "checkpoint-200")
        made.wait_for(tmp_path / "checkpoint-200")


def test_what_we_read_and_write_ourselves_wakes_nobody(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with tended(tmp_path) as made:
        made.wait_for_events()
        made.wake.clear()
        made.watch.take_stirred()
        (tmp_path / "config.json").read_text()
        (tmp_path / ".lastgood/latest.json").write_text("{}")
        (tmp_path / ".lastgood-root").write_text("{}")
        (tmp_path / "end").touch()  # events come in order: when this one is there, the others would have been
        made.wait_for(tmp_path / "end")
        assert made.watch.take_stirred() <= {str(tmp_path), str(tmp_path / "end")}


def test_a_root_may_lie_in_a_folder_that_is_called_as_ours_are(tmp_path: Path) -> None:
    root = tmp_path / ".lastgood" / "runs"
    root.mkdir(parents=True)
    with tended(root) as made:
        made.wait_for_events()
        (root / "checkpoint-100").mkdir()
        made.wait_for(root / "checkpoint-100")


def test_a_probe_that_is_not_answered_makes_the_watch_degraded_until_it_is(tmp_path: Path) -> None:
    with tended(tmp_path) as made:
        made.wait_for_events()
        (emitter,) = made.watch._observer.emitters
        made.watch._observer.remove_handler_for_watch(made.watch, emitter.watch)  # it lives, and tells nothing
        made.tend(61)
        status = made.tend(5.1)
        assert status == WatchStatus("polling", degraded=True, reason=status.reason)
        assert f"no file events come from {tmp_path}" in str(status.reason)
        made.tend(61)
        made.wait_for_events()


@pytest.mark.needs("bindfs")
def test_where_others_write_through_another_mount_our_own_probe_proves_nothing(tmp_path: Path) -> None:
    with bindfs(tmp_path / "back", tmp_path / "front"), tended(tmp_path / "front") as made:
        made.tend()
        wait_for("the probe to be answered", lambda: made.tend().reason != "not tried yet", 30)
        status = made.tend()
        assert status == WatchStatus("polling", degraded=True, reason=status.reason)
        assert "fuse" in str(status.reason)
        assert "makes no file events" in str(status.reason)


def test_an_observer_that_died_makes_the_watch_degraded_and_is_started_again(tmp_path: Path) -> None:
    with tended(tmp_path) as made:
        made.wait_for_events()
        (emitter,) = made.watch._observer.emitters
        emitter.stop()
        emitter.join()
        assert made.tend() == WatchStatus("polling", degraded=True, reason=DIED)
        assert made.tend(30).mode == "polling"
        made.tend(31)
        made.wait_for_events()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_save_that_replaces_another_may_end_the_events_but_not_unnoticed(tmp_path: Path) -> None:
    with tended(tmp_path) as made:
        made.wait_for_events()
        for _ in range(2):
            with whole_folder(str(tmp_path / "checkpoint-100")) as draft:
                (Path(draft) / "config.json").write_text("{}")
                made.wait_for(Path(draft) / "config.json")
        (tmp_path / "end").touch()
        wait_for("events, or a word that there are none", lambda: knows_of_the_end(made), 30)
        made.tend(61)
        made.wait_for_events()


def knows_of_the_end(made: Tended) -> bool:
    return str(made.root / "end") in made.watch.take_stirred() or made.tend().reason == DIED


def test_switched_off_is_polling_and_no_trouble(tmp_path: Path) -> None:
    with tended(tmp_path, events=False) as made:
        assert made.tend(100) == WatchStatus("polling", degraded=False, reason="switched off")
        (tmp_path / "checkpoint-100").mkdir()
        assert made.watch._observer is None


def test_a_probe_that_cannot_be_written_makes_the_watch_degraded(tmp_path: Path) -> None:
    (tmp_path / ".lastgood").write_text("a file where our folder belongs")
    with tended(tmp_path) as made:
        status = made.tend()
    assert status.mode == "polling"
    assert status.degraded
    assert f"the probe {tmp_path}/.lastgood/probe cannot be written" in str(status.reason)


def test_a_root_that_cannot_be_watched_makes_the_watch_degraded(tmp_path: Path) -> None:
    with tended(tmp_path / "gone") as made:
        status = made.tend()
    assert status.degraded
    assert "file events cannot be had" in str(status.reason)


def test_a_root_in_which_nothing_was_saved_yet_is_not_written_to(tmp_path: Path) -> None:
    with tended(tmp_path, probed=False) as made:
        made.tend()
        (tmp_path / "checkpoint-100").mkdir()
        made.wait_for(tmp_path / "checkpoint-100")
        assert not (tmp_path / ".lastgood").exists()


def test_roots_that_come_later_are_watched_as_well(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with tended(tmp_path / "one") as made:
        made.wait_for_events()
        made.watch.tend([str(tmp_path / "one"), str(tmp_path / "two")], [], made.at + 61)
        (tmp_path / "two/checkpoint-100").mkdir()
        made.wait_for(tmp_path / "two/checkpoint-100")


def test_stopping_ends_every_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with tended(tmp_path) as made:
        made.tend()
    deadline = time.monotonic() + 30
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
