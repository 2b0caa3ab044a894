"""Every optimizer goes on as it was; what is another job's is refused, or is no exact continuation."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from copy import deepcopy
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import RandomSampler, WeightedRandomSampler
from torchdata.stateful_dataloader import StatefulDataLoader, sampler
from transformers.optimization import Adafactor, get_cosine_schedule_with_warmup

from lastgood.errors import Damaged, NoneAcceptable, NotACheckpoint
from lastgood.findings import Verdict
from lastgood.settings import Settings
from lastgood.training import CheckpointManager, ResumableLoader, restore_rng_states, set_seed
from lastgood.verify import verify
from small_job import Recipe, SmallJob

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lastgood.training import Restored

NOBODY = Settings(url="http://127.0.0.1:1")


class Lion(torch.optim.Optimizer):  # type: ignore[misc]
    """As users write them: no more options than it needs."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.01, "beta": 0.9})

    def step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                moment = self.state[parameter].setdefault("exp_avg", torch.zeros_like(parameter))
                moment.mul_(group["beta"]).add_(parameter.grad)
                parameter.data.add_(moment.sign(), alpha=-group["lr"])


class OneNumberEach(torch.optim.Optimizer):  # type: ignore[misc]
    """As NovoGrad: a second moment for the whole of each parameter."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.01, "grad_averaging": False})

    def step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["step"] = state.get("step", 0) + 1
                state["exp_avg"] = parameter.grad + 0.9 * state.get("exp_avg", 0)
                state["exp_avg_sq"] = parameter.grad.pow(2).sum() + 0.9 * state.get("exp_avg_sq", 0)
                parameter.data.add_(state["exp_avg"] / (1 + state["exp_avg_sq"].sqrt()), alpha=-group["lr"])


class FewDirections(torch.optim.Optimizer):  # type: ignore[misc]
    """As GaLore: moments of two directions of each matrix."""

    def __init__(self, parameters: Any) -> None:
        super().__init__([one for one in parameters if one.dim() == 2], {"lr": 0.01, "rank": 2})

    def step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                moment = self.state[parameter].setdefault("exp_avg", torch.zeros(2, parameter.shape[1]).to(parameter))
                moment.add_(parameter.grad[:2])
                parameter.data[:2].add_(moment, alpha=-group["lr"])


def torchs(name: str, **options: Any) -> Any:
    return lambda parameters: getattr(torch.optim, name)(parameters, **options)


MAKERS: list[Any] = [
    *(
        pytest.param(torchs(name), id=name)
        for name in ("Adadelta", "Adafactor", "Adagrad", "Adam", "Adamax", "AdamW", "ASGD", "NAdam", "RAdam", "RMSprop")
    ),
    pytest.param(torchs("Rprop"), id="Rprop"),
    pytest.param(torchs("SGD", momentum=0.9), id="SGD"),
    pytest.param(torchs("AdamW", amsgrad=True, fused=True), id="fused"),
    pytest.param(lambda parameters: torch.optim.Muon([one for one in parameters if one.dim() == 2]), id="Muon"),
    pytest.param(Adafactor, id="Adafactor of transformers, which finds its rates"),
    pytest.param(Lion, id="one of the job's own"),
    pytest.param(OneNumberEach, id="second moments of one number"),
    pytest.param(FewDirections, id="moments of a few directions"),
]


class Job:
    """A model of four layers and an optimizer; every step draws from torch's generator."""

    def __init__(self, make: Any, dtype: torch.dtype = torch.float32) -> None:
        set_seed(3)
        self.model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.Linear(4, 3)).to(dtype)
        self.optimizer = make(self.model.parameters())
        self.dtype = dtype

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.model.zero_grad()
            self.model(torch.randn(4, 6).to(self.dtype)).pow(2).mean().backward()
            self.optimizer.step()

    def resume(self, folder: Path, **options: Any) -> Restored:
        manager = CheckpointManager(folder, settings=NOBODY, **options)
        start = manager.resume(self.model, self.optimizer)
        assert start is not None
        return start


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("make", MAKERS)
def test_every_optimizer_goes_on_bit_for_bit(tmp_path: Path, make: Any, dtype: torch.dtype) -> None:
    job = Job(make, dtype)
    job.train(3)
    path = CheckpointManager(tmp_path, settings=NOBODY).save(3, model=job.model, optimizer=job.optimizer)
    assert verify(path).verdict is Verdict.COMPLETE
    job.train(3)
    for _ in range(2):  # the second time into an optimizer that was loaded before
        resumed = Job(make, dtype)
        resumed.optimizer.load_state_dict(deepcopy(resumed.optimizer.state_dict()))
        assert resumed.resume(tmp_path).exact
        resumed.train(3)
        assert all(map(torch.equal, resumed.model.parameters(), job.model.parameters()))


