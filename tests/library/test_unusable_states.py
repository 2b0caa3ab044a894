"""States that torch would refuse, or fail on at the next step, are told; those of other optimizers stay as they are."""

from __future__ import annotations

import random
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from builders import make_hf_checkpoint, make_plain_checkpoint, plain_state, pth_files, saved, write_files
from lastgood.facts import Component, FileFacts, Presence
from lastgood.findings import MEANINGS, Code, Verdict
from lastgood.formats.stubs import opaque_class
from lastgood.formats.unsafe import Name
from lastgood.layouts import forms, states
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lastgood.facts import Report

NAN, INFINITE = float("nan"), float("inf")


def trained(optimizer: Callable[..., torch.optim.Optimizer], frozen: int = 0, **options: Any) -> dict[str, Any]:
    """What a real optimizer of torch says after three steps on four parameters, some of them frozen."""
    parameters = [torch.nn.Parameter(torch.ones(4, 8)) for _ in range(4)]
    made = optimizer(parameters, **{"lr": 1e-3, **options})
    for _ in range(3):
        for parameter in parameters[frozen:]:
            parameter.grad = torch.ones(4, 8)
        made.step()
    state: dict[str, Any] = made.state_dict()
    return state


def without(key: str, *parameters: int, frozen: int = 0, **options: Any) -> dict[str, Any]:
    """AdamW's state, of which these parameters have no such moment."""
    state = trained(torch.optim.AdamW, frozen, **options)
    for parameter in parameters:
        del state["state"][parameter][key]
    return state


def with_rate(rate: Any) -> dict[str, Any]:
    state = trained(torch.optim.AdamW)
    state["param_groups"][0]["lr"] = rate
    return state


ADAMW = trained(torch.optim.AdamW)
TENSORS = {"m": torch.ones(4, 8), "v": torch.ones(4, 8)}

UNUSABLE = [
    pytest.param({"foo": 1}, Code.STATE_SHAPE, id="nothing that an optimizer says"),
    pytest.param({"state": ADAMW["state"]}, Code.STATE_SHAPE, id="no param_groups"),
    pytest.param({"param_groups": ADAMW["param_groups"]}, Code.STATE_SHAPE, id="no state"),
    pytest.param({"state": ADAMW["state"], "param_groups": []}, Code.STATE_SHAPE, id="no group"),
    pytest.param({"state": ADAMW["state"], "param_groups": None}, Code.STATE_SHAPE, id="None for its groups"),
    pytest.param({"state": ADAMW["state"], "param_groups": [{"lr": 0.1}]}, Code.STATE_SHAPE, id="a group of nothing"),
    pytest.param({**ADAMW, "state": [1]}, Code.STATE_SHAPE, id="a list for the state"),
    pytest.param({**ADAMW, "state": {n: {} for n in range(4)}}, Code.OPTIMIZER_EMPTY, id="an empty state of each"),
    pytest.param([ADAMW, {"foo": 1}], Code.STATE_SHAPE, id="one of two says nothing"),
    pytest.param(without("exp_avg_sq", 0, 1, 2, 3), Code.STATE_SHAPE, id="no exp_avg_sq at all"),
    pytest.param(without("exp_avg", 0, 1, 2, 3), Code.STATE_SHAPE, id="no exp_avg at all"),
    pytest.param(without("exp_avg_sq", 2), Code.STATE_SHAPE, id="one parameter without exp_avg_sq"),
    pytest.param(without("exp_avg", 1, 2, 3), Code.STATE_SHAPE, id="one parameter alone with exp_avg"),
    pytest.param(without("max_exp_avg_sq", 0, amsgrad=True), Code.STATE_SHAPE, id="amsgrad without its maximum"),
    pytest.param(without("step", 3), Code.STATE_SHAPE, id="one parameter without its count"),
    pytest.param({"adam": without("exp_avg", 0), "other": ADAMW}, Code.STATE_SHAPE, id="one of two by name"),
    pytest.param(with_rate(None), Code.NOT_A_NUMBER, id="None for a rate"),
    pytest.param(with_rate("1e-3"), Code.NOT_A_NUMBER, id="a text for a rate"),
    pytest.param(with_rate(-1e-3), Code.RATE_NEGATIVE, id="a rate below zero"),
    pytest.param(with_rate(torch.tensor(-1e-3)), Code.RATE_NEGATIVE, id="a rate below zero, in a tensor"),
]  # fmt: skip


