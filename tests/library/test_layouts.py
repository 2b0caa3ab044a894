"""What each layout recognises, requires and reads; what states tell of themselves."""

from __future__ import annotations

import json
import struct
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from builders import Files, adamw_state, hf_files, make_hf_checkpoint, plain_files, plain_state, saved, write_files
from commanding import run
from lastgood import layouts
from lastgood.facts import Component, FileFacts, Presence, TensorFact
from lastgood.findings import Code, Severity, Verdict
from lastgood.formats.payload import open_payload
from lastgood.formats.values import read_values
from lastgood.inventory import take_inventory
from lastgood.layouts import forms, states
from lastgood.outline import outline
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lastgood.facts import Report

STEP: Final = 100
NAME: Final = f"checkpoint-{STEP}"


def forgather_files(step: int, *, ranks: int = 1) -> Files:
    """As its coordinator writes them: weights, components, the manifest."""
    rng = saved({"torch_rng_state": torch.get_rng_state(), "initial_seed": 1})
    weights = [(name, content) for name, content in hf_files(step) if name == "model.safetensors"]
    per_rank = {"key": "rng", "sharing_pattern": "per_rank", "ranks": list(range(ranks))}
    components = {"optimizer": {}, "scheduler": {}, "trainer": {}, "dataset": {}, "rng": per_rank}
    return [
        *weights,
        ("optimizer_state.pt", saved(adamw_state(step))),
        ("scheduler_state.pt", saved({"last_epoch": step})),
        ("trainer_state.pt", saved({"global_step": step, "raw_epoch": 1.5})),
        ("dataset_state.pt", saved({"position": step})),
        *((f"rng_state_rank_{rank}.pt", rng) for rank in range(ranks)),
        ("checkpoint_manifest.json", json.dumps({"world_size": ranks, "components": components}).encode()),
    ]


def errors(report: Report) -> list[tuple[Code, str | None]]:
    return [(found.code, found.file) for found in report.findings if found.severity is Severity.ERROR]


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        pytest.param({"trainer_state.json"}, "hf_trainer", id="Trainer's last file"),
        pytest.param({"rng_state_7.pth"}, "hf_trainer", id="one rank of Trainer"),
        pytest.param({"model.safetensors", "training_state.pt"}, "plain", id="plain"),
        pytest.param({"training_state.pth"}, "plain", id="plain, with the other ending"),
        pytest.param({"optimizer_state.pt"}, "forgather", id="Forgather's first component"),
        pytest.param({"lr_scheduler_state_rank_3.pt"}, "forgather", id="one rank of Forgather"),
        pytest.param({"zero/optimizer_state.pt"}, "unknown", id="a component's name in a folder"),
        pytest.param({"model.safetensors", "config.json"}, "unknown", id="a bare model"),
        pytest.param({"checkpoint_manifest.json"}, "unknown", id="a manifest, which others write as well"),
        pytest.param(set(), "unknown", id="nothing"),
    ],
)
def test_a_layout_is_recognised_by_names(names: set[str], layout: str) -> None:
    assert layouts.recognise(names).name == layout


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(hf_files(STEP), id="Trainer"),
        pytest.param(hf_files(STEP, shards=3), id="Trainer, in shards"),
        pytest.param(hf_files(STEP, ranks=3), id="Trainer, three ranks"),
        pytest.param(plain_files(STEP), id="plain"),
        pytest.param(forgather_files(STEP), id="Forgather"),
        pytest.param(forgather_files(STEP, ranks=2), id="Forgather, two ranks"),
    ],
)
def test_a_save_never_looks_finished_before_its_last_file_is_there(files: Files, tmp_path: Path) -> None:
    folder = tmp_path / NAME
    early = []
    for count in range(1, len(files)):
        write_files(folder, files[count - 1 : count])
        seen = outline(str(folder), take_inventory(str(folder)))
        looks_finished = not seen.lacking and (not seen.expected or seen.last_file in dict(files[:count]))
        if seen.known and looks_finished:
            early.append(files[count - 1][0])
    write_files(folder, files[-1:])
    assert early == []
    assert not outline(str(folder), take_inventory(str(folder))).lacking


