"""What is broken is mended as was promised, or refused and left byte for byte as it was."""

from __future__ import annotations

import errno
import json
import os
import stat
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import safetensors.torch
import torch

import injuries as hurt
from builders import make_hf_checkpoint, make_plain_checkpoint, plain_state, pth_files, saved, write_files
from commanding import run, settle_in
from lastgood.facts import FileDigest
from lastgood.findings import Code
from lastgood.formats.scan import Source, scan_file
from lastgood.inventory import take_inventory
from lastgood.manifest import file_list_as_json
from lastgood.naming import BASELINE
from lastgood.verify import verify
from users import as_user

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[[Path], Path]
    Injure = Callable[[Path], None]

STEP: Final = 200
NAME: Final = f"checkpoint-{STEP}"
STATE: Final = "training_state.pt"
WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"

PLAIN: Final = make_plain_checkpoint
HF: Final = make_hf_checkpoint
SHARDED: Final = partial(make_hf_checkpoint, shards=3)
RANKS: Final = partial(make_hf_checkpoint, ranks=2)


def in_file(name: str, injure: Injure) -> Injure:
    return lambda checkpoint: injure(checkpoint / name)


def both(*injuries: Injure) -> Injure:
    def injure(checkpoint: Path) -> None:
        for each in injuries:
            each(checkpoint)

    return injure


def save_weights_with_torch(checkpoint: Path) -> None:
    weights = safetensors.torch.load_file(checkpoint / WEIGHTS)
    (checkpoint / WEIGHTS).unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(saved({f"module.{name}": t for name, t in weights.items()}))


def put_weights_inside(checkpoint: Path) -> None:
    for name in (WEIGHTS, "config.json", "generation_config.json"):
        (checkpoint / name).unlink()
    weights = {f"_orig_mod.{name}": tensor for name, tensor in torch.nn.Linear(8, 4, bias=False).state_dict().items()}
    (checkpoint / STATE).write_bytes(saved(plain_state(STEP) | {"model_state_dict": weights}))