def rmsprop_without(*parameters: int) -> dict[str, Any]:
    state = trained(torch.optim.RMSprop, momentum=0.9)
    for parameter in parameters:
        del state["state"][parameter]["square_avg"]
    return state


def eight_bits() -> dict[str, Any]:
    state = {n: {"step": 3, "state1": torch.ones(32).byte(), "state2": torch.ones(32).byte()} for n in range(4)}
    return {**ADAMW, "state": state}


def seen_beside(optimizer: dict[str, Any]) -> dict[str, Any]:
    return {**optimizer, "state": {**optimizer["state"], 3: {}}}


def of_options(state: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {**state, "param_groups": [{**group, **options} for group in state["param_groups"]]}


def renamed(**names: str) -> dict[str, Any]:
    """As an optimizer of others under Adam's options keeps its moments."""
    of_all = ADAMW["state"].items()
    return {**ADAMW, "state": {n: {names.get(key, key): value for key, value in one.items()} for n, one in of_all}}


OF_USE = [
    pytest.param(ADAMW, id="AdamW"),
    pytest.param(trained(torch.optim.Adam, amsgrad=True), id="amsgrad"),
    pytest.param(trained(torch.optim.AdamW, fused=True), id="fused"),
    pytest.param(trained(torch.optim.AdamW, foreach=True), id="foreach"),
    pytest.param(trained(torch.optim.AdamW, lr=torch.tensor(1e-3), foreach=False), id="a rate in a tensor"),
    pytest.param(with_rate(0.0), id="a rate of zero"),
    pytest.param(with_rate(-1e-19), id="a rate that came to zero but for its last bits"),
    pytest.param(trained(torch.optim.AdamW, frozen=3), id="three of four frozen"),
    pytest.param(seen_beside(trained(torch.optim.AdamW)), id="one that was only looked at"),
    *(
        pytest.param(trained(getattr(torch.optim, name)), id=name)
        for name in ("NAdam", "RAdam", "Adamax", "RMSprop", "Adadelta", "Adagrad", "ASGD", "Rprop", "Adafactor", "SGD",
                     "Muon")
    ),
    pytest.param(trained(torch.optim.SGD, momentum=0.9), id="SGD with momentum"),
    pytest.param(trained(torch.optim.RMSprop, momentum=0.9, centered=True), id="RMSprop with all it has"),
    pytest.param(eight_bits(), id="in eight bits"),
    pytest.param(renamed(exp_avg_sq="exp_avg_var"), id="AdaBelief"),
    pytest.param({**ADAMW, "state": {n: {"exp_avg": torch.ones(4, 8)} for n in range(4)},
                  "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 0.0, "params": [0, 1, 2, 3]}]},
                 id="Lion"),
    pytest.param(of_options(trained(torch.optim.Adafactor), lr=None, relative_step=True) | {"param_groups": [
        {"lr": None, "relative_step": True, "params": [0, 1, 2, 3]}]}, id="Adafactor that computes its rate"),
    pytest.param({"zero_stage": 1, "base_optimizer_state": ADAMW, "loss_scaler": None}, id="DeepSpeed's wrapping"),
    pytest.param({"state": ADAMW, "note": 1}, id="a wrapper that calls it state"),
    pytest.param({"state": {"fc.weight": ADAMW["state"][0]},
                  "param_groups": [{**ADAMW["param_groups"][0], "params": ["fc.weight"]}]}, id="by names, as FSDP"),
    pytest.param({"state.fc.weight.exp_avg": torch.ones(4, 8), "param_groups.fc.weight.lr": 0.1}, id="flattened"),
    pytest.param([ADAMW, ADAMW], id="a list of them"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "code"), UNUSABLE)
@pytest.mark.parametrize("layout", ["hf", "plain", "pth"])
def test_an_optimizer_that_no_job_can_go_on_with_is_told(layout: str, value: Any, code: Code, tmp_path: Path) -> None:
    report = judged(tmp_path / "checkpoint-3", layout, value)
    assert (report.verdict, report.exact_resume) == (MEANINGS[code].verdict, False)
    assert code in {finding.code for finding in report.findings}
    if code is not Code.NOT_A_NUMBER and code is not Code.RATE_NEGATIVE:
        assert report.components[Component.OPTIMIZER] is not Presence.PRESENT


@pytest.mark.parametrize("value", OF_USE)
@pytest.mark.parametrize("layout", ["hf", "plain"])
def test_an_optimizer_that_a_job_can_go_on_with_is_not_alarmed_of(layout: str, value: Any, tmp_path: Path) -> None:
    report = judged(tmp_path / "checkpoint-3", layout, value)
    assert report.verdict is Verdict.COMPLETE
    assert not {finding.code for finding in report.findings} & {Code.STATE_SHAPE, Code.OPTIMIZER_STRANGE}


def test_what_most_parameters_of_torch_s_other_optimizers_have_all_must_have() -> None:
    facts = states.optimizer_facts(rmsprop_without(2), "", FileFacts("optimizer.pt", 1, "torch"))
    assert facts is not None
    assert facts.lacking == ("1 of 4 parameters have no square_avg, and the next step looks for it",)


def test_an_optimizer_of_an_unknown_form_that_holds_tensors_is_only_warned_of(tmp_path: Path) -> None:
    report = judged(tmp_path / "checkpoint-3", "plain", {**TENSORS, "t": 5})
    assert (report.verdict, [f.code for f in report.warnings]) == (Verdict.COMPLETE, [Code.OPTIMIZER_STRANGE])


def judged(folder: Path, layout: str, optimizer: Any) -> Report:
    """The checkpoint of this layout with another optimizer's state in it."""
    if layout == "pth":
        write_files(folder, pth_files(1, 0, 3, optimizer_steps=3, optimizer_state_dict=optimizer))
    elif layout == "hf":
        (make_hf_checkpoint(folder, 3) / "optimizer.pt").write_bytes(saved(optimizer))
    else:
        state = plain_state(3) | {"optimizer_state_dict": optimizer}
        (make_plain_checkpoint(folder, 3) / "training_state.pt").write_bytes(saved(state))
    return verify(str(folder))


# Schedulers


@pytest.mark.parametrize(
    ("value", "codes"),
    [
        pytest.param({"foo": 1}, [Code.SCHEDULER_STRANGE], id="nothing that a scheduler counts by"),
        pytest.param({"foo": {"bar": "x"}}, [Code.SCHEDULER_STRANGE], id="nor below"),
        pytest.param({"last_epoch": NAN}, [Code.NOT_A_NUMBER], id="a count that is no number"),
        pytest.param({"last_epoch": 3, "_last_lr": [0.1, INFINITE]}, [Code.NOT_A_NUMBER], id="an infinite rate"),
        pytest.param({"last_epoch": 3, "base_lrs": [NAN]}, [Code.NOT_A_NUMBER], id="a first rate that is no number"),
        pytest.param({"_schedulers": [{"last_epoch": 3, "_last_lr": [NAN]}]}, [Code.NOT_A_NUMBER], id="in a chain"),
        pytest.param({"last_epoch": 3, "best": INFINITE, "mode_worse": INFINITE}, [], id="a plateau not yet reached"),
        pytest.param({"last_batch_iteration": 3}, [], id="DeepSpeed"),
        pytest.param({"num_steps": 3, "max_lr": 0.1}, [], id="Megatron"),
        pytest.param({"t": 3}, [], id="somebody's own"),
        pytest.param({"inner": {"last_epoch": 3}}, [], id="within a wrapper"),
        pytest.param({"state": [3, 4]}, [], id="a list of numbers"),
        pytest.param([{"last_epoch": 3}, {"last_epoch": 3}], [], id="two of them"),
        *(pytest.param({name: 3}, [], id=name) for name in ("current", "pos", "i", "calls", "stage", "multiplier")),
        pytest.param({"last_epoch": -1}, [], id="a count that begins before the first step"),
        pytest.param({"last_epoch": -5}, [Code.SCHEDULER_STRANGE], id="a count below zero"),
        pytest.param({"last_epoch": None}, [Code.SCHEDULER_STRANGE], id="None for a count"),
        pytest.param({"_step_count": NAN, "last_epoch": 3}, [Code.NOT_A_NUMBER], id="a number of calls that is none"),
        pytest.param(ADAMW, [Code.SCHEDULER_STRANGE], id="an optimizer's"),
    ],
)  # fmt: skip
def test_a_scheduler_s_state_is_judged_by_what_a_scheduler_can_do_with_it(value: Any, codes: list[Code]) -> None:
    found = forms.misshapen_state(Component.SCHEDULER, "scheduler.pt", value)
    assert [finding.code for finding in found] == codes


@pytest.mark.parametrize(
    ("value", "verdict"), [({"foo": 1}, Verdict.COMPLETE), ({"last_epoch": 100, "_last_lr": [NAN]}, Verdict.UNHEALTHY)]
)
def test_a_scheduler_of_no_use_ends_exactness(value: Any, verdict: Verdict, tmp_path: Path) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    (checkpoint / "scheduler.pt").write_bytes(saved(value))
    report = verify(str(checkpoint))
    assert (report.verdict, report.exact_resume) == (verdict, False)


def test_whoever_names_the_kinds_may_save_them_in_forms_of_their_own(tmp_path: Path) -> None:
    own = {"optimizer_state_dict": {"count": 5}, "scheduler_state_dict": {"colour": "b"}}
    kinds = {"kinds": {"optimizer": "Own", "scheduler": "OwnSchedule"}}
    for named, codes in ((kinds, set()), ({}, {Code.STATE_SHAPE, Code.SCHEDULER_STRANGE})):
        folder = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
        (folder / "training_state.pt").write_bytes(saved(plain_state(100) | own | named))
        found = {finding.code for finding in verify(str(folder)).findings}
        assert found & {Code.STATE_SHAPE, Code.SCHEDULER_STRANGE} == codes


OURS = {"seed": 42, "length": 47, "epoch": 1, "position": 8, "batch_size": 4, "batches": 12, "workers": 0}


@pytest.mark.parametrize(
    ("place", "verdict"),
    [
        pytest.param(OURS, Verdict.COMPLETE, id="our own loader's"),
        pytest.param({**OURS, "seed": -1}, Verdict.COMPLETE, id="a seed below zero"),
        pytest.param({**OURS, "position": -1}, Verdict.CORRUPT, id="a place before the first sample"),
        pytest.param({**OURS, "epoch": 1.5}, Verdict.CORRUPT, id="a fraction for the epoch"),
        pytest.param({**OURS, "length": None}, Verdict.CORRUPT, id="None for the number of samples"),
        pytest.param({key: OURS[key] for key in OURS if key != "seed"}, Verdict.CORRUPT, id="the seed is lost"),
        pytest.param({"_num_yielded": 4}, Verdict.COMPLETE, id="torchdata's"),
        pytest.param({"_num_yielded": "4"}, Verdict.CORRUPT, id="a text for how many torchdata's gave out"),
        pytest.param({"_snapshot": {"_snapshot_step": 3}}, Verdict.COMPLETE, id="torchdata's with workers"),
        pytest.param({"_snapshot": [3]}, Verdict.CORRUPT, id="a list for torchdata's snapshot"),
        pytest.param({"epoch": None, "position": -1}, Verdict.COMPLETE, id="another loader's under such names"),
        pytest.param("AAEC", Verdict.COMPLETE, id="another loader's text"),
        pytest.param(7, Verdict.COMPLETE, id="another loader's number"),
    ],
)
def test_a_place_in_the_data_that_its_own_loader_would_not_take_is_told(
    place: Any, verdict: Verdict, tmp_path: Path
) -> None:
    folder = make_plain_checkpoint(tmp_path / "checkpoint-100", 100)
    (folder / "training_state.pt").write_bytes(saved(plain_state(100) | {"dataloader": place}))
    report = verify(str(folder))
    assert (report.verdict, report.exact_resume) == (verdict, verdict is Verdict.COMPLETE)
    assert (Code.STATE_SHAPE in {finding.code for finding in report.findings}) is (verdict is Verdict.CORRUPT)


# Time


def shared_lists() -> list[Any]:
    """Sixty times the same list, in a list that is there sixty times, and so on: a pickle of a few hundred bytes."""
    value: list[Any] = [0.5]
    for _ in range(6):
        value = [value] * 60
    return value


def shared_parts() -> dict[str, Any]:
    """Thousands of optimizers of thousands of parameters each, all of them the same ones."""
    state = {n: {"step": 3, "exp_avg": 1} for n in range(2000)}
    groups = [{"params": list(range(2000)), "lr": 1e-3, "capturable": False}] * 2000
    return {"of all": [{"state": state, "param_groups": groups} for _ in range(2000)]}


def shared_pieces() -> list[Any]:
    """Thousands of optimizers, of which each has groups and states of its own, made of the same large pieces."""
    named, moments = list(range(2000)), {f"moment{n}": 1 for n in range(2000)}
    options = {"params": named, "capturable": False}
    return [{"state": {0: moments}, "param_groups": [dict(options)]} for _ in range(8000)]


def shared_rates() -> list[Any]:
    """Thousands of schedulers that gave the same rates last."""
    rates = [0.1] * 20_000
    return [{"_last_lr": rates} for _ in range(8000)]


def strange_ones() -> list[Any]:
    """Thousands of states that are none, each of which holds the same large list."""
    held = [0.5] * 20_000
    return [{"held": held} for _ in range(8000)]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(shared_lists(), id="lists within lists"),
        pytest.param({"_schedulers": shared_lists()}, id="lists of schedulers"),
        pytest.param({"x": shared_lists()}, id="lists within a dict"),
        pytest.param(shared_parts(), id="optimizers of the same states and groups"),
        pytest.param(shared_pieces(), id="optimizers of the same pieces"),
        pytest.param(shared_rates(), id="schedulers of the same rates"),
        pytest.param(strange_ones(), id="states that are none, of the same list"),
    ],
)
def test_what_a_short_pickle_names_over_and_over_is_looked_at_once(value: Any) -> None:
    started = time.process_time()
    states.optimizer_facts(value, "", FileFacts("optimizer.pt", 1, "torch"))
    states.schedule_step(value)
    for component in (Component.OPTIMIZER, Component.SCHEDULER):
        list(forms.misshapen_state(component, "a.pt", value))
    assert time.process_time() - started < 1


