"""What the checks make of facts, without a disk: which differences count, and which are usual."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lastgood.checks import kept, model, optimizer, rng, run_checks, steps
from lastgood.facts import (
    Component,
    Facts,
    FileDigest,
    FileFacts,
    Inventory,
    Manifest,
    OptimizerFacts,
    Presence,
    Progress,
    TensorFact,
)
from lastgood.findings import Code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastgood.findings import Finding

WEIGHTS, OPTIMIZER, SCHEDULER, CONFIG = "model.safetensors", "optimizer.pt", "scheduler.pt", "config.json"


def tensor(*shape: int, dtype: str = "F32") -> TensorFact:
    return TensorFact(dtype, shape, 0)


MODEL = {"wte.weight": tensor(32, 8), "h.weight": tensor(8, 8), "h.bias": tensor(8)}
MOMENTS = {f"{n}.{kind}": found for n, found in enumerate(MODEL.values()) for kind in ("exp_avg", "exp_avg_sq")}


def facts(step: int = 1000, **changes: Any) -> Facts:
    """A sound checkpoint of a three-tensor model, trained with Adam."""
    named = changes.pop("named", step)
    good = Facts(
        name=f"checkpoint-{named}",
        layout="hf_trainer",
        inventory=Inventory(()),
        files={
            WEIGHTS: FileFacts(WEIGHTS, 10, "safetensors", digest=f"crc64nvme:w{step}", tensors=MODEL),
            OPTIMIZER: FileFacts(OPTIMIZER, 20, "torch", digest=f"crc64nvme:o{step}"),
            CONFIG: FileFacts(CONFIG, 5, "json", {"vocab_size": 32, "hidden_size": 8}, digest="crc64nvme:c"),
        },
        lacking=(),
        components={Component.RNG: Presence.NOT_APPLICABLE},
        progress=Progress(step=step, schedule_step=step),
        step_by_name=named,
        homes={
            Component.WEIGHTS: (WEIGHTS,),
            Component.OPTIMIZER: (OPTIMIZER,),
            Component.SCHEDULER: (SCHEDULER,),
        },
        weights=MODEL,
        optimizer=OptimizerFacts(steps=(step,), rates=(1e-3,), parameters=3, moments=MOMENTS),
    )
    return replace(good, **changes)


def manifest(step: int = 900, **changes: Any) -> Manifest:
    """What such a checkpoint leaves behind."""
    files = ((WEIGHTS, 10, f"crc64nvme:w{step}"), (OPTIMIZER, 20, f"crc64nvme:o{step}"), (CONFIG, 5, "crc64nvme:c"))
    good = Manifest(
        name=f"checkpoint-{step}",
        fingerprint="",
        files=tuple(FileDigest(*file) for file in files),
        step=step,
        step_by_name=step,
        schedule_step=step,
        optimizer_steps=(step,),
        rates=(1e-3,),
        weights={name: f"F32 {list(found.shape)}" for name, found in MODEL.items()},
    )
    return replace(good, **changes)


def codes(findings: Iterator[Finding]) -> list[Code]:
    return [finding.code for finding in findings]


def test_nothing_is_found_in_what_is_sound() -> None:
    assert run_checks(facts()) == ()
    assert run_checks(facts(previous=manifest())) == ()
    assert run_checks(facts(manifest=manifest(1000))) == ()


# --- steps ---


def counted(**changes: Any) -> OptimizerFacts:
    return replace(OptimizerFacts(steps=(1000,), rates=(1e-3,)), **changes)


FAR, NEAR = Code.STEP_DISAGREES, Code.STEP_OFFSET


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        pytest.param({"named": 1050}, [NEAR], id="a name a little off"),
        pytest.param({"named": 2000}, [FAR], id="a renamed folder"),
        pytest.param({"named": None}, [], id="no number in the name"),
        pytest.param({"optimizer": counted(steps=(993,))}, [NEAR], id="a loss scaler skipped steps"),
        pytest.param({"optimizer": counted(steps=(400,))}, [FAR], id="an optimizer of long ago"),
        pytest.param({"optimizer": counted(steps=())}, [], id="an optimizer that does not count"),
        pytest.param({"optimizer": counted(steps=(3, 1000))}, [], id="a part was frozen for long"),
        pytest.param({"progress": Progress(1000, 3.0, None, 3)}, [], id="the scheduler counts epochs"),
        pytest.param({"progress": Progress(1000, 3.5, None, 3)}, [], id="in the middle of an epoch"),
        pytest.param({"progress": Progress(1000, 3.0, None, 500)}, [FAR], id="a scheduler of another step"),
        pytest.param({"progress": Progress(1000, None, None, 7)}, [], id="epochs, where no epoch is known"),
        pytest.param({"progress": Progress(1000, None, 4, 4000)}, [], id="the scheduler counts every process's step"),
        pytest.param(
            {"progress": Progress(1000, counts_batches=True), "optimizer": counted(steps=(250,))},
            [],
            id="four batches make a step",
        ),
        pytest.param(
            {"progress": Progress(1000, counts_batches=True), "optimizer": counted(steps=(700,))},
            [FAR],
            id="no whole number of batches makes a step",
        ),
        pytest.param({"progress": Progress(None), "optimizer": counted(steps=(1,))}, [FAR], id="only the name tells"),
    ],
)
def test_steps_may_differ_a_little(changes: dict[str, Any], found: list[Code]) -> None:
    assert codes(steps.check_steps_agree(facts(**changes))) == found


@pytest.mark.parametrize(
    ("previous", "changes", "found"),
    [
        pytest.param(manifest(optimizer_steps=(400,)), {"optimizer": counted(steps=(500,))}, [NEAR], id="as far off"),
        pytest.param(manifest(), {"optimizer": counted(steps=(900,))}, [FAR], id="the optimizer of the last save"),
        pytest.param(manifest(), {"optimizer": counted(steps=(999,))}, [NEAR], id="one step was skipped"),
        pytest.param(manifest(), {"optimizer": counted(steps=(950,))}, [FAR], id="half of the steps were skipped"),
        pytest.param(manifest(), {"progress": Progress(1000, schedule_step=900)}, [FAR], id="it stood still"),
        pytest.param(manifest(), {"progress": Progress(1000, schedule_step=10)}, [FAR], id="it counted steps before"),
        pytest.param(manifest(optimizer_steps=(225,)), {"optimizer": counted(steps=(250,))}, [NEAR], id="4 to a step"),
        pytest.param(manifest(optimizer_steps=(225,)), {"optimizer": counted(steps=(225,))}, [FAR], id="4, and stale"),
        pytest.param(manifest(step_by_name=950), {"named": 1050}, [NEAR], id="a name that is always off"),
        pytest.param(manifest(1000), {"optimizer": counted(steps=(990,))}, [NEAR], id="the same step says nothing"),
        pytest.param(
            manifest(),
            {
                "optimizer": counted(steps=(985,)),
                "components": {Component.SCALER: Presence.PRESENT, Component.RNG: Presence.NOT_APPLICABLE},
            },
            [NEAR],
            id="a loss scaler at its start",
        ),
    ],
)
def test_an_offset_counts_where_it_was_another_before(
    previous: Manifest, changes: dict[str, Any], found: list[Code]
) -> None:
    assert codes(steps.check_steps_agree(facts(previous=previous, **changes))) == found


# --- optimizer ---


@pytest.mark.parametrize(
    ("told", "found"),
    [
        pytest.param(OptimizerFacts(moments=MOMENTS, parameters=3), [], id="its own"),
        pytest.param(
            OptimizerFacts(moments={"0.exp_avg": tensor(64, 8)}, parameters=3),
            [Code.OPTIMIZER_DISAGREES],
            id="another model's",
        ),
        pytest.param(
            OptimizerFacts(moments={**MOMENTS, "3.exp_avg": tensor(3, 3)}, parameters=4),
            [],
            id="it also trains what is not saved with the model",
        ),
        pytest.param(
            OptimizerFacts(moments={**MOMENTS, **{f"{n}.exp_avg": tensor(n, 3) for n in (3, 4, 5)}}, parameters=6),
            [Code.OPTIMIZER_STRANGE],
            id="it trains much that is not saved with the model",
        ),
        pytest.param(
            OptimizerFacts(moments={f"{n}.exp_avg": tensor(4, n, 8) for n in (3, 4)}, parameters=2),
            [Code.OPTIMIZER_STRANGE],
            id="it trains experts in one piece that are saved in many",
        ),
        pytest.param(
            OptimizerFacts(moments={**MOMENTS, "2.exp_avg": tensor(9, 9), "2.exp_avg_sq": tensor(9, 9)}, parameters=3),
            [Code.OPTIMIZER_STRANGE],
            id="one of its parameters is no weight",
        ),
        pytest.param(
            OptimizerFacts(moments={"0.exp_avg": tensor(32, 8), "0.exp_avg_sq": tensor(8, 8)}, parameters=3),
            [Code.OPTIMIZER_DISAGREES],
            id="its moments contradict each other",
        ),
        pytest.param(OptimizerFacts(moments={"0.exp_avg": tensor(344)}, parameters=1), [], id="one long row"),
        pytest.param(OptimizerFacts(moments={"0.exp_avg_sq_row": tensor(32)}, parameters=3), [], id="factored"),
    ],
)
def test_moments_have_the_shapes_of_weights(told: OptimizerFacts, found: list[Code]) -> None:
    assert codes(optimizer.check_moments_fit_the_weights(facts(optimizer=told))) == found


def test_a_rate_that_is_no_number_is_none_to_train_with() -> None:
    told = OptimizerFacts(unsound_rates=("nan",))
    assert codes(optimizer.check_rate_is_not_zero(facts(optimizer=told))) == [Code.NOT_A_NUMBER]


def test_a_rate_of_zero_is_a_remark() -> None:
    assert codes(optimizer.check_rate_is_not_zero(facts(optimizer=counted(rates=(0.0, 0.0))))) == [Code.RATE_ZERO]
    assert codes(optimizer.check_rate_is_not_zero(facts(optimizer=counted(rates=(0.0, 1e-4))))) == []


# --- random states ---


@pytest.mark.parametrize(
    ("layout", "kinds", "found"),
    [
        pytest.param("hf_trainer", [{"python", "numpy", "torch"}], 0, id="whole"),
        pytest.param("plain", [{"python", "torch"}], 1, id="without NumPy"),
        pytest.param("forgather", [{"torch"}], 0, id="a writer that saves no more"),
        pytest.param("forgather", [{"cuda"}], 1, id="without torch"),
        pytest.param("hf_trainer", [{"python", "numpy", "torch", "cuda"}, {"python", "numpy", "torch"}], 1, id="rank"),
    ],
)
def test_random_states_are_whole_in_every_process(layout: str, kinds: list[set[str]], found: int) -> None:
    told = {f"rng_state_{rank}.pth": frozenset(kind) for rank, kind in enumerate(kinds)}
    checked = facts(layout=layout, rng=told, components={Component.RNG: Presence.PRESENT})
    assert codes(rng.check_random_states_are_whole(checked)) == [Code.RNG_INCOMPLETE] * found


# --- the model ---


def without(name: str) -> dict[str, TensorFact]:
    return {key: value for key, value in MODEL.items() if key != name}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        pytest.param({"weights": without("h.bias")}, [Code.TENSORS_CHANGED], id="the optimizer trains more"),
        pytest.param(
            {"weights": without("h.bias"), "previous": manifest()}, [Code.TENSORS_LOST], id="it was there before"
        ),
        pytest.param(
            {"weights": without("h.bias"), "previous": manifest(files=()), "optimizer": None},
            [Code.TENSORS_CHANGED],
            id="perhaps on purpose",
        ),
        pytest.param(
            {"weights": {**MODEL, "new.weight": tensor(8)}, "previous": manifest()}, [Code.TENSORS_CHANGED], id="new"
        ),
        pytest.param(
            {"weights": {**MODEL, "h.bias": tensor(8, dtype="BF16")}, "previous": manifest()},
            [Code.TENSORS_CHANGED],
            id="another dtype",
        ),
        pytest.param({"optimizer": counted(parameters=1)}, [], id="only a part is trained"),
        pytest.param(
            {"optimizer": counted(parameters=9), "homes": {Component.WEIGHTS: ("adapter_model.safetensors",)}},
            [],
            id="a prompt encoder that is not kept",
        ),
    ],
)
def test_no_tensor_goes_missing_unnoticed(changes: dict[str, Any], found: list[Code]) -> None:
    assert codes(model.check_no_tensor_was_lost(facts(**changes))) == found


@pytest.mark.parametrize(
    ("names", "found"),
    [
        pytest.param(["h.weight"], 0, id="bare"),
        pytest.param(["_orig_mod.h.weight"], 1, id="compiled"),
        pytest.param(["h.0._orig_mod.weight", "h.bias"], 1, id="a part is compiled"),
        pytest.param(["module.h.weight", "module.h.bias"], 1, id="data parallel"),
        pytest.param(["module.h.weight", "head.weight"], 0, id="a part that is called so"),
    ],
)
def test_wrappers_show_in_the_names(names: list[str], found: int) -> None:
    checked = facts(weights={name: tensor(8) for name in names})
    assert codes(model.check_names_bear_no_wrapper(checked)) == [Code.WRAPPER_PREFIX] * found


@pytest.mark.parametrize(
    ("config", "found"),
    [
        pytest.param({"vocab_size": 32, "n_embd": 8}, 0, id="it fits"),
        pytest.param({"vocab_size": 30}, 0, id="rows were added up to a round number"),
        pytest.param({"vocab_size": 50}, 1, id="more words than rows"),
        pytest.param({"d_model": 16}, 1, id="another width"),
        pytest.param({"text_config": {"vocab_size": 50}}, 0, id="it says it elsewhere"),
        pytest.param(["no object"], 0, id="that is another check's"),
    ],
)
def test_the_configuration_fits_the_weights(config: Any, found: int) -> None:
    files = {CONFIG: FileFacts(CONFIG, 5, "json", config)}
    checked = facts(files=files)
    assert codes(model.check_config_agrees_with_weights(checked)) == [Code.CONFIG_DISAGREES] * found


# --- bytes that were known before ---


@pytest.mark.parametrize(
    ("files", "found"),
    [
        pytest.param([(WEIGHTS, 11, "crc64nvme:w1000")], [Code.MANIFEST_MISMATCH], id="another size"),
        pytest.param([(WEIGHTS, 10, "crc64nvme:x")], [Code.MANIFEST_MISMATCH], id="other bytes"),
        pytest.param([(WEIGHTS, 10, "sha256:x")], [], id="another algorithm compares sizes only"),
        pytest.param([(WEIGHTS, 10, None)], [], id="never read"),
        pytest.param([("gone.bin", 1, None)], [Code.MANIFEST_FILE_MISSING, Code.MANIFEST_FILE_NEW], id="gone"),
    ],
)
def test_the_manifest_is_held_against_every_file(files: list[Any], found: list[Code]) -> None:
    listed = manifest(files=tuple(FileDigest(*file) for file in files))
    there = {WEIGHTS: facts().files[WEIGHTS]}
    assert codes(kept.check_bytes_are_those_of_the_manifest(facts(manifest=listed, files=there))) == found


def as_before(path: str) -> dict[str, FileFacts]:
    """The files of now, one of them as it was in the previous checkpoint."""
    now = dict(facts().files)
    return {**now, path: replace(now[path], digest={f.path: f.digest for f in manifest().files}[path])}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        pytest.param({"files": as_before(OPTIMIZER)}, [Code.FILE_OF_ANOTHER], id="the last save's optimizer"),
        pytest.param({"files": as_before(WEIGHTS)}, [Code.WEIGHTS_UNCHANGED], id="the last save's weights"),
        pytest.param(
            {"files": as_before(WEIGHTS), "optimizer": counted(rates=(0.0,))}, [], id="nothing was to be learned"
        ),
        pytest.param(
            {"files": as_before(OPTIMIZER), "optimizer": counted(steps=())}, [], id="an optimizer that never changes"
        ),
        pytest.param({"files": as_before(OPTIMIZER), "step_by_name": 900}, [], id="the same step again"),
        pytest.param({"files": as_before(CONFIG)}, [], id="what stays the same"),
    ],
)
def test_what_must_move_with_training_has_moved(changes: dict[str, Any], found: list[Code]) -> None:
    checked = facts(previous=manifest(), **changes)
    assert codes(kept.check_no_file_is_of_the_previous_checkpoint(checked)) == found