@pytest.mark.parametrize(
    ("ranks", "lost", "code"),
    [
        pytest.param(3, "rng_state_rank_2.pt", Code.RANKS_MISSING, id="the last rank, which the manifest records"),
        pytest.param(3, "rng_state_rank_0.pt", Code.RANKS_MISSING, id="the first rank"),
        pytest.param(1, "rng_state_rank_0.pt", Code.RANKS_MISSING, id="the only rank"),
        pytest.param(1, "trainer_state.pt", Code.TRAINING_STATE_MISSING, id="the trainer's progress"),
        pytest.param(1, "model.safetensors", Code.WEIGHTS_MISSING, id="the weights"),
    ],
)
def test_what_forgather_s_manifest_names_is_missed(ranks: int, lost: str, code: Code, tmp_path: Path) -> None:
    checkpoint = write_files(tmp_path / NAME, forgather_files(STEP, ranks=ranks))
    (checkpoint / lost).unlink()
    report = verify(str(checkpoint))
    assert errors(report)[0] == (code, None if code is Code.WEIGHTS_MISSING else lost)
    assert report.verdict is Verdict.INCOMPLETE


@pytest.mark.parametrize(
    ("lost", "verdict"),
    [
        pytest.param("optimizer", Verdict.PARTIAL, id="no optimizer: the loss jumps"),
        pytest.param("scheduler", Verdict.COMPLETE, id="no scheduler: the job has none"),
        pytest.param("dataset", Verdict.COMPLETE, id="no position in the data: the loader has none"),
        pytest.param("trainer", Verdict.COMPLETE, id="no progress: the job does not save it"),
    ],
)
def test_what_forgather_s_manifest_leaves_out_was_never_saved(lost: str, verdict: Verdict, tmp_path: Path) -> None:
    files = dict(forgather_files(STEP))
    manifest = json.loads(files["checkpoint_manifest.json"])
    del manifest["components"][lost], files[f"{lost}_state.pt"]
    files["checkpoint_manifest.json"] = json.dumps(manifest).encode()
    assert verify(str(write_files(tmp_path / NAME, files.items()))).verdict is verdict


def test_counts_of_forgather_that_are_tensors_count(tmp_path: Path) -> None:
    state = saved({"global_step": torch.tensor(STEP), "raw_epoch": torch.tensor(1.5)})
    files = {**dict(forgather_files(STEP)), "trainer_state.pt": state}
    report = verify(str(write_files(tmp_path / NAME, files.items())))
    assert (report.verdict, report.step, report.epoch) == (Verdict.COMPLETE, STEP, 1.5)


def test_forgather_without_weights_of_its_own_says_so(tmp_path: Path) -> None:
    files = [file for file in forgather_files(STEP) if file[0] != "model.safetensors"]
    report = verify(str(write_files(tmp_path / NAME, [*files, (".forgather_no_model_weights", b"elsewhere\n")])))
    assert (report.verdict, report.components[Component.WEIGHTS]) == (Verdict.COMPLETE, Presence.NOT_APPLICABLE)