def test_of_a_state_that_is_wrong_in_thousands_of_places_the_first_few_are_told() -> None:
    wrong = [{"state": {}, "param_groups": [{"params": n}]} for n in range(5000)]
    assert len(list(forms.misshapen_state(Component.OPTIMIZER, "a.pt", wrong))) == forms.MOST_TOLD


def test_a_key_as_long_as_a_book_is_not_copied_for_each_thing_that_lies_below_it() -> None:
    optimizers = [{"state": {}, "param_groups": [{"params": [0]}]} for _ in range(200)]
    tracemalloc.start()
    try:
        told = states.optimizer_facts({"k" * (1 << 20): optimizers}, "", FileFacts("optimizer.pt", 1, "torch"))
        _now, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert told is not None
    assert told.parameters == 200
    assert most < 10 << 20


def test_an_object_shows_its_name_and_nothing_that_it_holds() -> None:
    held = opaque_class(Name("a", "Thing"))()
    held[0] = shared_lists()
    assert repr(held) == "<a.Thing>"


def test_of_schedulers_side_by_side_and_within_each_other_the_largest_count_is_told() -> None:
    chained = {"_schedulers": [{"last_epoch": 3}, {"num_bad_epochs": 1, "last_epoch": 90}]}
    assert states.schedule_step([chained, {"last_epoch": 7, "_schedulers": [{"last_epoch": 80}]}]) == 7
    assert states.schedule_step(chained) == 3