def test_moments_of_more_digits_than_the_weights_stay_so(tmp_path: Path) -> None:
    job = Job(torchs("AdamW"), torch.bfloat16)
    job.train(1)
    for state in job.optimizer.state.values():
        state["exp_avg"] = state["exp_avg"].float() + 1e-6
    CheckpointManager(tmp_path, settings=NOBODY).save(1, model=job.model, optimizer=job.optimizer)
    resumed = Job(torchs("AdamW"), torch.bfloat16)
    assert resumed.resume(tmp_path).exact
    for before, after in zip(job.optimizer.state.values(), resumed.optimizer.state.values(), strict=True):
        assert torch.equal(before["exp_avg"], after["exp_avg"])
    other = Job(torchs("AdamW"), torch.float16)  # on purpose: rounded as torch does it
    assert not other.resume(tmp_path).exact
    assert {state["exp_avg"].dtype for state in other.optimizer.state.values()} == {torch.float16}


def test_an_optimizer_of_other_parameters_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3))
    optimizer = torch.optim.AdamW(model[0].parameters())
    model(torch.randn(2, 6)).sum().backward()
    optimizer.step()
    manager = CheckpointManager(tmp_path, settings=NOBODY)
    manager.save(1, model=model, optimizer=optimizer)
    other = deepcopy(model)
    nn.init.zeros_(other[0].weight)
    with pytest.raises(ValueError, match=r"is of a parameter of \[6, 6\], where one of \[3, 6\] is here"):
        manager.resume(other, torch.optim.AdamW(other[1].parameters()))
    assert not other[0].weight.any()


def test_an_optimizer_of_parameters_of_other_names_is_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    optimizer = torch.optim.AdamW(list(model.named_parameters())[:2])
    model(torch.randn(2, 6)).sum().backward()
    optimizer.step()
    manager = CheckpointManager(tmp_path, settings=NOBODY)
    manager.save(1, model=model, optimizer=optimizer)
    with pytest.raises(ValueError, match=r"is of the parameter 0\.weight, where 1\.weight is here"):
        manager.resume(model, torch.optim.AdamW(list(model.named_parameters())[2:]))
    wrapped = [(f"module.{name}", parameter) for name, parameter in model.named_parameters()][:2]
    start = manager.resume(model, torch.optim.AdamW(wrapped))
    assert start is not None
    assert start.exact


@pytest.mark.parametrize(
    ("saved", "now"),
    [
        pytest.param(torchs("Adam"), torchs("RAdam"), id="another optimizer"),
        pytest.param(torchs("Adam"), torchs("Adamax"), id="another one that keeps other moments"),
    ],
)
def test_another_kind_of_optimizer_is_no_exact_continuation(
    tmp_path: Path, saved: Any, now: Any, caplog: pytest.LogCaptureFixture
) -> None:
    job = Job(saved)
    job.train(2)
    CheckpointManager(tmp_path, settings=NOBODY).save(2, model=job.model, optimizer=job.optimizer)
    assert not Job(now).resume(tmp_path).exact
    assert "the optimizer was a Adam when it was saved, and is a" in caplog.text


def warm_then_cosine(optimizer: Any) -> Any:
    parts = [lr_scheduler.LinearLR(optimizer), lr_scheduler.CosineAnnealingLR(optimizer, 9)]
    return lr_scheduler.SequentialLR(optimizer, parts, [2])


def constant_then_falling(optimizer: Any) -> Any:
    parts = [lr_scheduler.ConstantLR(optimizer), lr_scheduler.ExponentialLR(optimizer, 0.9)]
    return lr_scheduler.SequentialLR(optimizer, parts, [2])