def test_the_optimizers_of_several_ranks_are_not_held_against_the_weights(tmp_path: Path) -> None:
    files = [file for file in forgather_files(STEP, ranks=2) if file[0] != "optimizer_state.pt"]
    parts = [(f"optimizer_state_rank_{rank}.pt", saved(adamw_state(STEP))) for rank in (0, 1)]
    manifest = verify(str(write_files(tmp_path / NAME, [*parts, *files]))).manifest
    assert manifest is not None
    assert manifest.optimizer_steps == (STEP,)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        pytest.param("config.json", b"[]", Code.JSON_SHAPE, id="a list for a configuration"),
        pytest.param("generation_config.json", b"null", Code.JSON_SHAPE, id="nothing for generation's"),
        pytest.param("model.safetensors.index.json", b'{"metadata": {}}', Code.JSON_SHAPE, id="an index of nothing"),
        pytest.param("model.safetensors.index.json", b'{"weight_map": []}', Code.JSON_SHAPE, id="a list for a map"),
        pytest.param("trainer_state.json", b"[]", Code.TRAINING_STATE_MISSING, id="a list for the trainer's state"),
    ],
)
def test_json_that_is_not_the_object_it_should_be_is_told(
    name: str, content: bytes, code: Code, tmp_path: Path
) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / NAME, STEP)
    (checkpoint / name).write_bytes(content)
    assert errors(verify(str(checkpoint))) == [(code, name)]


def test_an_adapter_in_a_folder_of_its_own_is_weights_and_configuration(tmp_path: Path) -> None:
    files = dict(hf_files(STEP))
    adapter = {"policy/adapter_config.json": b"{}", "policy/adapter_model.safetensors": files.pop("model.safetensors")}
    del files["config.json"]
    (tmp_path / NAME / "policy").mkdir(parents=True)
    for name, content in {**files, **adapter}.items():
        (tmp_path / NAME / name).write_bytes(content)
    report = verify(str(tmp_path / NAME))
    assert (errors(report), report.verdict) == ([], Verdict.COMPLETE)
    assert report.components[Component.CONFIG] is Presence.NOT_APPLICABLE
    assert report.manifest is not None
    assert set(report.manifest.weights) == {"policy/embed.weight", "policy/head.weight"}


@pytest.mark.parametrize("lost", ["adapter_config.json", "policy/adapter_config.json"])
def test_each_adapter_needs_its_configuration_and_another_checkpoint_has_it(tmp_path: Path, lost: str) -> None:
    for step in (50, STEP):
        files = dict(hf_files(step))
        weights = files.pop("model.safetensors")
        del files["config.json"]
        for folder in ("", "policy/"):
            files |= {f"{folder}adapter_config.json": b"{}", f"{folder}adapter_model.safetensors": weights}
        (tmp_path / f"checkpoint-{step}" / "policy").mkdir(parents=True)
        for name, content in files.items():
            (tmp_path / f"checkpoint-{step}" / name).write_bytes(content)
    assert errors(verify(str(tmp_path / NAME))) == []
    (tmp_path / NAME / lost).unlink()
    assert errors(verify(str(tmp_path / NAME))) == [(Code.CONFIG_MISSING, lost)]
    for _broken in ("lost", "damaged"):
        assert run("fix", tmp_path / NAME, "--local")[0] == 0
        assert errors(verify(str(tmp_path / NAME))) == []
        (tmp_path / NAME / lost).write_text('{"peft')


def without_configuration(step: int) -> Files:
    """As Trainer saves a model that is a module of the job's own."""
    return [(name, content) for name, content in hf_files(step) if not name.endswith("config.json")]


def test_a_model_of_the_job_s_own_has_no_configuration_and_lacks_none(tmp_path: Path) -> None:
    before = verify(str(write_files(tmp_path / "checkpoint-50", without_configuration(50))))
    report = verify(str(write_files(tmp_path / NAME, without_configuration(STEP))), previous=before.manifest)
    assert (report.verdict, report.exact_resume, errors(report)) == (Verdict.COMPLETE, True, [])
    assert report.components[Component.CONFIG] is Presence.NOT_APPLICABLE
    assert Code.CONFIG_NOT_SAVED in {found.code for found in report.findings}