def grouped(*groups: list[int]) -> dict[str, Any]:
    return {**ADAMW, "param_groups": [{**ADAMW["param_groups"][0], "params": group} for group in groups]}


@pytest.mark.parametrize(
    ("value", "warned"),
    [
        pytest.param(grouped([0, 1], [2, 3]), False, id="two groups"),
        pytest.param(grouped([0, 1, 2, 3, 3]), False, id="twice in one group, which torch allows"),
        pytest.param(grouped([0, 1, 2, 3], []), False, id="a group of nothing beside another"),
        pytest.param(grouped([0, 1], [7, 8]), True, id="a group of others"),
        pytest.param(grouped([0, 1]), True, id="one of two groups"),
        pytest.param(grouped([]), True, id="no parameter"),
        pytest.param(grouped([0, 1, 2], [2, 3]), True, id="one in two groups"),
    ],
)
def test_states_that_no_group_names_are_warned_of(value: Any, warned: bool, tmp_path: Path) -> None:
    report = judged(tmp_path / "checkpoint-3", "plain", value)
    assert (Code.OPTIMIZER_STRANGE in {finding.code for finding in report.warnings}) is warned


def changed(key: str, value: Any) -> dict[str, Any]:
    """AdamW's, of which one parameter has another value there."""
    return {**ADAMW, "state": {**ADAMW["state"], 1: {**ADAMW["state"][1], key: value}}}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(changed("exp_avg", "x"), id="a text for a moment"),
        pytest.param(changed("exp_avg_sq", 0.0), id="a number for a moment"),
        pytest.param(changed("step", "3"), id="a text for its count"),
        pytest.param({**ADAMW, "state": {**ADAMW["state"], 1: [1, 2]}}, id="a list for a parameter's state"),
        pytest.param({**ADAMW, "state": {**ADAMW["state"], 1: None}}, id="None for a parameter's state"),
        pytest.param({**ADAMW, "param_groups": [{**ADAMW["param_groups"][0], "params": 3}]}, id="a number of them"),
    ],
)
def test_what_stands_where_a_moment_belongs_must_be_one(value: Any, tmp_path: Path) -> None:
    report = judged(tmp_path / "checkpoint-3", "hf", value)
    assert Code.STATE_SHAPE in {finding.code for finding in report.findings}
    assert report.verdict is Verdict.CORRUPT