@pytest.mark.parametrize(
    ("saved", "now"),
    [
        pytest.param(warm_then_cosine, constant_then_falling, id="of other parts"),
        pytest.param(
            lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda _step: 0.9),
            lambda optimizer: lr_scheduler.MultiplicativeLR(optimizer, lambda _step: 0.9),
            id="that keeps the same",
        ),
    ],
)
def test_another_kind_of_schedule_is_no_exact_continuation(
    tmp_path: Path, saved: Callable[[Any], Any], now: Callable[[Any], Any]
) -> None:
    job = Job(torchs("AdamW"))
    scheduler = saved(job.optimizer)
    job.train(2)
    manager = CheckpointManager(tmp_path, settings=NOBODY)
    manager.save(2, model=job.model, optimizer=job.optimizer, scheduler=scheduler)
    for kind, exact in ((now, False), (saved, True)):
        other = Job(torchs("AdamW"))
        start = manager.resume(other.model, other.optimizer, kind(other.optimizer))
        assert start is not None
        assert start.exact is exact


@pytest.mark.parametrize(("now", "exact"), [(40, True), (400, False)])
def test_a_schedule_of_other_numbers_is_no_exact_continuation(tmp_path: Path, now: int, exact: bool) -> None:
    def job(steps: int) -> tuple[Job, Any]:
        made = Job(torchs("AdamW"))
        return made, get_cosine_schedule_with_warmup(made.optimizer, 3, steps)

    saved, scheduler = job(40)
    saved.train(2)
    manager = CheckpointManager(tmp_path, settings=NOBODY)
    manager.save(2, model=saved.model, optimizer=saved.optimizer, scheduler=scheduler)
    resumed, scheduler = job(now)
    start = manager.resume(resumed.model, resumed.optimizer, scheduler)
    assert start is not None
    assert start.exact is exact


def changed(state: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    buffers = {number: {"momentum_buffer": change(kept["momentum_buffer"])} for number, kept in state["state"].items()}
    return {**state, "state": buffers}


def test_what_hooks_of_the_job_make_of_the_state_is_left_as_they_make_it(tmp_path: Path) -> None:
    job, resumed = (Job(torchs("SGD", momentum=0.9)) for _ in range(2))
    for optimizer in (job.optimizer, resumed.optimizer):
        optimizer.register_state_dict_post_hook(lambda _, state: changed(state, lambda t: (9 * t).to(torch.int8)))
        optimizer.register_load_state_dict_pre_hook(lambda _, state: changed(state, lambda t: t.float() / 9))
    job.train(2)
    CheckpointManager(tmp_path, settings=NOBODY).save(2, model=job.model, optimizer=job.optimizer)
    assert not resumed.resume(tmp_path).exact
    assert {state["momentum_buffer"].dtype for state in resumed.optimizer.state.values()} == {torch.float32}
    resumed.train(1)


def test_an_optimizer_that_sorts_its_parameters_by_their_names_is_left_to_it(tmp_path: Path) -> None:
    job = Job(torchs("AdamW"))
    job.optimizer = torch.optim.AdamW(job.model.named_parameters())
    job.train(1)
    CheckpointManager(tmp_path, settings=NOBODY).save(1, model=job.model, optimizer=job.optimizer)
    resumed = Job(torchs("AdamW"))
    resumed.optimizer = torch.optim.AdamW(list(reversed(list(resumed.model.named_parameters()))))

    def by_names(optimizer: Any, state: dict[str, Any]) -> dict[str, Any]:
        (group,) = state["param_groups"]
        numbers = dict(zip(group["param_names"], group["params"], strict=True))
        names = optimizer.param_groups[0]["param_names"]
        moments = {place: state["state"][numbers[name]] for place, name in enumerate(names)}
        return {"state": moments, "param_groups": [{**group, "param_names": names, "params": list(range(len(names)))}]}

    resumed.optimizer.register_load_state_dict_pre_hook(by_names)
    assert resumed.resume(tmp_path).step == 1


def test_an_optimizer_that_overrides_loading_and_rounds_is_no_exact_continuation(tmp_path: Path) -> None:
    class Own(torch.optim.NAdam):  # type: ignore[misc]
        def load_state_dict(self, state: Any) -> None:
            super().load_state_dict(state)

    job = Job(Own, torch.bfloat16)
    job.train(2)
    CheckpointManager(tmp_path, settings=NOBODY).save(2, model=job.model, optimizer=job.optimizer)
    assert not Job(Own, torch.bfloat16).resume(tmp_path).exact


def test_what_is_like_an_optimizer_need_not_name_its_parameters(tmp_path: Path) -> None:
    class Like:
        def __init__(self) -> None:
            self.param_groups, self.count = [{"lr": 0.1}], 0

        def state_dict(self) -> dict[str, Any]:
            return {"count": self.count, "lr": 0.1}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.count = state["count"]

    model, optimizer, fresh = nn.Linear(2, 2), Like(), Like()
    optimizer.count = 5
    manager = CheckpointManager(tmp_path, settings=NOBODY, accept="partial")
    manager.save(1, model=model, optimizer=optimizer)
    assert manager.resume(model, fresh) is not None
    assert fresh.count == 5


def with_schedule(kind: Any, number: int) -> tuple[Any, Any, Any]:
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, optimizer, kind(optimizer, number)


def saved_after(steps: int, manager: CheckpointManager, job: tuple[Any, Any, Any]) -> Any:
    """The optimizer of the job, which has made so many steps and was saved."""
    model, optimizer, scheduler = job
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
    manager.save(steps, model=model, optimizer=optimizer, scheduler=scheduler)
    return optimizer


def test_a_schedule_that_goes_on_without_the_optimizer_sets_its_rates(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path, settings=NOBODY, restore_optimizer_state=False)
    optimizer = saved_after(6, manager, with_schedule(lr_scheduler.StepLR, 3))
    model, fresh, scheduler = with_schedule(lr_scheduler.StepLR, 3)
    manager.resume(model, fresh, scheduler)
    assert fresh.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] == pytest.approx(0.001)
    assert fresh.param_groups[0]["initial_lr"] == 0.1