@pytest.mark.parametrize(
    ("lost", "code"),
    [
        pytest.param("model.safetensors", Code.WEIGHTS_MISSING, id="without its weights"),
        pytest.param("trainer_state.json", Code.TRAINING_STATE_MISSING, id="before its last file"),
    ],
)
def test_a_save_that_was_cut_off_may_have_had_a_configuration(lost: str, code: Code, tmp_path: Path) -> None:
    files = [(name, content) for name, content in without_configuration(STEP) if name != lost]
    report = verify(str(write_files(tmp_path / NAME, files)))
    assert {found for found, _file in errors(report)} == {code, Code.CONFIG_MISSING}


@pytest.mark.parametrize(
    "name",
    [
        "bert.embeddings.word_embeddings.weight",
        "model.embed_tokens.weight",
        "transformer.wte.weight",
        "vit.layers.0.attention.q_proj.weight",
    ],
)
def test_a_model_of_transformers_is_known_by_the_names_of_its_parts_and_has_a_configuration(
    name: str, tmp_path: Path
) -> None:
    weights = safetensors.torch.save({name: torch.ones(4, 8)})
    files = dict(without_configuration(STEP)) | {"model.safetensors": weights}
    report = verify(str(write_files(tmp_path / NAME, files.items())))
    assert (report.verdict, errors(report)) == (Verdict.INCOMPLETE, [(Code.CONFIG_MISSING, "config.json")])


def test_a_configuration_that_the_same_model_had_before_is_missed_and_brought_back(tmp_path: Path) -> None:
    before = verify(str(make_hf_checkpoint(tmp_path / "checkpoint-50", 50)))
    checkpoint = str(write_files(tmp_path / NAME, without_configuration(STEP)))
    report = verify(checkpoint, previous=before.manifest)
    assert (report.verdict, errors(report)) == (Verdict.INCOMPLETE, [(Code.CONFIG_MISSING, "config.json")])
    assert run("fix", checkpoint, "--local")[0] == 0
    assert errors(verify(checkpoint, previous=before.manifest)) == []


def test_a_run_that_goes_on_with_another_model_may_have_no_configuration_any_more(tmp_path: Path) -> None:
    before = verify(str(make_hf_checkpoint(tmp_path / "checkpoint-50", 50)))
    other = safetensors.torch.save({"head": torch.ones(4, 8)})
    files = [(name, other if name == "model.safetensors" else content) for name, content in without_configuration(STEP)]
    report = verify(str(write_files(tmp_path / NAME, files)), previous=before.manifest)
    assert (report.verdict, errors(report)) == (Verdict.COMPLETE, [])


def test_a_forged_rank_number_asks_for_no_memory(tmp_path: Path) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / NAME, STEP)
    (checkpoint / "rng_state_999999999999999.pth").write_bytes(b"")
    assert verify(str(checkpoint)).world_size == 1


@pytest.mark.parametrize(
    ("state", "present"),
    [
        pytest.param({"rng_states": None}, Presence.MISSING, id="None for random states"),
        pytest.param({"lr_scheduler": {"last_epoch": 1}}, Presence.NOT_APPLICABLE, id="Forgather's first versions"),
        pytest.param({}, Presence.MISSING, id="the writer that has them, without them"),
    ],
)
def test_the_writer_tells_whether_random_states_belong_to_it(
    state: dict[str, Any], present: Presence, tmp_path: Path
) -> None:
    files = dict(plain_files(STEP))
    files["training_state.pt"] = saved({"global_step": STEP, "epoch": 1, **state})
    assert verify(str(write_files(tmp_path / NAME, files.items()))).components[Component.RNG] is present


@pytest.mark.parametrize(
    ("scaler", "presence"),
    [
        pytest.param({}, Presence.NOT_APPLICABLE, id="switched off"),
        pytest.param(None, Presence.NOT_APPLICABLE, id="none"),
        pytest.param({"scale": 2.0}, Presence.PRESENT, id="in use"),
    ],
)
def test_a_loss_scaler_that_is_switched_off_is_none(scaler: Any, presence: Presence, tmp_path: Path) -> None:
    files = dict(plain_files(STEP))
    files["training_state.pt"] = saved(plain_state(STEP) | {"scaler_state_dict": scaler})
    report = verify(str(write_files(tmp_path / NAME, files.items())))
    assert report.components[Component.SCALER] is presence