def of_others(beside: float) -> dict[str, Any]:
    """As SM3's without momentum: it keeps a buffer that it does not use."""
    state = {n: {"step": 3, "momentum_buffer": torch.zeros(4, 8), "accumulator": torch.full((4, 1), beside)}
             for n in range(4)}  # fmt: skip
    return {"state": state, "param_groups": [{"lr": 0.1, "momentum": 0.0, "beta": 0.0, "params": [0, 1, 2, 3]}]}


ROWS = {n: {"step": 3, "exp_avg_sq": torch.ones(4, 1)} for n in range(4)}
UNUSED_MOMENTUM = {"state": {}, "param_groups": [{"lr": 0.1, "momentum": 0.9, "params": [0, 1, 2, 3]}]}


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        pytest.param(of_others(0.5), Verdict.COMPLETE, id="one buffer unused"),
        pytest.param(of_others(0.0), Verdict.PARTIAL, id="all that it keeps is zero"),
        pytest.param({"state": ROWS, "param_groups": [{"lr": 0.1, "constraints": True, "params": [0, 1, 2, 3]}]},
                     Verdict.COMPLETE, id="one number for each row"),
        pytest.param(UNUSED_MOMENTUM, Verdict.COMPLETE, id="a momentum that lies in the gradients"),
        pytest.param({**trained(torch.optim.SGD, momentum=0.9), "state": {}}, Verdict.PARTIAL, id="SGD's is lost"),
    ],
)  # fmt: skip
def test_optimizers_of_others_may_keep_less_than_torch_s(value: Any, verdict: Verdict, tmp_path: Path) -> None:
    report = judged(tmp_path / "checkpoint-3", "hf", value)
    assert report.verdict is verdict
    assert Code.OPTIMIZER_STRANGE not in {finding.code for finding in report.warnings}