def remove_tokenizer(checkpoint: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (checkpoint / name).unlink()


def only_numpys(states: Path) -> None:
    content = torch.load(states, weights_only=False)
    states.write_bytes(saved({"numpy": content["numpy"]}))


def name_the_wrong_shard(index: Path) -> None:
    content = json.loads(index.read_text())
    content["weight_map"]["layers.0.weight"] = "model-00002-of-00003.safetensors"
    index.write_text(json.dumps(content))


def in_shard(checkpoint: Path, number: int, change: Callable[[dict[str, Any]], object]) -> None:
    path = checkpoint / f"model-{number:05}-of-00003.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path, {"format": "pt"})


def lose_a_tensor(checkpoint: Path) -> None:
    """Which the other checkpoints have."""
    for other in checkpoint.parent.iterdir():
        if other != checkpoint:
            in_shard(other, 3, lambda tensors: tensors.update({"layers.9.weight": torch.ones(4, 8)}))
            index = json.loads((other / INDEX).read_text())
            index["weight_map"]["layers.9.weight"] = "model-00003-of-00003.safetensors"
            (other / INDEX).write_text(json.dumps(index))


def give_another_shape(checkpoint: Path) -> None:
    in_shard(checkpoint, 1, lambda tensors: tensors.update({"layers.0.weight": torch.ones(32)}))


def put_a_whole_model_beside(checkpoint: Path) -> None:
    safetensors.torch.save_file({"w": torch.ones(4, 8)}, checkpoint / WEIGHTS, {"format": "pt"})


MENDED: Final = [
    pytest.param(PLAIN, in_file(STATE, hurt.remove), {STATE}, "partial", id="no training state"),
    pytest.param(PLAIN, in_file(STATE, hurt.leave_out("rng_states")), {STATE}, "complete", id="no random states"),
    pytest.param(
        PLAIN, in_file(STATE, hurt.change_state(rng_states={})), {STATE}, "complete", id="empty random states"
    ),
    pytest.param(
        PLAIN, in_file(STATE, hurt.change_state(rng_states={"torch_rng_state": torch.get_rng_state()})), {STATE},
        "complete", id="random states of torch alone",
    ),
    pytest.param(
        PLAIN, in_file(STATE, hurt.leave_out("scheduler_state_dict")), {STATE}, "partial", id="a state without entries"
    ),
    pytest.param(PLAIN, in_file(STATE, hurt.leave_out("best_loss")), {STATE}, "complete", id="no best loss"),
    pytest.param(PLAIN, in_file("config.json", hurt.remove), {"config.json"}, "complete", id="no configuration"),
    pytest.param(
        PLAIN, in_file("config.json", hurt.cut_in_half), {"config.json"}, "complete", id="half a configuration"
    ),
    pytest.param(PLAIN, in_file("config.json", hurt.empty), {"config.json"}, "complete", id="an empty configuration"),
    pytest.param(
        PLAIN, in_file("tokenizer.json", hurt.break_json), {"tokenizer.json"}, "complete", id="a broken tokenizer"
    ),
    pytest.param(
        PLAIN, remove_tokenizer, {"tokenizer.json", "tokenizer_config.json"}, "complete", id="no tokenizer"
    ),
    pytest.param(
        PLAIN, in_file("generation_config.json", hurt.remove), {"generation_config.json"}, "complete",
        id="no generation configuration",
    ),
    pytest.param(
        PLAIN, both(in_file(STATE, hurt.remove), in_file("config.json", hurt.remove)), {STATE, "config.json"},
        "partial", id="neither training state nor configuration",
    ),
    pytest.param(PLAIN, hurt.wrap("_orig_mod."), {WEIGHTS}, "complete", id="torch.compile's names"),
    pytest.param(PLAIN, hurt.wrap("module."), {WEIGHTS}, "complete", id="a data-parallel wrapper's names"),
    pytest.param(PLAIN, hurt.wrap("module._orig_mod."), {WEIGHTS}, "complete", id="the names of both"),
    pytest.param(PLAIN, hurt.wrap("", infix="_orig_mod."), {WEIGHTS}, "complete", id="names of compiled parts"),
    pytest.param(PLAIN, save_weights_with_torch, {"pytorch_model.bin"}, "complete", id="wrapped, saved by torch"),
    pytest.param(PLAIN, put_weights_inside, {STATE}, "complete", id="wrapped, inside the training state"),
    pytest.param(HF, in_file("rng_state.pth", hurt.remove), {"rng_state.pth"}, "complete", id="hf: no random states"),
    pytest.param(
        HF, in_file("rng_state.pth", only_numpys), {"rng_state.pth"}, "complete", id="hf: random states of numpy alone"
    ),
    pytest.param(HF, in_file("rng_state.pth", hurt.empty), {"rng_state.pth"}, "complete", id="hf: an empty file"),
    pytest.param(
        HF, in_file("rng_state.pth", hurt.cut_in_half), {"rng_state.pth"}, "complete", id="hf: half of them"
    ),
    pytest.param(
        PLAIN, in_file(STATE, hurt.leave_out("optimizer_state_dict")), {STATE}, "partial", id="no optimizer"
    ),
    pytest.param(PLAIN, in_file("tokenizer.json", hurt.remove), {"tokenizer.json"}, "complete", id="half a tokenizer"),
    pytest.param(HF, in_file("config.json", hurt.remove), {"config.json"}, "complete", id="hf: no configuration"),
    pytest.param(SHARDED, in_file(INDEX, hurt.remove), {INDEX}, "complete", id="shards without an index"),
    pytest.param(SHARDED, in_file(INDEX, hurt.cut_in_half), {INDEX}, "complete", id="shards with half an index"),
    pytest.param(SHARDED, in_file(INDEX, name_the_wrong_shard), {INDEX}, "complete", id="an index of a wrong shard"),
    pytest.param(SHARDED, in_file(INDEX, hurt.forget_a_tensor), {INDEX}, "complete", id="an index without a tensor"),
    pytest.param(
        SHARDED, hurt.wrap("module."), {INDEX, *(f"model-{n:05}-of-00003.safetensors" for n in (1, 2, 3))}, "complete",
        id="shards under a wrapper's names",
    ),
]  # fmt: skip


def change_into_a_save_of_accelerate(checkpoint: Path) -> None:
    (checkpoint / STATE).unlink()
    torch.save({}, checkpoint / "optimizer.bin")
    torch.save({}, checkpoint / "random_states_0.pkl")


def lose_what_tells_of_the_ranks(checkpoint: Path) -> None:
    for file in checkpoint.glob("rng_state_*.pth"):
        file.unlink()
    (checkpoint / "training_args.bin").unlink()


REFUSED: Final = [
    pytest.param(PLAIN, in_file(WEIGHTS, hurt.cut_in_half), "model.safetensors", id="half the weights"),
    pytest.param(PLAIN, in_file(WEIGHTS, hurt.remove), "no weights", id="no weights"),
    pytest.param(
        PLAIN, both(in_file(WEIGHTS, hurt.cut_in_half), in_file(STATE, hurt.leave_out("rng_states"))),
        "model.safetensors", id="half the weights, and no random states",
    ),
    pytest.param(PLAIN, in_file(STATE, hurt.flip_bit_in_storage), "nothing but a copy mends", id="a flipped bit"),
    pytest.param(
        PLAIN, both(in_file(STATE, hurt.remove), in_file(WEIGHTS, hurt.cut_last_byte)), "model.safetensors",
        id="no training state, and damaged weights",
    ),
    pytest.param(HF, in_file("trainer_state.json", hurt.remove), "never finished", id="hf: its last file"),
    pytest.param(
        SHARDED, both(in_file(INDEX, hurt.remove), lose_a_tensor), "the model of the other checkpoints: layers.9",
        id="shards without an index that lack a tensor",
    ),
    pytest.param(
        SHARDED, both(in_file(INDEX, hurt.remove), give_another_shape),
        "not hold the model of the other checkpoints: layers.0", id="shards without an index, one of another shape",
    ),
    pytest.param(
        SHARDED, both(in_file(INDEX, hurt.remove), put_a_whole_model_beside), "lies model.safetensors, and nothing",
        id="weights of two saves",
    ),
    pytest.param(HF, in_file("optimizer.pt", hurt.remove), "brings its moments back", id="hf: no optimizer"),
    pytest.param(
        HF, in_file("rng_state.pth", hurt.flip_bit_in_storage), "nothing but a copy mends", id="hf: a flipped bit"
    ),
    pytest.param(RANKS, in_file("rng_state_1.pth", hurt.remove), "rank 1 is not there", id="hf: a rank's states"),
    pytest.param(RANKS, lose_what_tells_of_the_ranks, "nothing tells them", id="hf: the states of all ranks"),
    pytest.param(
        PLAIN, change_into_a_save_of_accelerate, "optimizer.bin is of another writer", id="another writer's state"
    ),
    pytest.param(
        PLAIN,
        both(in_file(STATE, hurt.leave_out("rng_states")), in_file(STATE, hurt.change_state(names=np.array([None])))),
        "holds more than tensors and plain values", id="a state that holds NumPy's objects",
    ),
    pytest.param(
        SHARDED, in_file("model-00002-of-00003.safetensors", hurt.remove), "promises it", id="a missing shard"
    ),
    pytest.param(
        SHARDED,
        both(in_file(INDEX, hurt.remove), in_file("model-00003-of-00003.safetensors", hurt.remove)),
        "not all of its shards", id="neither an index nor all shards",
    ),
    pytest.param(
        PLAIN, in_file(STATE, hurt.save_instead({"global_step": STEP, "what": hurt.TEMPORARY, "run": print})),
        "would be to trust it", id="a state that holds somebody's function",
    ),
]  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return settle_in(tmp_path, monkeypatch)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def broken(place: Path, make: Any, injure: Injure) -> Path:
    """A checkpoint between two healthy ones of its run."""
    for step in (100, STEP, 300):
        make(place / "run" / f"checkpoint-{step}", step)
    injure(place / "run" / NAME)
    return place / "run" / NAME


@pytest.mark.parametrize(("make", "injure", "files", "verdict"), MENDED)
def test_what_was_mended_is_as_was_promised_and_no_byte_is_lost(
    place: Path, make: Make, injure: Injure, files: set[str], verdict: str
) -> None:
    checkpoint = broken(place, make, injure)
    before, weights = contents(checkpoint), bare_weights(checkpoint)

    code, printed, _complaint = run("fix", checkpoint, "--dry-run", "--json")
    planned = json.loads(printed)
    assert (code, set(planned["files"]), planned["promised"]) == (0, files, verdict)
    assert contents(checkpoint) == before

    code, printed, complaint = run("fix", checkpoint)
    assert (code, complaint) == (0, "")
    assert printed.splitlines()[-1] == f"{checkpoint} is {verdict}"
    after = contents(checkpoint)
    assert verify(str(checkpoint)).verdict == verdict
    kept = {name.removesuffix(".backup"): content for name, content in after.items() if name.endswith(".backup")}
    assert kept == {name: before[name] for name in files if name in before}
    assert {name: after[name] for name in before if name not in files} == {
        name: content for name, content in before.items() if name not in files
    }
    assert bare_weights(checkpoint) == weights

    assert run("fix", checkpoint)[0] == 0
    assert contents(checkpoint) == after


def bare_weights(checkpoint: Path) -> dict[str, list[Any]]:
    """Every weight by its name in the model, whatever it is saved under."""
    found: dict[str, Any] = {}
    for file in checkpoint.glob("*.safetensors"):
        found |= safetensors.torch.load_file(file)
    for file in checkpoint.glob("pytorch_model.bin"):
        found |= torch.load(file)
    return {name.replace("_orig_mod.", "").removeprefix("module."): tensor.tolist() for name, tensor in found.items()}


@pytest.mark.parametrize(("make", "injure", "reason"), REFUSED)
def test_what_cannot_be_mended_honestly_is_refused_and_stays_as_it_was(
    place: Path, make: Make, injure: Injure, reason: str
) -> None:
    checkpoint = broken(place, make, injure)
    before = {path: (path.read_bytes(), path.stat()) for path in checkpoint.iterdir()}
    for options in ([], ["--no-backup"], ["--dry-run"]):
        code, printed, complaint = run("fix", checkpoint, *options)
        assert (code, printed) == (1, "")
        assert reason in complaint
        assert {path: (path.read_bytes(), path.stat()) for path in checkpoint.iterdir()} == before


def test_without_backups_nothing_else_is_left(place: Path) -> None:
    checkpoint = broken(place, PLAIN, in_file(STATE, hurt.leave_out("rng_states")))
    names = sorted(path.name for path in checkpoint.iterdir())
    assert run("fix", checkpoint, "--no-backup")[0] == 0
    assert sorted(path.name for path in checkpoint.iterdir()) == names


def test_what_is_reported_without_backups_is_what_lies_there(place: Path) -> None:
    checkpoint = broken(place, PLAIN, in_file(STATE, hurt.leave_out("rng_states")))
    report = json.loads(run("fix", checkpoint, "--no-backup", "--json")[1])["report"]
    inventory = take_inventory(str(checkpoint))
    assert {file["path"]: file["bytes"] for file in report["files"]} == {
        entry.path: entry.size for entry in inventory.entries
    }
    assert (report["bytes"], report["fingerprint"]) == (inventory.bytes, inventory.fingerprint)


def test_a_second_backup_does_not_take_the_place_of_the_first(place: Path) -> None:
    checkpoint = broken(place, PLAIN, in_file(STATE, hurt.leave_out("rng_states")))
    first = (checkpoint / STATE).read_bytes()
    run("fix", checkpoint)
    hurt.leave_out("best_loss")(checkpoint / STATE)
    second = (checkpoint / STATE).read_bytes()
    run("fix", checkpoint)
    assert (checkpoint / f"{STATE}.backup").read_bytes() == first
    assert (checkpoint / f"{STATE}.backup.2").read_bytes() == second


def test_times_and_permissions_stay_so_that_it_is_no_new_save(place: Path) -> None:
    checkpoint = broken(place, PLAIN, in_file(STATE, hurt.leave_out("rng_states")))
    (checkpoint / STATE).chmod(0o640)
    before = (checkpoint / STATE).stat()
    run("fix", checkpoint)
    after = (checkpoint / STATE).stat()
    assert (after.st_mtime_ns, after.st_mode) == (before.st_mtime_ns, before.st_mode)


def test_added_random_states_are_marked_and_promise_nothing(place: Path) -> None:
    checkpoint = broken(place, PLAIN, in_file(STATE, hurt.leave_out("rng_states")))
    printed = run("fix", checkpoint)[1]
    assert "those of the day when it was mended" in printed
    assert torch.load(checkpoint / STATE, weights_only=False)["rng_states"][BASELINE] is True
    report = verify(str(checkpoint))
    assert (report.exact_resume, Code.RNG_BASELINE in {f.code for f in report.findings}) == (False, True)


def test_an_epoch_and_a_step_that_were_not_saved_are_marked_as_estimated_and_promise_nothing(place: Path) -> None:
    checkpoint = broken(
        place, PLAIN, both(in_file(STATE, hurt.leave_out("epoch")), in_file(STATE, hurt.leave_out("global_step")))
    )
    printed = run("fix", checkpoint)[1]
    assert "add global_step 200 (by its name), epoch 1 (by checkpoint-100)" in printed
    assert "global_step and epoch: estimated when it was mended" in printed
    assert torch.load(checkpoint / STATE, weights_only=False)[BASELINE] == ["global_step", "epoch"]
    report = verify(str(checkpoint))
    assert (report.verdict, report.step, report.epoch, report.exact_resume) == ("complete", STEP, 1, False)
    assert Code.PROGRESS_ESTIMATED in {finding.code for finding in report.findings}


@pytest.mark.parametrize(("key", "does"), [("global_step", "200 (by its name"), ("epoch", "1 (by checkpoint-100")])
def test_an_entry_that_cannot_be_is_replaced_and_counts_as_estimated(key: str, does: str, place: Path) -> None:
    checkpoint = broken(place, PLAIN, in_file(STATE, hurt.change_state(**{key: -4})))
    assert f"add {key} {does}, in place of -4)" in run("fix", checkpoint)[1]
    assert torch.load(checkpoint / STATE, weights_only=False)[BASELINE] == [key]
    report = verify(str(checkpoint))
    assert (report.verdict, report.step, report.epoch, report.exact_resume) == ("complete", STEP, 1, False)
    assert not report.warnings


def test_a_state_of_forgather_is_given_the_step_of_its_name_and_nothing_else(place: Path) -> None:
    checkpoint = make_plain_checkpoint(place / "run" / NAME, STEP)
    whole = plain_state(STEP)
    written = {"optimizer": whole["optimizer_state_dict"], "lr_scheduler": whole["scheduler_state_dict"]}
    (checkpoint / STATE).write_bytes(saved(written))
    assert "training_state.pt: add global_step 200 (by its name)\n" in run("fix", checkpoint)[1]
    found = torch.load(checkpoint / STATE, weights_only=False)
    assert (found["global_step"], found.keys()) == (STEP, {*written, "global_step", BASELINE})


def test_nothing_is_estimated_by_what_was_estimated_itself(place: Path) -> None:
    checkpoint = broken(place, PLAIN, in_file(STATE, hurt.leave_out("epoch")))
    hurt.change_state(epoch=9, lastgood_baseline=["epoch"])(place / "run" / "checkpoint-100" / STATE)
    assert "add epoch 0 (by checkpoint-300)" in run("fix", checkpoint)[1]


def test_random_states_under_other_names_stay_and_only_the_missing_kind_is_added(place: Path) -> None:
    states = plain_state(STEP)["rng_states"]
    others = {"python": states["python_rng_state"], "torch": states["torch_rng_state"]}
    checkpoint = broken(place, PLAIN, in_file(STATE, hurt.change_state(rng_states=others)))
    assert run("fix", checkpoint)[0] == 0
    found = torch.load(checkpoint / STATE, weights_only=False)["rng_states"]
    assert set(found) == {"python", "torch", "numpy_rng_state", BASELINE}


def test_a_model_without_a_configuration_gets_no_training_state(place: Path) -> None:
    checkpoint = make_plain_checkpoint(place / "run" / NAME, STEP)
    for name in (STATE, "config.json"):
        (checkpoint / name).unlink()
    for options in (["--dry-run"], []):
        code, printed, complaint = run("fix", checkpoint, *options)
        assert (code, printed) == (1, "")
        assert "and so is config.json" in complaint


def test_what_is_added_may_be_read_by_whoever_may_read_the_folder(place: Path) -> None:
    checkpoint = broken(place, PLAIN, in_file("config.json", hurt.remove))
    checkpoint.chmod(0o750)
    before = os.umask(0o077)
    try:
        run("fix", checkpoint)
    finally:
        os.umask(before)
    assert stat.S_IMODE((checkpoint / "config.json").stat().st_mode) == 0o640


@pytest.mark.parametrize("name", [STATE, "config.json"])
def test_a_folder_in_the_place_of_a_file_is_refused_at_once_and_the_others_are_mended(place: Path, name: str) -> None:
    checkpoint = broken(place, PLAIN, in_file(name, hurt.remove))
    (checkpoint / name).mkdir()
    hurt.leave_out("rng_states")(place / "run" / "checkpoint-300" / STATE)
    for options in (["--dry-run"], []):
        code, printed, complaint = run("fix", checkpoint, *options)
        assert (code, printed) == (1, "")
        assert f"{name} is a folder, where a file belongs" in complaint
    assert run("fix", "--all", place / "run")[1].splitlines()[-1] == "3 checkpoints: 2 good, 1 not"


def test_a_state_that_counts_batches_loses_the_names_of_wrappers_too(place: Path) -> None:
    weights = {"module.w": torch.ones(4, 8)}
    files = [f for f in pth_files(3, 500, 1270, optimizer_steps=3040, model_state_dict=weights) if f[0] != WEIGHTS]
    checkpoint = write_files(place / "run" / "checkpoint-3", files)
    assert Code.WRAPPER_PREFIX in {finding.code for finding in verify(str(checkpoint)).findings}
    assert run("fix", checkpoint)[0] == 0
    assert list(torch.load(checkpoint / "training_state.pth", weights_only=False)["model_state_dict"]) == ["w"]


def test_versions_of_modules_that_torch_keeps_beside_a_state_are_kept(place: Path) -> None:
    model = torch.nn.ModuleDict({"module": torch.nn.Sequential(torch.nn.Linear(8, 4, bias=False))})
    checkpoint = broken(place, PLAIN, in_file(WEIGHTS, hurt.remove))
    torch.save(model.state_dict(), checkpoint / "pytorch_model.bin")
    run("fix", checkpoint, "--no-backup")
    found = torch.load(checkpoint / "pytorch_model.bin", weights_only=True)
    assert list(found) == ["0.weight"]
    assert found._metadata == {"": {"version": 1}, "0": {"version": 1}}


def test_a_link_means_the_same_with_and_without_a_slash_behind_it(place: Path) -> None:
    checkpoint = broken(place, PLAIN, in_file(STATE, hurt.remove))
    (place / "run" / "latest").symlink_to(NAME)
    plain, slashed = (run("fix", f"run/latest{end}", "--dry-run") for end in ("", "/"))
    assert plain == slashed
    assert (plain[0], str(checkpoint)) == (0, str(checkpoint))


def test_whatever_is_refused_is_an_object_of_json(place: Path) -> None:
    make_plain_checkpoint(place / "run" / NAME, STEP)
    for arguments in (["run"], ["--all", "nowhere"], ["nowhere"]):
        code, printed, complaint = run("fix", *arguments, "--json")
        assert code == 2
        assert json.loads(printed)["error"] in complaint


def test_a_refusal_is_json_where_that_is_asked_for(place: Path) -> None:
    checkpoint = broken(place, PLAIN, in_file(WEIGHTS, hurt.cut_in_half))
    code, printed, complaint = run("fix", checkpoint, "--json")
    told = json.loads(printed)
    assert (code, told["path"], told["repairs"]) == (1, str(checkpoint), [])
    assert WEIGHTS in told["refused"][0]
    assert WEIGHTS in complaint


@pytest.mark.skipif(os.getuid() != 0, reason="needs to be root, to give up what root may do")
def test_of_what_may_not_be_read_it_is_said_as_whom_to_run(place: Path) -> None:
    checkpoint = make_plain_checkpoint(place / "run" / NAME, STEP)
    (checkpoint / STATE).chmod(0o000)
    for arguments in (("fix", checkpoint, "--json"), ("fix", "--all", place / "run", "--json")):
        code, printed, complaint = as_user(0, partial(run, *arguments))
        assert (code, "belongs to 0:0 and cannot be read by us, 0:0" in complaint) == (2, True)
        assert json.loads(printed)["error"] in complaint


@pytest.mark.skipif(os.getuid() != 0, reason="needs to be root, to give up what root may do")
def test_of_a_run_that_may_not_be_listed_it_is_not_said_that_it_is_empty(place: Path) -> None:
    make_plain_checkpoint(place / "run" / NAME, STEP)
    (place / "run").chmod(0o000)
    os.chown(place / "run", 1, 1)
    code, printed, complaint = as_user(0, partial(run, "fix", "--all", place / "run"))
    assert (code, printed) == (2, "")
    assert f"listing {place / 'run'}: Permission denied" in complaint


def test_a_new_training_state_has_the_step_of_the_name_and_an_epoch_between_its_neighbours(place: Path) -> None:
    for step, epoch in ((3000, 1), (9000, 3), (12_000, 4)):
        checkpoint = make_plain_checkpoint(place / "run" / f"checkpoint-{step}", step)
        hurt.change_state(epoch=epoch)(checkpoint / STATE)
    checkpoint = make_plain_checkpoint(place / "run" / "checkpoint-7500", 7500)
    (checkpoint / STATE).unlink()
    printed = run("fix", checkpoint)[1]
    state = torch.load(checkpoint / STATE, weights_only=False)
    assert (state["global_step"], state["epoch"]) == (7500, 2)
    assert (state["optimizer_state_dict"], state["scheduler_state_dict"]) == ({}, {})
    assert (state["best_loss"], state["epoch_losses"]) == (float("inf"), [])
    for said in ("the optimizer starts anew: its moments are lost", "the learning rate starts anew, with its warm-up"):
        assert said in printed


def test_a_state_that_counts_batches_does_not_get_the_number_in_the_name_as_its_step(place: Path) -> None:
    files = pth_files(3, 500, 1270, optimizer_steps=3040)
    checkpoint = write_files(place / "run" / "checkpoint-3", files)
    os.rename(checkpoint / "training_state.pth", checkpoint / STATE)
    assert run("fix", checkpoint)[0] == 0
    state = torch.load(checkpoint / STATE, weights_only=False)
    assert "global_step" not in state
    assert "best_loss" in state
    assert verify(str(checkpoint)).step == 3040


@pytest.mark.parametrize(
    ("others", "name", "reason"),
    [
        pytest.param(HF, NAME, "of hf_trainer, its save never finished", id="its run is another trainer's"),
        pytest.param(None, "best_model", "the folder's name tells no step", id="its name tells no step"),
        pytest.param(
            lambda folder, step: write_files(folder, pth_files(1, 5, 10, optimizer_steps=step)), NAME,
            "how many batches of the epoch were done", id="its run counts batches",
        ),
    ],
)  # fmt: skip
def test_no_training_state_is_made_up_where_that_would_be_a_lie(
    place: Path, others: Any, name: str, reason: str
) -> None:
    if others:
        others(place / "run" / "checkpoint-100", 100)
    checkpoint = make_plain_checkpoint(place / "run" / name, STEP)
    (checkpoint / STATE).unlink()
    before = contents(checkpoint)
    code, _printed, complaint = run("fix", checkpoint)
    assert code == 1
    assert reason in complaint
    assert contents(checkpoint) == before


def test_the_configuration_of_another_model_is_not_taken(place: Path) -> None:
    checkpoint = make_plain_checkpoint(place / "run" / NAME, STEP)
    make_plain_checkpoint(place / "run" / "checkpoint-300", 300, weight_rows=6)
    (checkpoint / "config.json").unlink()
    code, _printed, complaint = run("fix", checkpoint)
    assert (code, "no other checkpoint of the same model, of 1 that were seen, has a sound one" in complaint) == (
        1,
        True,
    )


def listed(checkpoint: Path) -> Path:
    """With the list that our CheckpointManager leaves."""
    files = [FileDigest(entry.path, entry.size, None) for entry in take_inventory(str(checkpoint)).entries]
    files = [replace(file, digest=digest_of(checkpoint, file)) for file in files]
    (checkpoint / ".lastgood.json").write_text(json.dumps(file_list_as_json(STEP, files, {})))
    return checkpoint


def digest_of(checkpoint: Path, file: FileDigest) -> str | None:
    return scan_file(Source(str(checkpoint / file.path), file.path, file.bytes), (), {}).digest


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_what_the_save_itself_lists_is_copied_from_whoever_has_the_very_same(place: Path, name: str) -> None:
    for step in (100, STEP, 300):
        checkpoint = make_plain_checkpoint(place / "run" / f"checkpoint-{step}", step)
        if step == 100:  # the nearest ones are not it
            (checkpoint / name).write_text(json.dumps({**json.loads((checkpoint / name).read_text()), "more": 1}))
        listed(checkpoint)
    damaged, checkpoint = place / "run" / "checkpoint-300" / name, place / "run" / NAME
    (checkpoint / name).unlink()
    whole = damaged.read_text()
    damaged.write_text(whole + " ")
    code, _printed, complaint = run("fix", checkpoint)
    assert (code, f"{name}: no other checkpoint of the same model, of 2 that were seen, has the one" in complaint) == (
        1,
        True,
    )
    damaged.write_text(whole)
    code, printed, _complaint = run("fix", checkpoint)
    assert (code, "copy that of checkpoint-300" in printed) == (0, True)
    assert (checkpoint / name).read_text() == whole


def test_where_nothing_can_be_mended_what_is_warned_of_is_said(place: Path) -> None:
    checkpoint = make_plain_checkpoint(place / "run" / "checkpoint-7000", STEP)
    code, printed, _complaint = run("fix", checkpoint)
    assert (code, printed.splitlines()[-1]) == (0, f"{checkpoint}: nothing is damaged")
    assert printed.startswith("  ! the checkpoint: its name says 7000, its state was saved at step 200\n")


def test_what_the_save_does_not_list_is_not_missing(place: Path) -> None:
    for step in (100, STEP):
        checkpoint = make_plain_checkpoint(place / "run" / f"checkpoint-{step}", step)
    (checkpoint / "generation_config.json").unlink()
    listed(checkpoint)
    assert run("fix", checkpoint)[:2] == (0, f"{checkpoint}: nothing is damaged\n")


def test_a_list_that_is_nested_without_end_does_not_stand_in_the_way(place: Path) -> None:
    checkpoint = broken(place, PLAIN, in_file(STATE, hurt.leave_out("rng_states")))
    (checkpoint / ".lastgood.json").write_text("[" * 100_000)
    code, printed, _complaint = run("fix", checkpoint)
    assert (code, f"{checkpoint} is complete" in printed) == (0, True)


def test_where_the_others_differ_nothing_tells_which_one_is_right(place: Path) -> None:
    checkpoint = broken(place, HF, in_file("config.json", hurt.remove))
    (place / "run" / "checkpoint-100" / "config.json").write_text('{"hidden_size": 8, "num_attention_heads": 2}')
    code, _printed, complaint = run("fix", checkpoint)
    assert (code, "tells which one it was: they have different ones" in complaint) == (1, True)


def test_far_ones_are_asked_where_the_nearest_ones_lack_the_same(place: Path) -> None:
    make_hf_checkpoint(place / "run" / "checkpoint-30", 30)
    for step in range(101, 113):
        (make_hf_checkpoint(place / "run" / f"checkpoint-{step}", step) / "config.json").unlink()
    assert run("fix", place / "run" / "checkpoint-112")[0] == 0


@pytest.mark.parametrize("who", ["the optimizer", "the scheduler", "its entry `step`"])
def test_no_step_is_taken_from_a_name_that_counts_something_else(place: Path, who: str) -> None:
    checkpoint = make_plain_checkpoint(place / "run" / "checkpoint-3", 30)
    content = plain_state(30)
    del content["global_step"], content["rng_states"]
    if who != "the optimizer":
        content["optimizer_state_dict"]["state"][0].pop("step")
    if who != "the scheduler":
        content["scheduler_state_dict"].pop("last_epoch")
    if who == "its entry `step`":
        content["step"] = 30
    (checkpoint / STATE).write_bytes(saved(content))
    printed = run("fix", checkpoint)[1]
    assert f"global_step is not added: the folder's name says 3, {who} counts 30" in printed
    assert "global_step" not in torch.load(checkpoint / STATE, weights_only=False)


def test_random_states_that_cannot_be_set_are_replaced(place: Path) -> None:
    from lastgood.training import restore_rng_states, save_rng_states

    checkpoint = make_plain_checkpoint(place / "run" / NAME, STEP)
    content = plain_state(STEP)
    content["rng_states"] |= {"torch_rng_state": torch.zeros(7, dtype=torch.uint8), "numpy_rng_state": None}
    (checkpoint / STATE).write_bytes(saved(content))
    assert run("fix", checkpoint)[0] == 0
    before = save_rng_states()
    restore_rng_states(torch.load(checkpoint / STATE, weights_only=False)["rng_states"])
    restore_rng_states(before)


def test_what_is_wrong_with_what_was_mended_is_said(place: Path) -> None:
    checkpoint = make_plain_checkpoint(place / "run" / "checkpoint-7000", STEP)
    hurt.leave_out("rng_states")(checkpoint / STATE)
    printed = run("fix", checkpoint)[1]
    assert "  ! " in printed
    assert "its name says 7000, its state was saved at step 200" in printed


def test_all_checkpoints_of_a_run_are_mended_in_one_go(place: Path) -> None:
    for step in (100, 200, 300, 400):
        make_plain_checkpoint(place / "run" / f"checkpoint-{step}", step)
    (place / "run" / "checkpoint-200" / STATE).unlink()
    hurt.leave_out("rng_states")(place / "run" / "checkpoint-300" / STATE)
    hurt.cut_in_half(place / "run" / "checkpoint-400" / WEIGHTS)
    code, printed, _complaint = run("fix", "--all", place / "run", "--json")
    told = [json.loads(line) for line in printed.splitlines()]
    assert code == 1
    assert [one["files"] for one in told[:3]] == [[], [STATE], [STATE]]
    assert "model.safetensors" in told[3]["refused"][0]
    verdicts = [verify(str(place / "run" / f"checkpoint-{step}")).verdict for step in (100, 200, 300, 400)]
    assert verdicts == ["complete", "partial", "complete", "incomplete"]
    assert run("fix", "--all", place / "run")[1].splitlines()[-1] == "4 checkpoints: 3 good, 1 not"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param([], 2, "name one PATH", id="nothing is named"),
        pytest.param(["one", "--all", "run"], 2, "name one PATH", id="both are named"),
        pytest.param(["nowhere"], 2, "no such folder", id="it is not there"),
        pytest.param(["--all", "nowhere"], 2, "no such folder", id="the run is not there"),
        pytest.param(["--all", "."], 2, "holds no checkpoints", id="the run is empty"),
        pytest.param(["--all", __file__], 2, "is a file: name the folder", id="the run is a file"),
    ],
)
def test_what_cannot_be_meant_is_complained_of(place: Path, arguments: list[str], code: int, said: str) -> None:
    found, printed, complaint = run("fix", *arguments)
    assert (found, printed) == (code, "")
    assert said in complaint