def test_a_cycle_that_begins_anew_rises_to_its_own_peak(tmp_path: Path) -> None:
    def job(peak: float) -> tuple[Any, Any, Any]:
        model = nn.Linear(6, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return model, optimizer, lr_scheduler.OneCycleLR(optimizer, peak, 10)

    manager = CheckpointManager(tmp_path, settings=NOBODY, restore_scheduler_state=False)
    model, optimizer, scheduler = job(0.1)
    model(torch.randn(2, 6)).sum().backward()
    optimizer.step()
    manager.save(1, model=model, optimizer=optimizer, scheduler=scheduler)
    model, optimizer, scheduler = job(0.9)
    manager.resume(model, optimizer, scheduler)
    assert optimizer.param_groups[0]["max_lr"] == 0.9


def test_a_thread_that_cannot_be_started_leaves_no_save_behind_that_runs_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    job = Job(torchs("SGD"))
    manager = CheckpointManager(tmp_path, settings=NOBODY, async_save=True)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        path = manager.save(1, model=job.model)
    shutil.rmtree(path)
    manager.save(2, model=job.model)
    manager.close()
    assert os.listdir(tmp_path) == ["checkpoint-2"]


def test_a_draft_that_fills_the_disk_makes_room_for_the_next_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = tmp_path / ".tmp-checkpoint-500"
    draft.mkdir()
    told = os.statvfs(tmp_path)

    def as_the_draft_leaves_it(_path: str) -> SimpleNamespace:
        return SimpleNamespace(f_frsize=told.f_frsize, f_bavail=0 if draft.exists() else told.f_bavail)

    monkeypatch.setattr(os, "statvfs", as_the_draft_leaves_it)
    CheckpointManager(tmp_path, settings=NOBODY).save(600, model=nn.Linear(2, 2))
    assert os.listdir(tmp_path) == ["checkpoint-600"]


def test_what_the_optimizer_trains_besides_the_model_ends_exactness(tmp_path: Path) -> None:
    encoder, decoder = nn.Linear(6, 4), nn.Linear(4, 3)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()])
    decoder(encoder(torch.randn(2, 6))).sum().backward()
    optimizer.step()
    manager = CheckpointManager(tmp_path, settings=NOBODY)
    manager.save(1, model=encoder, optimizer=optimizer)
    start = manager.resume(encoder, optimizer)
    assert start is not None
    assert not start.exact