def test_a_group_s_own_name_does_not_make_it_another_s_optimizer(tmp_path: Path) -> None:
    named = of_options(changed("exp_avg", torch.ones(8, 4)), name="decay", lr_scale=0.5)
    assert judged(tmp_path / "checkpoint-3", "hf", named).verdict is Verdict.CORRUPT


# Before the first step


@pytest.mark.parametrize(("step", "verdict"), [(0, Verdict.COMPLETE), (3, Verdict.PARTIAL)])
@pytest.mark.parametrize("layout", ["hf", "plain", "forgather"])
def test_before_the_first_step_no_parameter_has_a_state(
    layout: str, step: int, verdict: Verdict, tmp_path: Path
) -> None:
    unused = {**ADAMW, "state": {}}
    made = {"hf": make_hf_checkpoint, "plain": make_plain_checkpoint, "forgather": make_hf_checkpoint}[layout]
    folder = made(tmp_path / f"checkpoint-{step}", step)
    if layout == "plain":
        (folder / "training_state.pt").write_bytes(saved(plain_state(step) | {"optimizer_state_dict": unused}))
    if layout == "hf":
        (folder / "optimizer.pt").write_bytes(saved(unused))
    if layout == "forgather":
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "training_args.bin"):
            (folder / name).unlink()
        rng = {"torch_rng_state": torch.get_rng_state()}
        parts = {"optimizer": unused, "rng": rng, "scheduler": {"last_epoch": step}, "trainer": {"global_step": step}}
        for name, part in parts.items():
            (folder / f"{name}_state.pt").write_bytes(saved(part))
    assert verify(str(folder)).verdict is verdict