# States

ROW: Final = TensorFact("F32", (4,), 16)
ONE: Final = TensorFact("F32", (), 4)


def state_file(**values: float) -> FileFacts:
    return FileFacts("optimizer.pt", 1, "torch", values=dict(values))


def adam(step: Any, lr: Any = 0.1, parameters: int = 1) -> dict[str, Any]:
    state = {number: {"step": step, "exp_avg": ROW, "exp_avg_sq": ROW} for number in range(parameters)}
    return {"state": state, "param_groups": [{"lr": lr, "betas": (0.9, 0.999), "params": list(range(parameters))}]}


@pytest.mark.parametrize(
    ("value", "values", "steps", "rates", "parameters", "moments"),
    [
        pytest.param(adam(7), {}, (7,), (0.1,), 1, {"0.exp_avg", "0.exp_avg_sq"}, id="a count that is a number"),
        pytest.param(
            adam(ONE, ONE), {"state.0.step": 7.0, "param_groups.0.lr": 0.5}, (7,), (0.5,), 1,
            {"0.exp_avg", "0.exp_avg_sq"}, id="a count and a rate that are tensors",
        ),
        pytest.param(adam(ONE), {}, (), (0.1,), 1, {"0.exp_avg", "0.exp_avg_sq"}, id="a count that was not read"),
        pytest.param(
            {"state": {}, "param_groups": [{"lr": 0.1, "params": [0, 1]}, {"lr": 0.2, "params": [2]}]}, {},
            (), (0.1, 0.2), 3, set(), id="SGD, two groups",
        ),
        pytest.param(
            {"state": {0: {"momentum_buffer": None}}, "param_groups": [{"lr": 0.1, "params": [0]}]}, {},
            (), (0.1,), 1, set(), id="SGD, a buffer that is None",
        ),
        pytest.param(
            {"state": {0: {"state1": ROW, "step": 3}}, "param_groups": [{"lr": None, "params": [0]}]}, {},
            (3,), (), 1, {"0.state1"}, id="8 bits, no rate",
        ),
        pytest.param(
            {"state": {}, "param_groups": [{"lr": 0.1, "step": 9, "params": [0]}]}, {}, (9,), (0.1,), 1, set(),
            id="a count for the whole group",
        ),
        pytest.param(
            [adam(7), adam(5, 0.2)], {}, (5, 7), (0.1, 0.2), 2,
            {"0.0.exp_avg", "0.0.exp_avg_sq", "1.0.exp_avg", "1.0.exp_avg_sq"}, id="a list of optimizers",
        ),
        pytest.param(
            {"optimizer_state_dict": {"base_optimizer_state": adam(7), "loss_scaler": None}}, {}, (7,), (0.1,), 1,
            {"optimizer_state_dict.base_optimizer_state.0.exp_avg",
             "optimizer_state_dict.base_optimizer_state.0.exp_avg_sq"},
            id="DeepSpeed's wrapping",
        ),
    ],
)  # fmt: skip
def test_an_optimizer_s_state_tells_counts_rates_and_moments(
    value: Any,
    values: dict[str, float],
    steps: tuple[int, ...],
    rates: tuple[float, ...],
    parameters: int,
    moments: set[str],
) -> None:
    facts = states.optimizer_facts(value, "", state_file(**values))
    assert facts is not None
    assert (facts.steps, facts.rates, facts.parameters) == (steps, rates, parameters)
    assert set(facts.moments) == moments


def test_values_are_found_under_the_path_at_which_the_state_lies() -> None:
    file = state_file(**{"optimizer.state.0.step": 3.0, "state.0.step": 4.0})
    facts = states.optimizer_facts(adam(ONE), "optimizer.", file)
    assert facts is not None
    assert (facts.steps, set(facts.moments)) == ((3,), {"0.exp_avg", "0.exp_avg_sq"})