def own(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def is_exact_in_mid_epoch(folder: Path, loader: Callable[[], Any]) -> bool:
    """Whether a job that was saved after its first batch goes on exactly, as it is told, with a loader made anew."""
    job = Job(torchs("SGD"))
    job.train(1)
    manager = CheckpointManager(folder, settings=NOBODY)
    read = loader()
    next(iter(read))
    manager.save(1, model=job.model, optimizer=job.optimizer, dataloader=read)
    start = manager.resume(job.model, job.optimizer, dataloader=loader())
    assert start is not None
    return start.exact


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize(
    ("how", "exact"),
    [
        pytest.param({}, False, id="of the generator that the model uses"),
        pytest.param({"shuffle": True, "generator": own(1)}, False, id="of the one that shuffles"),
        pytest.param({"generator": own(1)}, True, id="of its own"),
    ],
)
@pytest.mark.parametrize("kind", [StatefulDataLoader, type("Own", (StatefulDataLoader,), {})])
def test_a_loader_that_draws_with_the_model_is_no_exact_continuation(
    tmp_path: Path, how: dict[str, Any], exact: bool, kind: Any
) -> None:
    def loader() -> Any:
        return kind(list(torch.arange(40.0)), 4, **how)

    assert is_exact_in_mid_epoch(tmp_path, loader) is exact


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize(
    ("shuffled", "exact"),
    [
        pytest.param(lambda samples: sampler.RandomSampler(samples, generator=own(2)), True, id="torchdata's own"),
        pytest.param(lambda samples: RandomSampler(samples, generator=own(2)), False, id="torch's"),
        pytest.param(
            lambda samples: WeightedRandomSampler([1.0] * 40, len(samples), generator=own(2)), False, id="any"
        ),
    ],
)
def test_a_sampler_that_keeps_no_state_is_no_exact_continuation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shuffled: Any, exact: bool
) -> None:
    def loader() -> Any:
        samples = list(torch.arange(40.0))
        return StatefulDataLoader(samples, 4, sampler=shuffled(samples), generator=own(1))

    assert is_exact_in_mid_epoch(tmp_path, loader) is exact
    assert ("take torchdata.stateful_dataloader.sampler.RandomSampler" in caplog.text) is not exact


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
def test_a_position_that_was_saved_with_loader_workers_is_not_gone_on_with_without_them(tmp_path: Path) -> None:
    job = Job(torchs("SGD"))
    job.train(1)
    manager = CheckpointManager(tmp_path, settings=NOBODY)
    read = StatefulDataLoader(list(torch.arange(40.0)), 4)
    next(iter(read))
    manager.save(1, model=job.model, optimizer=job.optimizer, dataloader=read)
    with pytest.raises(ValueError, match="saved with none loader workers, and here are 2"):
        manager.resume(job.model, job.optimizer, dataloader=StatefulDataLoader([1], 4, num_workers=2))


@pytest.mark.parametrize(("before", "now", "exact"), [(0, 0, True), (2, 1, True), (0, 1, False), (1, 0, False)])
def test_samples_that_draw_in_workers_draw_otherwise_without_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, before: int, now: int, exact: bool
) -> None:
    model = nn.Linear(6, 3)
    manager = CheckpointManager(tmp_path, settings=NOBODY, accept="partial")
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(6)).sum().backward()
    optimizer.step()
    manager.save(1, model=model, optimizer=optimizer, dataloader=ResumableLoader([1, 2], 1, num_workers=before))
    restored = manager.resume(model, optimizer, dataloader=ResumableLoader([1, 2], 1, num_workers=now))
    assert restored is not None
    assert restored.exact is exact
    assert ("samples draw otherwise" in caplog.text) is not exact


def with_entry(folder: Path, key: str, value: Any) -> Path:
    """A checkpoint of a job that has a loader as well, of which one entry of the state is another one."""
    job = Job(torchs("AdamW"))
    job.train(2)
    loader = ResumableLoader(range(10), 2)
    CheckpointManager.save_checkpoint(folder, job.model, job.optimizer, global_step=2, dataloader=loader)
    state = torch.load(folder / "training_state.pt")
    torch.save({**state, key: value}, folder / "training_state.pt")
    return folder