def test_who_names_a_run_is_told_how_to_mend_all_of_it(place: Path) -> None:
    make_plain_checkpoint(place / "run" / "checkpoint-5", 5)
    code, printed, complaint = run("fix", place / "run")
    assert (code, printed) == (2, "")
    assert complaint.endswith(f"or mend all of them: lastgood fix --all {place / 'run'}\n")


def test_a_reason_is_given_once(place: Path) -> None:
    checkpoint = make_plain_checkpoint(place / "run" / "checkpoint-5", 5)
    (checkpoint / "config.json").unlink()
    assert run("fix", checkpoint)[2].count("config.json") == 1


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_what_somebody_is_writing_to_is_left_alone(place: Path, options: list[str]) -> None:
    checkpoint = broken(place, PLAIN, in_file(STATE, hurt.leave_out("rng_states")))
    before = contents(checkpoint)
    with (checkpoint / WEIGHTS).open("r+b"):
        code, _printed, complaint = run("fix", checkpoint, *options)
    assert (code, "somebody is writing to it" in complaint) == (1, True)
    assert contents(checkpoint) == before


def test_what_is_packed_comes_out_of_a_mending_as_it_went_in(place: Path) -> None:
    """Mapped, torch would take the packed bytes for tensors, and whole numbers are never unhealthy."""
    from lastgood.training import CheckpointManager

    model = torch.nn.ModuleDict({"module": torch.nn.Linear(8, 4)})
    for number in range(40):
        model["module"].register_buffer(f"table{number}", torch.zeros(5000, dtype=torch.int8))
    checkpoint = place / "run" / NAME
    CheckpointManager.save_checkpoint(checkpoint, model, global_step=STEP, compress_state=True)
    before = torch.load(checkpoint / STATE, weights_only=False)
    assert run("fix", checkpoint)[0] == 0
    after = torch.load(checkpoint / STATE, weights_only=False)
    assert {f"module.{name}" for name in after["model_state_dict"]} == set(before["model_state_dict"])
    assert all(
        after["model_state_dict"][n.removeprefix("module.")].equal(t) for n, t in before["model_state_dict"].items()
    )
    assert after["rng_states"]["torch_rng_state"].equal(before["rng_states"]["torch_rng_state"])


@pytest.mark.parametrize("states", [torch.get_rng_state(), [1, 2], 7], ids=["a bare tensor", "a list", "a number"])
def test_random_states_of_no_known_form_are_replaced_and_kept(place: Path, states: Any) -> None:
    checkpoint = broken(place, PLAIN, in_file(STATE, hurt.change_state(rng_states=states)))
    before = (checkpoint / STATE).read_bytes()
    code, printed, complaint = run("fix", checkpoint)
    assert (code, complaint, printed.splitlines()[-1]) == (0, "", f"{checkpoint} is complete")
    assert (checkpoint / f"{STATE}.backup").read_bytes() == before


def test_a_disk_that_fails_in_the_middle_leaves_everything_as_it_was(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = broken(place, PLAIN, in_file(STATE, hurt.leave_out("rng_states")))
    before, replace = contents(checkpoint), os.replace

    def full(source: str, target: str) -> None:
        if "mending" in source:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    code, _printed, complaint = run("fix", checkpoint)
    assert (code, "No space left on device" in complaint) == (2, True)
    assert contents(checkpoint) == before
