"""Saves that are written while training goes on; saves that a signal asks for; disks that are full."""

from __future__ import annotations

import collections
import copy
import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import torch

from lastgood import naming
from lastgood.errors import Damaged, LastgoodError
from lastgood.settings import Settings
from lastgood.training import CheckpointManager, SaveOptions, collecting, plainly, saving, weights
from lastgood.training.background import copied
from lastgood.verify import verify
from small_job import Recipe, SmallJob
from training_ranks import in_two_processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = Settings(url="http://127.0.0.1:1")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[CheckpointManager]:
    with CheckpointManager(tmp_path / "output", settings=NOBODY, async_save=True) as made:
        yield made


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """No save is written before this is set."""
    go, write = threading.Event(), saving.write

    def wait_and_write(*arguments: Any) -> None:
        assert go.wait(60)
        write(*arguments)

    monkeypatch.setattr(saving, "write", wait_and_write)
    yield go
    go.set()


def test_what_is_saved_is_the_state_of_that_moment_whatever_is_trained_meanwhile(
    manager: CheckpointManager, held: threading.Event
) -> None:
    job = SmallJob(Recipe())
    job.train(3)
    then = copy.deepcopy(job.everything())
    path = job.save(manager)
    job.train(9)
    assert not os.path.exists(path)
    held.set()
    manager.wait()
    assert verify(path).exact_resume
    resumed = SmallJob(Recipe(), seed=4)
    resumed.restore(manager)
    assert resumed.everything() == then


def test_a_resumed_run_ends_as_the_uninterrupted_one(manager: CheckpointManager) -> None:
    right = SmallJob(Recipe())
    right.train(20)
    job = SmallJob(Recipe())
    for step in range(4, 14, 3):
        job.train(step)
        job.save(manager)
    resumed = SmallJob(Recipe(), seed=4)
    resumed.restore(manager)
    resumed.train(20)
    assert resumed.everything() == right.everything()


def test_a_configuration_is_saved_as_it_was_at_that_moment(manager: CheckpointManager, held: threading.Event) -> None:
    model = torch.nn.Linear(2, 2)
    model.config = {"layers": {"count": 1}}
    path = manager.save(1, model=model)
    model.config["layers"]["count"] = 2
    held.set()
    manager.wait()
    with open(os.path.join(path, "config.json"), encoding="utf-8") as file:
        assert json.load(file)["layers"] == {"count": 1}


def test_the_next_save_waits_for_the_one_before(manager: CheckpointManager, held: threading.Event) -> None:
    job = SmallJob(Recipe())
    job.train(1)
    job.save(manager)
    threading.Timer(0.2, held.set).start()
    job.train(2)
    job.save(manager)
    assert "checkpoint-1" in os.listdir(manager.folder)


def test_a_failed_save_is_raised_by_the_next_call_and_leaves_nothing_that_looks_finished(
    manager: CheckpointManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    job = SmallJob(Recipe())
    job.train(1)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        job.save(manager)
        with pytest.raises(OSError, match="No space left") as told:
            manager.wait()
    assert "checkpoint-1, which was saved in the background" in str(told.value.__notes__)
    assert "failed" in caplog.text
    assert os.listdir(manager.folder) == []
    manager.wait()
    job.save(manager)  # said once, and over
    manager.wait()
    assert os.listdir(manager.folder) == ["checkpoint-1"]


@pytest.mark.parametrize("beside", [False, True])
def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, beside: bool
) -> None:
    manager = CheckpointManager(tmp_path / "output", settings=NOBODY, async_save=beside)
    job = SmallJob(Recipe())
    job.train(1)
    job.save(manager)
    manager.wait()
    before = verify(os.path.join(manager.folder, "checkpoint-1")).fingerprint
    monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result((4096, 4096, 9, 9, 9, 9, 9, 9, 0, 255)))
    with pytest.raises(OSError, match=r"the save takes about [\d,]+ bytes, 36,864 are free"):
        job.save(manager)
    assert verify(os.path.join(manager.folder, "checkpoint-1")).fingerprint == before