POSITION = {"seed": 42, "length": 10, "epoch": 0, "position": 4}
NOT_OF_OURS = [
    pytest.param("optimizer_state_dict", {"state": 5, "param_groups": "as here"}, "optimizer", id="no state of any"),
    pytest.param(
        "optimizer_state_dict",
        {"state": {}, "param_groups": [{"params": [[0], 1, 2, 3, 4, 5]}]},
        "optimizer",
        id="lists",
    ),
    pytest.param("dataloader", None, "its seed is missing", id="no position"),
    pytest.param("dataloader", [1, 2], "its seed is missing", id="a list for a position"),
    pytest.param(
        "dataloader",
        POSITION | {"position": -3},
        "its position is missing, or cannot be",
        id="a position before the data",
    ),
    pytest.param(
        "dataloader", POSITION | {"epoch": "1"}, "its epoch is missing, or cannot be", id="a text for an epoch"
    ),
]


@pytest.mark.parametrize(("key", "value", "why"), NOT_OF_OURS)
def test_what_is_no_state_of_ours_is_told_and_nothing_is_changed(
    tmp_path: Path, key: str, value: Any, why: str
) -> None:
    job = Job(torchs("AdamW"))
    if isinstance(value, dict) and value.get("param_groups") == "as here":
        value = {**value, "param_groups": job.optimizer.state_dict()["param_groups"]}
    folder, before = with_entry(tmp_path / "checkpoint-2", key, value), deepcopy(job.model.state_dict())
    loader = ResumableLoader(range(10), 2)
    with pytest.raises(ValueError, match=why):
        CheckpointManager.load_checkpoint(folder, job.model, job.optimizer, dataloader=loader, level=None)
    assert all(torch.equal(weight, before[name]) for name, weight in job.model.state_dict().items())
    assert loader.order.position == 0


def test_weights_of_several_models_by_number_are_those_of_none(tmp_path: Path) -> None:
    folder = with_entry(tmp_path / "checkpoint-2", "model_state_dict", {0: {"weight": ONE}, 1: {"weight": TWO}})
    with pytest.raises(Damaged, match="holds no weights of one model: an entry is called 0"):
        CheckpointManager.load_checkpoint(folder, nn.Linear(2, 2), level=None)


def test_how_many_processes_saved_it_may_be_told_in_whatever_form(tmp_path: Path) -> None:
    job, folder = Job(torchs("AdamW")), with_entry(tmp_path / "checkpoint-2", "world_size", torch.ones(3))
    assert CheckpointManager.load_checkpoint(folder, job.model, job.optimizer, level=None)["global_step"] == 2