@pytest.mark.parametrize(
    ("value", "step"),
    [
        pytest.param({"last_epoch": 5}, 5, id="one"),
        pytest.param({"_schedulers": [{"last_epoch": 5}, {"last_epoch": 3}]}, 5, id="chained"),
        pytest.param({"last_epoch": 9, "_schedulers": [{"last_epoch": 5}]}, 9, id="one after the other"),
        pytest.param([{"last_epoch": 5}, {"last_epoch": 7}], 7, id="a list"),
        pytest.param({"last_epoch": 5, "num_bad_epochs": 0}, None, id="a plateau's, which counts measurements"),
        pytest.param({}, None, id="empty"),
        pytest.param(None, None, id="none"),
    ],
)
def test_a_scheduler_s_state_tells_how_often_it_was_stepped(value: Any, step: int | None) -> None:
    assert states.schedule_step(value) == step


EVERY: Final = {"python", "numpy", "torch", "cuda"}
PYTHONS: Final = (3, (1,) * 625, None)
TORCHS: Final = TensorFact("U8", (5056,), 5056)


@pytest.mark.parametrize(
    ("value", "kinds"),
    [
        pytest.param({"python": PYTHONS, "numpy": (1,), "cpu": TORCHS, "cuda": [ROW]}, EVERY, id="Trainer"),
        pytest.param({"python": PYTHONS, "numpy": (1,), "cpu": TORCHS}, EVERY - {"cuda"}, id="Trainer, without a GPU"),
        pytest.param(
            {"python_rng_state": PYTHONS, "numpy_rng_state": (1,), "torch_rng_state": TORCHS, "cuda_rng_state": ROW},
            EVERY, id="plain",
        ),
        pytest.param(
            {"random_state": PYTHONS, "numpy_random_seed": (1,),
             "torch_manual_seed": TORCHS, "torch_cuda_manual_seed": [1]},
            EVERY, id="Accelerate",
        ),
        pytest.param({"torch_rng_state": TORCHS, "initial_seed": 1}, {"torch"}, id="Forgather"),
        pytest.param(
            {"python": None, "numpy": (), "cpu": TensorFact("U8", (0,), 0), "cuda": []}, set(), id="all of them empty"
        ),
        pytest.param([ROW], set(), id="something else"),
        pytest.param({"python": 5, "numpy": "x", "cpu": ROW}, set(), id="what no generator could be set to"),
    ],
)  # fmt: skip
def test_random_states_are_known_by_the_names_of_every_writer(value: Any, kinds: set[str]) -> None:
    assert states.rng_kinds(value) == kinds


_KEYS: Final = st.sampled_from(["state", "param_groups", "step", "lr", "params", "last_epoch", "_schedulers", "cpu", 0])
_LEAVES: Final = st.none() | st.booleans() | st.integers() | st.floats() | st.just(ROW) | st.just(ONE) | st.text()
ANYTHING: Final = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=20
)


@given(ANYTHING)
def test_no_state_is_too_strange_to_be_looked_at(value: Any) -> None:
    facts = states.optimizer_facts(value, "", state_file())
    assert facts is None or list(facts.steps) == sorted(set(facts.steps))
    states.schedule_step(value)
    for component in (Component.OPTIMIZER, Component.SCHEDULER, Component.SCALER):
        list(forms.misshapen_state(component, "optimizer.pt", value))
    assert states.rng_kinds(value) <= EVERY


# Values

FORMS: Final = {"F64": "<d", "F32": "<f", "F16": "<e", "I64": "<q", "I32": "<i", "U8": "<B"}


def read(tmp_path: Path, data: bytes, tensors: dict[str, TensorFact]) -> dict[str, float]:
    (tmp_path / "file").write_bytes(data)
    with open_payload(str(tmp_path / "file"), "file", len(data)) as payload:
        return read_values(payload, tensors)