def test_what_could_not_be_saved_whole_is_no_checkpoint(manager: CheckpointManager) -> None:
    class Forgetful:
        def save_pretrained(self, folder: str) -> None:
            """Writes nothing."""

    manager.save(1, model=torch.nn.Linear(2, 2), tokenizer=Forgetful())
    with pytest.raises(Damaged, match="checkpoint-1: the tokenizer has saved nothing"):
        manager.wait()
    assert os.listdir(manager.folder) == []


def test_a_loader_that_cannot_tell_where_it_stands_is_refused(manager: CheckpointManager) -> None:
    loader = torch.utils.data.DataLoader([1, 2, 3])
    with pytest.raises(TypeError, match="ResumableLoader, or torchdata's StatefulDataLoader"):
        manager.save(1, model=torch.nn.Linear(2, 2), dataloader=loader)


def test_copies_share_memory_where_the_tensors_did_and_nothing_else() -> None:
    table = torch.arange(12.0).view(3, 4)
    state = {"table": table, "row": table[1], "turned": table.T, "again": [table], "empty": torch.empty(0), "n": 1}
    made = copied(state)
    assert all(torch.equal(made[name], state[name]) for name in ("table", "row", "turned", "empty"))
    assert made["row"].untyped_storage().data_ptr() == made["table"].untyped_storage().data_ptr()
    table.zero_()
    assert made["table"].sum() == 66
    assert made["turned"].stride() == (1, 4)


def test_copies_are_of_the_same_kind_and_the_same_numbers() -> None:
    numbers = torch.tensor([1 + 2j, 3 - 4j])
    state = {"milestones": Counter([3, 3, 5]), "conjugate": numbers.conj(), "negative": numbers.conj().imag}
    made = copied(state)
    assert list(made["milestones"].elements()) == [3, 3, 5]
    assert made["conjugate"].tolist() == [1 - 2j, 3 + 4j]
    assert made["negative"].tolist() == [-2.0, 4.0]