@pytest.mark.parametrize("key", ["optimizer_state_dict", "scheduler_state_dict", "scaler_state_dict"])
@pytest.mark.parametrize("other", [5, torch.zeros(3), "adamw"])
def test_what_the_job_does_not_ask_for_may_be_anything(tmp_path: Path, key: str, other: Any) -> None:
    folder, model = tmp_path / "checkpoint-1", nn.Linear(2, 2)
    CheckpointManager.save_checkpoint(folder, model, global_step=1)
    state = torch.load(folder / "training_state.pt")
    torch.save({**state, key: other}, folder / "training_state.pt")
    another = nn.Linear(2, 2)
    assert CheckpointManager.load_checkpoint(folder, another, level=None)["global_step"] == 1
    assert torch.equal(another.weight, model.weight)


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """By device, the state that its generator was set to: as torch has it on a machine with one GPU."""
    set_to: dict[Any, Any] = {}

    def take(state: Any, device: Any) -> None:
        if state.numel() != 16:
            raise RuntimeError("RNG state is wrong size")
        set_to[device] = state.tolist()

    for name, fake in {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_rng_state": lambda: torch.zeros(16, dtype=torch.uint8),
        "get_rng_state_all": lambda: [torch.zeros(16, dtype=torch.uint8)],
        "set_rng_state": take,
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return set_to


ONE, TWO = torch.ones(16, dtype=torch.uint8), torch.full((16,), 2, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("saved", "set_to"),
    [
        pytest.param({"cuda_rng_state": TWO, "cuda_rng_state_all": [ONE]}, {0: [1] * 16}, id="of every device"),
        pytest.param({"cuda_rng_state_all": [ONE, TWO]}, {0: [1] * 16}, id="of more devices than are here"),
        pytest.param({"cuda": ONE}, {"cuda": [1] * 16}, id="of the usual device alone"),
        pytest.param({"cuda": []}, {}, id="saved where there was none"),
    ],
)
def test_each_gpu_goes_on_with_its_own_random_state(one_gpu: dict[Any, Any], saved: Any, set_to: Any) -> None:
    restore_rng_states(saved)
    assert one_gpu == set_to


@pytest.mark.parametrize("unfit", [{"cuda": ONE[:3]}, {"cuda_rng_state_all": [ONE[:3]]}, {"cuda": "a state"}])
@pytest.mark.usefixtures("one_gpu")
def test_a_random_state_that_no_gpu_takes_leaves_the_model_as_it_was(tmp_path: Path, unfit: Any) -> None:
    folder = tmp_path / "checkpoint-1"
    CheckpointManager.save_checkpoint(folder, nn.Linear(2, 2), global_step=1)
    state = torch.load(folder / "training_state.pt")
    torch.save({**state, "rng_states": unfit}, folder / "training_state.pt")
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    with pytest.raises(ValueError, match="the saved random state of CUDA does not fit"):
        CheckpointManager.load_checkpoint(folder, model, level=None)
    assert torch.equal(model.weight, before)


def test_a_schedule_that_begins_anew_begins_with_its_own_rate(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path, settings=NOBODY, restore_scheduler_state=False)
    saved_after(9, manager, with_schedule(lr_scheduler.CosineAnnealingLR, 10))
    model, optimizer, scheduler = with_schedule(lr_scheduler.CosineAnnealingLR, 10)
    manager.resume(model, optimizer, scheduler)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_what_was_saved_under_checkpoints_is_gone_on_with(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job = Job(torchs("AdamW"))
    job.train(1)
    CheckpointManager(tmp_path / "checkpoints", settings=NOBODY).save(7, model=job.model, optimizer=job.optimizer)
    assert job.resume(tmp_path).step == 7
    other = tmp_path / "other"
    CheckpointManager(other / "run", settings=NOBODY).save(7, model=job.model, optimizer=job.optimizer)
    assert CheckpointManager(other, settings=NOBODY).resume(job.model) is None
    assert f"nothing is saved in {other} itself, but below it, in run" in caplog.text
    caplog.clear()
    CheckpointManager(other, settings=NOBODY).save(8, model=job.model, optimizer=job.optimizer)
    assert job.resume(other).step == 8
    assert "nothing is saved" not in caplog.text


def test_what_lacks_a_state_is_told_at_once_and_gone_on_with_if_that_is_accepted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = Job(torchs("AdamW"))
    CheckpointManager(tmp_path, settings=NOBODY).save(5, model=job.model)
    assert "checkpoint-5 is partial, and no job goes on from it unless it accepts that" in caplog.text
    with pytest.raises(NoneAcceptable, match="could be with accept=partial"):
        job.resume(tmp_path)
    assert job.resume(tmp_path, accept="partial").step == 5


@pytest.mark.parametrize("model", [{"g": nn.Linear(2, 2)}, [nn.Linear(2, 2)], None])
def test_what_is_no_model_is_refused_in_words(tmp_path: Path, model: Any) -> None:
    with pytest.raises(TypeError, match=r"the model is one object with a state_dict\(\), not a "):
        CheckpointManager(tmp_path, settings=NOBODY).save(1, model=model)


def test_a_pair_of_optimizers_in_one_is_saved_as_it_saves_itself(tmp_path: Path) -> None:
    class Pair:
        def __init__(self, model: nn.Module) -> None:
            self.both = [torch.optim.SGD(model.parameters(), lr=0.1), torch.optim.AdamW(model.parameters())]

        def state_dict(self) -> dict[str, Any]:
            return {str(place): one.state_dict() for place, one in enumerate(self.both)}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            for place, one in enumerate(self.both):
                one.load_state_dict(state[str(place)])

    model = nn.Linear(2, 2)
    pair = Pair(model)
    model(torch.randn(2, 2)).sum().backward()
    pair.both[1].step()
    manager = CheckpointManager(tmp_path, settings=NOBODY)
    manager.save(1, model=model, optimizer=pair)
    fresh = Pair(model)
    assert manager.resume(model, fresh) is not None
    assert fresh.both[1].state_dict()["state"].keys() == {0, 1}


def test_what_the_job_itself_declared_safe_stays_so(tmp_path: Path) -> None:
    torch.serialization.add_safe_globals([np.ndarray])
    try:
        job = Job(torchs("SGD"))
        CheckpointManager(tmp_path, settings=NOBODY).save(1, model=job.model, additional_state={"a": np.arange(5)})
        assert np.ndarray in torch.serialization.get_safe_globals()
    finally:
        torch.serialization.clear_safe_globals()


def test_several_saves_at_a_time_do_not_spoil_each_other(tmp_path: Path) -> None:
    job = Job(torchs("SGD"))
    managers = [CheckpointManager(tmp_path / name, settings=NOBODY, async_save=True) for name in "abc"]
    for step in range(15):
        for manager in managers:
            manager.save(step, model=job.model, additional_state={"a": [np.arange(50) for _ in range(20)]})
    for manager in managers:
        manager.close()
        assert len(os.listdir(manager.folder)) == 15


def test_a_job_that_forks_after_a_save_saves_in_both(tmp_path: Path) -> None:
    job = Job(torchs("SGD"))
    manager = CheckpointManager(tmp_path, settings=NOBODY, async_save=True)
    manager.save(1, model=job.model)
    manager.wait()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(60)
            manager.save(2, model=job.model)
            manager.wait()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    manager.save(3, model=job.model)
    manager.close()
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]


def test_where_everything_is_made_elsewhere_copies_are_made_in_memory(tmp_path: Path) -> None:
    job = SmallJob(Recipe())
    job.train(2)
    manager = CheckpointManager(tmp_path, settings=NOBODY, async_save=True)
    torch.set_default_device("meta")
    try:
        path = job.save(manager)
        manager.wait()
        assert len(job.loader.order.rest()) > 0
    finally:
        torch.set_default_device(None)
    assert verify(path).exact_resume


def test_after_a_signal_any_save_lets_the_job_end(tmp_path: Path) -> None:
    job = Job(torchs("SGD"))
    with CheckpointManager(tmp_path, settings=NOBODY, async_save=True) as manager:
        manager.save_on_signals(signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        before = manager.preempted
        path = manager.save(7, model=job.model)
        assert (before, manager.preempted) == (False, True)
        assert os.path.exists(path)


def test_drafts_of_killed_saves_are_cleared_by_the_next_save_and_those_at_work_are_not(tmp_path: Path) -> None:
    from lastgood.training.whole_folder import whole_folder

    job = Job(torchs("SGD"))
    left = tmp_path / ".tmp-checkpoint-3"
    left.mkdir()
    (left / "training_state.pt").write_bytes(b"half of it")
    manager = CheckpointManager(tmp_path, settings=NOBODY)
    with whole_folder(str(tmp_path / "checkpoint-4")) as at_work:
        manager.save(5, model=job.model)
        assert os.path.isdir(at_work)
        with pytest.raises(BlockingIOError, match="another process is saving it"):
            manager.save(4, model=job.model)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-4", "checkpoint-5"]


def test_a_folder_that_is_called_as_a_checkpoint_holds_none(tmp_path: Path) -> None:
    with pytest.raises(NotACheckpoint, match="has the name of a checkpoint: give the folder that holds"):
        CheckpointManager(tmp_path / "checkpoint-9", settings=NOBODY)


def test_the_path_to_go_on_from_is_meant_as_of_where_the_manager_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(torchs("SGD"))
    monkeypatch.chdir(tmp_path)
    CheckpointManager("run", settings=NOBODY).save(1, model=job.model, optimizer=job.optimizer)
    manager = CheckpointManager("run", settings=NOBODY, resume_from_checkpoint="run/checkpoint-1")
    monkeypatch.chdir("/")
    start = manager.resume(job.model)
    assert start is not None
    assert start.step == 1


def test_a_best_model_that_was_mended_can_be_saved_anew(tmp_path: Path) -> None:
    best, job = tmp_path / "best_model", Job(torchs("SGD"))
    CheckpointManager.save_checkpoint(best, job.model, job.optimizer, global_step=1)
    (best / "training_state.pt.backup").write_bytes(b"as it was before")
    CheckpointManager.save_checkpoint(best, job.model, job.optimizer, global_step=2)
    (best / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds notes\.txt"):
        CheckpointManager.save_checkpoint(best, job.model, job.optimizer, global_step=3)