@pytest.mark.parametrize("dtype", FORMS)
def test_a_count_is_read_where_its_tensor_lies(dtype: str, tmp_path: Path) -> None:
    data = struct.pack(FORMS[dtype], 42)
    fact = TensorFact(dtype, (), len(data), start=3, extent=len(data))
    assert read(tmp_path, b"xyz" + data, {"state.0.step": fact}) == {"state.0.step": 42.0}


def test_a_bfloat16_is_the_upper_half_of_a_float(tmp_path: Path) -> None:
    fact = TensorFact("BF16", (1,), 2, start=0, extent=2)
    assert read(tmp_path, struct.pack("<f", 0.5)[2:], {"param_groups.0.lr": fact}) == {"param_groups.0.lr": 0.5}


Made = partial(TensorFact, "F32", (), 4)


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        pytest.param("state.0.exp_avg", Made(0, 4), id="another name"),
        pytest.param("state.0.step", TensorFact("F32", (2,), 8, 0, 8), id="more than one element"),
        pytest.param("state.0.step", TensorFact("C64", (), 8, 0, 8), id="a number of another kind"),
        pytest.param("state.0.step", Made(None, None), id="a place that is not known"),
        pytest.param("state.0.step", Made(6, 4), id="beyond the end"),
        pytest.param("state.0.step", Made(4, 4), id="not a number"),
    ],
)
def test_what_is_no_count_is_not_read(name: str, fact: TensorFact, tmp_path: Path) -> None:
    assert read(tmp_path, struct.pack("<ff", 1.0, float("nan")), {name: fact}) == {}


def test_no_more_counts_are_read_than_are_needed(tmp_path: Path) -> None:
    fact = Made(0, 4)
    assert len(read(tmp_path, struct.pack("<f", 1.0), {f"state.{n}.step": fact for n in range(5000)})) == 4096


def _after_steps(make: Callable[[list[torch.Tensor]], Any]) -> Any:
    weight = torch.ones(3, requires_grad=True)
    optimizer = make([weight])
    for _ in range(3):
        weight.grad = torch.ones(3)
        optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda these: torch.optim.AdamW(these, lr=0.5), id="AdamW"),
        pytest.param(
            lambda these: torch.optim.Adam(these, lr=torch.tensor(0.5), foreach=False), id="a rate in a tensor"
        ),
        pytest.param(lambda these: torch.optim.NAdam(these, lr=0.5), id="NAdam"),
        pytest.param(lambda these: torch.optim.RAdam(these, lr=0.5), id="RAdam"),
        pytest.param(lambda these: torch.optim.Adagrad(these, lr=0.5), id="Adagrad"),
        pytest.param(lambda these: torch.optim.RMSprop(these, lr=0.5), id="RMSprop"),
        pytest.param(lambda these: torch.optim.Adadelta(these, lr=0.5), id="Adadelta"),
        pytest.param(lambda these: torch.optim.Adamax(these, lr=0.5), id="Adamax"),
        pytest.param(lambda these: torch.optim.ASGD(these, lr=0.5), id="ASGD"),
        pytest.param(lambda these: torch.optim.Rprop(these, lr=0.5), id="Rprop"),
    ],
)
@pytest.mark.parametrize("zipped", [pytest.param(True, id="zip"), pytest.param(False, id="older")])
def test_every_optimizer_of_torch_that_counts_is_read(
    make: Callable[[list[torch.Tensor]], Any], zipped: bool, tmp_path: Path
) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / NAME, STEP)
    torch.save(_after_steps(make), checkpoint / "optimizer.pt", _use_new_zipfile_serialization=zipped)
    manifest = verify(str(checkpoint)).manifest
    assert manifest is not None
    assert (manifest.optimizer_steps, manifest.rates) == ((3,), (0.5,))