@pytest.fixture
def alarms_interrupt() -> Iterator[None]:
    """An alarm is a Ctrl-C."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarms_interrupt")
def test_whoever_ends_the_waiting_does_not_end_the_save(manager: CheckpointManager, held: threading.Event) -> None:
    path = SmallJob(Recipe()).save(manager)
    with pytest.raises(KeyboardInterrupt):
        _wait_until_interrupted(manager)
    assert not os.path.exists(path)
    held.set()
    manager.wait()
    assert os.path.exists(path)


def _wait_until_interrupted(manager: CheckpointManager) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    manager.wait()


def test_a_signal_while_the_last_save_is_waited_for_ends_neither_the_job_nor_the_save(
    tmp_path: Path, held: threading.Event
) -> None:
    manager = CheckpointManager(tmp_path / "output", settings=NOBODY, async_save=True)
    manager.save_on_signals()
    path = SmallJob(Recipe()).save(manager)

    def end_the_job(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        held.set()

    before = signal.signal(signal.SIGALRM, end_the_job)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        manager.close()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert held.is_set()
    assert os.path.exists(path)


def test_a_full_disk_is_told_as_one() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        plainly.save({"weights": torch.zeros(1 << 20)}, "/dev/full")


def test_a_disk_that_fills_in_the_middle_is_told_as_one(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            plainly.save({"weights": torch.zeros(1 << 20)}, str(tmp_path / "training_state.pt"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_weights_that_cannot_be_written_are_an_error_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        weights.write_weights(str(tmp_path), {"weight": torch.zeros(4)}, as_safetensors=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("beside", [False, True])
def test_a_signal_makes_a_save_due_which_is_there_when_the_job_is_told_to_end(
    tmp_path: Path, number: signal.Signals, *, beside: bool
) -> None:
    with CheckpointManager(tmp_path / "output", settings=NOBODY, save_strategy="no", async_save=beside) as manager:
        manager.save_on_signals()
        job, stopped_at = SmallJob(Recipe()), None
        for step in range(1, 9):
            job.train(step)
            if step == 4:
                os.kill(os.getpid(), number)
            if manager.is_due(step):
                job.save(manager)
            if manager.preempted:
                stopped_at = step
                break
        assert stopped_at == 4
        assert os.listdir(manager.folder) == ["checkpoint-4"]
        assert verify(os.path.join(manager.folder, "checkpoint-4")).exact_resume
        assert os.path.exists(os.path.join(manager.folder, "checkpoint-4", naming.FILE_LIST))


def test_more_signals_change_nothing_until_it_is_saved_and_then_do_what_they_did_before(tmp_path: Path) -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: came.append(number))
    try:
        with CheckpointManager(tmp_path / "output", settings=NOBODY) as manager:
            manager.save_on_signals(signal.SIGUSR1)
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGUSR1)
            assert (came, manager.is_due(5), manager.preempted) == ([], True, False)
            manager.save(5, model=torch.nn.Linear(2, 2))
            assert (came, manager.is_due(6), manager.preempted) == ([], False, True)
            os.kill(os.getpid(), signal.SIGUSR1)
            assert came == [signal.SIGUSR1]
        os.kill(os.getpid(), signal.SIGUSR1)
        assert len(came) == 2
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_save_that_failed_before_does_not_stand_in_the_way_of_the_last_one(
    manager: CheckpointManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    manager.save_on_signals(signal.SIGUSR1)
    model = torch.nn.Linear(2, 2)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        manager.save(1, model=model)
        with pytest.raises(OSError, match="No space"):
            manager._background._running.result()  # type: ignore[union-attr]
    os.kill(os.getpid(), signal.SIGUSR1)
    assert manager.save_if_due(2, model=model) is not None
    assert os.listdir(manager.folder) == ["checkpoint-2"]


def test_a_signal_without_a_name_makes_a_save_due_as_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    number = signal.SIGRTMIN + 1
    with CheckpointManager(tmp_path, settings=NOBODY) as manager:
        manager.save_on_signals(number)
        os.kill(os.getpid(), number)
        assert manager.is_due(1)
    assert f"signal {int(number)} came" in caplog.text


@pytest.mark.parametrize("signalled", [0, 1])
def test_a_signal_to_one_process_is_a_signal_to_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signalled: int
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")

    def train(rank: int) -> str:
        manager = CheckpointManager(tmp_path / "output", settings=NOBODY, save_strategy="no")
        manager.save_on_signals(signal.SIGUSR1)
        job, told = SmallJob(Recipe()), []
        for step in range(1, 5):
            job.train(step)
            if step == 3 and rank == signalled:
                os.kill(os.getpid(), signal.SIGUSR1)
            due = manager.is_due(step)
            if due:
                job.save(manager)
            told.append(f"{due}-{manager.preempted}")
            if manager.preempted:
                break
        return f"{step} {told[-1]}"

    assert in_two_processes(tmp_path / "store", train) == ["3 True-True", "3 True-True"]
    assert os.listdir(tmp_path / "output") == ["checkpoint-3"]


def test_the_others_do_not_believe_in_a_save_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")

    def train(rank: int) -> str:
        manager = CheckpointManager(tmp_path / "output", settings=NOBODY)
        manager.save_on_signals(signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        if rank == 0:
            monkeypatch.setattr(saving, "write", _fail)
        assert manager.is_due(1)
        with pytest.raises(LastgoodError, match="the disk burns"):
            manager.save(1, model=torch.nn.Linear(2, 2))
        return str(manager.preempted)

    assert in_two_processes(tmp_path / "store", train) == ["False", "False"]


def test_every_process_asks_for_signals_also_where_the_save_of_this_step_failed_in_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")

    def train(rank: int) -> str:
        manager = CheckpointManager(tmp_path / "output", settings=NOBODY, save_steps=1)
        manager.save_on_signals(signal.SIGUSR1)
        if rank == 0:
            monkeypatch.setattr(saving, "write", _fail)
        with suppress(LastgoodError):
            manager.save_if_due(1, model=torch.nn.Linear(2, 2))
        return f"{manager.is_due(1)} {manager.is_due(2)}"

    assert in_two_processes(tmp_path / "store", train) == ["True True", "False True"]


def _fail(*_: object) -> None:
    raise Damaged("the disk burns")


def test_what_a_save_does_not_take_is_named(manager: CheckpointManager) -> None:
    with pytest.raises(TypeError, match="a save takes no optimiser; it takes model, optimizer"):
        manager.save(1, model=torch.nn.Linear(2, 2), optimiser=None)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="a save takes a model"):
        manager.save(1)  # type: ignore[call-arg]


_LAST: Final = """
import sys, torch
from lastgood.settings import Settings
from lastgood.training import CheckpointManager
model = torch.nn.Linear(2000, 2000)
manager = CheckpointManager(sys.argv[1], settings=Settings(url="http://127.0.0.1:1"), async_save=True)
manager.save(1, model=model)
manager.save(2, model=model)
"""


def test_the_last_save_of_a_job_that_just_ends_is_there(tmp_path: Path) -> None:
    """Files of several pieces are listed by threads, and a Python that ends starts none."""
    done = subprocess.run([sys.executable, "-c", _LAST, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-1", "checkpoint-2"]
    assert verify(str(tmp_path / "checkpoint-2")).verdict == "partial"  # it has no optimizer


def test_copies_of_views_that_are_resolved_do_not_take_each_others_place() -> None:
    made = copied({name: torch.rand(300, 200, dtype=torch.complex64).conj() for name in "abcdef"} | {"n": 1})
    again = {name: torch.full((300, 200), float(n), dtype=torch.complex64).conj() for n, name in enumerate("abcdef")}
    found = copied(again)
    assert all(torch.equal(found[name], again[name]) for name in again)
    assert made["n"] == 1
    kept = weights.without_shared(again)
    assert {name: tensor[0, 0].item().real for name, tensor in kept.items()} == dict(
        zip("abcdef", range(6), strict=True)
    )


def test_ctrl_c_in_the_middle_of_a_save_is_ctrl_c(tmp_path: Path) -> None:
    class Stopped:
        """A file of which the second piece is never written."""

        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plainly.save({"weights": torch.zeros(1 << 20), "then": Stopped()}, str(tmp_path / "training_state.pt"))


def test_why_a_block_is_left_counts_more_than_a_save_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "write", _fail)

    def leave() -> None:
        with CheckpointManager(tmp_path / "output", settings=NOBODY, async_save=True) as manager:
            manager.save(1, model=torch.nn.Linear(2, 2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()


def test_closing_twice_takes_no_signal_from_who_has_it_since(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path / "output", settings=NOBODY)
    before = signal.getsignal(signal.SIGUSR1)
    try:
        manager.save_on_signals(signal.SIGUSR1)
        manager.save_on_signals(signal.SIGUSR1)
        manager.close()
        assert signal.getsignal(signal.SIGUSR1) == before
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        manager.close()
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
        with pytest.raises(OSError, match="Invalid argument"):
            manager.save_on_signals(signal.SIGUSR1, signal.SIGKILL)
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_room_that_a_save_takes_is_that_of_what_it_writes(tmp_path: Path) -> None:
    def bytes_of(value: Any, **options: Any) -> int:
        parts: Any = {"model": torch.nn.Linear(2, 2), "additional_state": {"value": value}}
        return collecting.collect(1, SaveOptions.of(None, **options), parts).bytes

    least = bytes_of(0)
    wide = torch.sparse_coo_tensor(
        torch.tensor([[0, 5], [1, 7]]), torch.ones(2), (2_000_000, 2_000_000), check_invariants=True
    )
    assert bytes_of(wide) - least < 1000
    assert 10**8 <= bytes_of(np.zeros(10**8, np.uint8)) - least < 1.1 * 10**8
    assert bytes_of(torch.zeros(10**6), compress_state=True) - least > 7.9 * 10**6


def test_numbers_of_numpy_are_numbers(manager: CheckpointManager) -> None:
    metrics = {
        "f1": np.float32(0.5),
        "count": np.int16(3),
        "by": {"class": np.float16(1)},
        "map": np.zeros(3, np.uint8),
    }
    losses: Any = np.array([0.5, 0.25])
    path = manager.save(1, model=torch.nn.Linear(2, 2), best_loss=0.25, metrics=metrics, epoch_losses=losses)
    manager.wait()
    found = CheckpointManager.load_checkpoint(path, torch.nn.Linear(2, 2))
    assert (found["epoch_losses"], found["metrics"]["f1"], found["metrics"]["count"]) == ([0.5, 0.25], 0.5, 3)
    assert found["metrics"]["map"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        pytest.param({"optimizer": [1, 2]}, "the optimizer is one object with a state_dict(), not a list", id="a list"),
        pytest.param({"scheduler": "cosine"}, "the scheduler is one object with a state_dict()", id="a name"),
        pytest.param({"metrics": [1, 2]}, "metrics is a mapping, by name, not a list", id="numbers without names"),
        pytest.param({"additional_state": 5}, "additional_state is a mapping, by name, not a int", id="a number"),
        pytest.param(
            {"additional_state": {"a": [{"of": random.Random(1)}]}},
            "additional_state['a'][0]['of'] is not saved: a Random is neither a tensor nor a plain", id="an object",
        ),
        pytest.param(
            {"additional_state": {"f": lambda: 1}}, "additional_state['f'] is not saved: a function", id="a function"
        ),
        pytest.param(
            {"additional_state": {"d": collections.defaultdict(list)}},
            "additional_state['d'] is not saved: a defaultdict", id="a dictionary with a function",
        ),
        pytest.param(
            {"additional_state": {"of": {PurePath("a"): 1}}},
            "additional_state['of'], of which a key is not saved: a PurePosixPath", id="a key",
        ),
        pytest.param(
            {"additional_state": {"o": np.array([None])}}, "additional_state['o'] is not saved: a ndarray", id="objects"
        ),
        pytest.param({"epoch_losses": "abc"}, "losses are numbers, not 'abc'", id="a text for losses"),
        pytest.param(
            {"metrics": {"lock": threading.Lock()}}, "metrics['lock'] is not saved: a lock", id="what cannot be pickled"
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_saved_is_named_with_its_place(
    manager: CheckpointManager, parts: dict[str, Any], complaint: str
) -> None:
    def save() -> None:
        manager.save(1, model=torch.nn.Linear(2, 2), **parts)
        manager.wait()

    with pytest.raises(TypeError) as told:
        save()
    assert complaint in str(told.value)
    assert os.listdir(manager.folder) == []


def test_a_failed_save_is_raised_by_every_way_to_go_on(
    manager: CheckpointManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    for option in (True, False, "nowhere"):
        manager.options = manager.options.model_copy(update={"resume_from_checkpoint": option})
        with monkeypatch.context() as patch:
            patch.setattr(saving, "write", _fail)
            manager.save(1, model=torch.nn.Linear(2, 2))
            with pytest.raises(Damaged, match="the disk burns"):
                manager.resume(torch.nn.Linear(2, 2))


def test_signals_are_the_main_threads(manager: CheckpointManager) -> None:
    told: list[BaseException] = []

    def ask() -> None:
        try:
            manager.save_on_signals()
        except RuntimeError as error:
            told.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert "in the main thread alone" in str(told[0])