# Random states

TORCHS = torch.get_rng_state()
PYTHONS = random.Random(1).getstate()
NUMPYS: Any = np.random.RandomState(1).get_state()


@pytest.mark.parametrize(
    ("kind", "state", "usable"),
    [
        pytest.param("torch", TORCHS, True, id="torch's"),
        pytest.param("torch", TORCHS[:-8].clone(), True, id="of torch's first versions"),
        pytest.param("torch", TORCHS[:-1].clone(), False, id="torch's without its last byte"),
        pytest.param("torch", TORCHS[:-56].clone(), False, id="torch's, cut"),
        pytest.param("torch", TORCHS.float(), False, id="torch's as floats"),
        pytest.param("python", PYTHONS, True, id="python's"),
        pytest.param("python", [3, list(PYTHONS[1]), None], True, id="python's as lists"),
        pytest.param("python", (3, PYTHONS[1][:-1], None), False, id="python's, cut"),
        pytest.param("python", (3, "x", None), False, id="a text for python's numbers"),
        pytest.param("numpy", NUMPYS, True, id="numpy's"),
        pytest.param("numpy", [NUMPYS[0], NUMPYS[1].tolist(), *NUMPYS[2:]], True, id="numpy's as lists"),
        pytest.param("numpy", (NUMPYS[0], torch.tensor(NUMPYS[1].astype(int)), *NUMPYS[2:]), True, id="in a tensor"),
        pytest.param("numpy", np.random.RandomState(1).get_state(legacy=False), True, id="numpy's as a dict"),
        pytest.param("numpy", np.random.default_rng(1).bit_generator.state, True, id="of numpy's new generators"),
        pytest.param("numpy", (NUMPYS[0], NUMPYS[1][:-1], *NUMPYS[2:]), False, id="numpy's, cut"),
        pytest.param("numpy", NUMPYS[:1], False, id="the name of numpy's alone"),
    ],
)
def test_a_random_state_that_no_generator_takes_is_none(kind: str, state: Any, usable: bool, tmp_path: Path) -> None:
    states_saved = plain_state(3)["rng_states"] | {f"{kind}_rng_state": state}
    folder = make_plain_checkpoint(tmp_path / "checkpoint-3", 3)
    (folder / "training_state.pt").write_bytes(saved(plain_state(3) | {"rng_states": states_saved}))
    report = verify(str(folder))
    assert report.verdict is (Verdict.COMPLETE if usable else Verdict.PARTIAL)
    assert (Code.RNG_INCOMPLETE in {finding.code for finding in report.findings}) is not usable
