"""One good checkpoint, one injury: exactly these findings, and this verdict."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest
import safetensors.torch
import torch

import injuries as hurt
from builders import adamw_state, make_hf_checkpoint, make_plain_checkpoint, plain_state, pth_files, saved, write_files
from faults import OF_ONE_FILE
from judging import verify_as_ordinary_user
from lastgood.facts import Component, Presence, Report
from lastgood.findings import Code, Finding, Verdict
from lastgood.naming import BASELINE
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STEP: Final = 100
NAME: Final = f"checkpoint-{STEP}"

HF: Final = partial(make_hf_checkpoint, step=STEP)
SHARDED: Final = partial(make_hf_checkpoint, step=STEP, shards=3)
THREE_RANKS: Final = partial(make_hf_checkpoint, step=STEP, ranks=3)
PLAIN: Final = partial(make_plain_checkpoint, step=STEP)

WEIGHTS: Final = "model.safetensors"
OPTIMIZER: Final = "optimizer.pt"
TRAINER_STATE: Final = "trainer_state.json"
PLAIN_STATE: Final = "training_state.pt"
SECOND_SHARD: Final = "model-00002-of-00003.safetensors"
INDEX: Final = "model.safetensors.index.json"
WHOLE: Final = ""  # the injury concerns the checkpoint, not one file of it

SOUND: Final = Verdict.COMPLETE
PARTIAL: Final = Verdict.PARTIAL
SHORT: Final = Verdict.INCOMPLETE
CORRUPT: Final = Verdict.CORRUPT
UNREADABLE: Final = Verdict.UNREADABLE


def sgd_without_momentum(file: Path) -> None:
    file.write_bytes(saved(torch.optim.SGD([torch.ones(1)], lr=0.1).state_dict()))


def remember_best_loss_only(file: Path) -> None:
    file.write_bytes(saved({"best_loss": 1.0}))


def also_train_a_critic(file: Path) -> None:
    state = torch.load(file, weights_only=False)
    optimizer = state["optimizer_state_dict"]
    for parameter in range(10, 15):
        moments = {"exp_avg": torch.ones(parameter, 3), "exp_avg_sq": torch.ones(parameter, 3)}
        optimizer["state"][parameter] = {**optimizer["state"][0], **moments}
        optimizer["param_groups"][0]["params"].append(parameter)
    file.write_bytes(saved(state))


def lose_the_rate(file: Path) -> None:
    state = torch.load(file, weights_only=False)
    state["param_groups"][0]["lr"] = float("nan")
    file.write_bytes(saved(state))


def save_no_tensor(file: Path) -> None:
    safetensors.torch.save_file({}, file)


def mark_as_baseline(file: Path) -> None:
    states = torch.load(file, weights_only=False)["rng_states"]
    hurt.change_state(rng_states={**states, BASELINE: True})(file)


def save_before_zip(file: Path) -> None:
    torch.save(torch.load(file, weights_only=False), file, _use_new_zipfile_serialization=False)


def move_weights_inside(checkpoint: Path) -> None:
    model = torch.nn.Linear(8, 4, bias=False)
    for name in (WEIGHTS, "config.json", "generation_config.json"):
        (checkpoint / name).unlink()
    (checkpoint / PLAIN_STATE).write_bytes(saved(plain_state(STEP) | {"model_state_dict": model.state_dict()}))


def save_weights_with_torch(checkpoint: Path) -> None:
    (checkpoint / WEIGHTS).unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(saved(torch.nn.Linear(8, 4, bias=False).state_dict()))


def save_shapes_of_weights(checkpoint: Path) -> None:
    (checkpoint / WEIGHTS).unlink()
    model = torch.nn.Linear(8, 4, bias=False, device="meta")
    (checkpoint / "pytorch_model.bin").write_bytes(saved(model.state_dict()))


def save_shapes_of_moments(file: Path) -> None:
    state = torch.load(file, weights_only=False)
    for kept in state["state"].values():
        kept["exp_avg"] = kept["exp_avg"].to("meta")
    file.write_bytes(saved(state))


def keep_index_alone(checkpoint: Path) -> None:
    for shard in checkpoint.glob("model-*.safetensors"):
        shard.unlink()


def keep_index_that_names_nothing(checkpoint: Path) -> None:
    keep_index_alone(checkpoint)
    (checkpoint / INDEX).write_text('{"metadata": {}, "weight_map": {}}')


def save_as_another_trainer(checkpoint: Path) -> None:
    for file in checkpoint.iterdir():
        file.unlink()
    torch.save({"model": torch.ones(2), "step": STEP}, checkpoint / "ckpt.pt")


def save_a_model_of_ones_own(checkpoint: Path) -> None:
    for name in ("config.json", "generation_config.json"):
        (checkpoint / name).unlink()


def save_model_only(checkpoint: Path) -> None:
    for name in (OPTIMIZER, "scheduler.pt", "rng_state.pth"):
        (checkpoint / name).unlink()


NO_STATE: Final = (Code.TRAINING_STATE_MISSING, Code.OPTIMIZER_MISSING, Code.SCHEDULER_MISSING, Code.RNG_MISSING)
EMPTY_ADAM: Final = adamw_state(STEP) | {"state": {}}
TWO_OPTIMIZERS: Final = {"muon": adamw_state(STEP), "adamw": adamw_state(STEP)}


def row(
    make: Callable[[Path], Path],
    where: str,
    injure: Callable[[Path], None],
    codes: list[Code],
    verdict: Verdict,
    why: str,
) -> Any:
    return pytest.param(make, where, injure, codes, verdict, id=why)


ROWS: Final = [
    # What is as it should be, although it looks unusual
    row(HF, WHOLE, lambda _: None, [], SOUND, "hf: nothing is wrong"),
    row(SHARDED, WHOLE, lambda _: None, [], SOUND, "hf in shards: nothing is wrong"),
    row(THREE_RANKS, WHOLE, lambda _: None, [], SOUND, "hf of three ranks: nothing is wrong"),
    row(PLAIN, WHOLE, lambda _: None, [], SOUND, "plain: nothing is wrong"),
    row(PLAIN, WHOLE, move_weights_inside, [], SOUND, "plain: weights inside the state"),
    row(PLAIN, PLAIN_STATE, save_before_zip, [Code.NO_CHECKSUM], SOUND, "plain: the state in torch's older format"),
    row(HF, WHOLE, save_weights_with_torch, [], SOUND, "hf: weights saved by torch"),
    row(HF, OPTIMIZER, save_before_zip, [Code.NO_CHECKSUM], SOUND, "hf: the optimizer in torch's older format"),
    row(HF, OPTIMIZER, sgd_without_momentum, [], SOUND, "hf: an optimizer that keeps no state"),
    row(HF, OPTIMIZER, hurt.save_instead(TWO_OPTIMIZERS), [], SOUND, "hf: two optimizers in one file"),
    row(HF, OPTIMIZER, hurt.add_bytes, [], SOUND, "hf: bytes after a zip, which torch reads past"),
    row(HF, "training_args.bin", hurt.remove, [], SOUND, "hf: no training arguments"),
    row(HF, "scheduler.pt", hurt.put_link_within_in_place, [], SOUND, "hf: a link that stays inside"),
    # Any file
    row(HF, WEIGHTS, hurt.empty, [Code.FILE_EMPTY], SHORT, "hf: empty weights"),
    row(HF, TRAINER_STATE, hurt.empty, [Code.FILE_EMPTY], SHORT, "hf: empty trainer state"),
    row(HF, OPTIMIZER, hurt.empty, [Code.FILE_EMPTY, Code.OPTIMIZER_EMPTY], SHORT, "hf: empty optimizer"),
    row(
        PLAIN, PLAIN_STATE, hurt.empty,
        [Code.FILE_EMPTY, Code.OPTIMIZER_EMPTY, Code.SCHEDULER_EMPTY, Code.RNG_EMPTY], SHORT,
        "plain: empty training state",
    ),
    row(HF, OPTIMIZER, hurt.put_pipe_in_place, [Code.FILE_NOT_REGULAR], CORRUPT, "hf: a pipe for a file"),
    row(
        HF, OPTIMIZER, hurt.put_folder_link_in_place, [Code.FILE_NOT_REGULAR, Code.LINK_LEAVES_CHECKPOINT], CORRUPT,
        "hf: a link to a folder for a file",
    ),
    row(HF, WEIGHTS, hurt.put_link_to_nothing_in_place, [Code.FILE_NOT_REGULAR], CORRUPT, "hf: a link to nothing"),
    row(HF, WEIGHTS, hurt.put_link_to_itself_in_place, [Code.FILE_NOT_REGULAR], CORRUPT, "hf: a link to itself"),
    row(HF, WEIGHTS, hurt.put_link_out_in_place, [Code.LINK_LEAVES_CHECKPOINT], SOUND, "hf: a link that leaves"),
    # Traces of a writer
    row(HF, WHOLE, hurt.add_newer_temporary, [Code.SAVE_UNFINISHED], SHORT, "hf: a temporary file, the newest"),
    row(HF, WHOLE, hurt.add_older_temporary, [Code.LEFTOVER_TEMPORARY], SOUND, "hf: a temporary file, older"),
    row(PLAIN, WHOLE, hurt.add_mark_of_progress, [Code.SAVE_UNFINISHED], SHORT, "plain: a mark of progress"),
    # Files that are not there
    row(HF, WEIGHTS, hurt.remove, [Code.WEIGHTS_MISSING], SHORT, "hf: no weights"),
    row(PLAIN, WEIGHTS, hurt.remove, [Code.WEIGHTS_MISSING], SHORT, "plain: no weights"),
    row(HF, "config.json", hurt.remove, [Code.CONFIG_MISSING], SHORT, "hf: no configuration"),
    row(HF, TRAINER_STATE, hurt.remove, [Code.TRAINING_STATE_MISSING], SHORT, "hf: no trainer state"),
    row(
        HF, TRAINER_STATE, hurt.write_json([]), [Code.TRAINING_STATE_MISSING], SHORT,
        "hf: a trainer state without step",
    ),
    row(HF, OPTIMIZER, hurt.remove, [Code.OPTIMIZER_MISSING], PARTIAL, "hf: no optimizer"),
    row(HF, "scheduler.pt", hurt.remove, [Code.SCHEDULER_MISSING], PARTIAL, "hf: no scheduler"),
    row(HF, "rng_state.pth", hurt.remove, [Code.RNG_MISSING], PARTIAL, "hf: no random state"),
    row(
        HF, WHOLE, save_model_only, [Code.OPTIMIZER_MISSING, Code.SCHEDULER_MISSING, Code.RNG_MISSING], PARTIAL,
        "hf: save_only_model",
    ),
    row(THREE_RANKS, "rng_state_0.pth", hurt.remove, [Code.RANKS_MISSING], SHORT, "hf: rank 0 is missing"),
    row(
        THREE_RANKS, "rng_state_1.pth", hurt.remove, [Code.RANKS_MISSING], SHORT,
        "hf: a rank in the middle is missing",
    ),
    row(SHARDED, SECOND_SHARD, hurt.remove, [Code.SHARD_MISSING], SHORT, "hf in shards: one is missing"),
    row(SHARDED, INDEX, hurt.remove, [Code.SHARD_MISSING], SHORT, "hf in shards: the index is missing"),
    row(SHARDED, WHOLE, keep_index_alone, [Code.SHARD_MISSING] * 3, SHORT, "hf in shards: only the index is there"),
    row(SHARDED, WHOLE, keep_index_that_names_nothing, [Code.WEIGHTS_MISSING], SHORT, "hf in shards: an empty index"),
    # safetensors
    row(HF, WEIGHTS, hurt.cut_in_half, [Code.SAFETENSORS_SHORT], SHORT, "safetensors: half of it"),
    row(HF, WEIGHTS, hurt.cut_last_byte, [Code.SAFETENSORS_SHORT], SHORT, "safetensors: a byte too few"),
    row(HF, WEIGHTS, hurt.cut_to_ten_bytes, [Code.SAFETENSORS_SHORT], SHORT, "safetensors: part of its header"),
    row(SHARDED, SECOND_SHARD, hurt.cut_in_half, [Code.SAFETENSORS_SHORT], SHORT, "safetensors: half of a shard"),
    row(
        HF, WEIGHTS, hurt.claim_header_beyond_end, [Code.SAFETENSORS_SHORT], SHORT,
        "safetensors: a header beyond the end",
    ),
    row(HF, WEIGHTS, hurt.claim_huge_header, [Code.SAFETENSORS_HEADER], CORRUPT, "safetensors: a header of exabytes"),
    row(
        HF, WEIGHTS, hurt.claim_other_header_length, [Code.SAFETENSORS_HEADER], CORRUPT,
        "safetensors: a bit of its length",
    ),
    row(HF, WEIGHTS, hurt.flip_bit_in_header, [Code.SAFETENSORS_HEADER], CORRUPT, "safetensors: a bit of its header"),
    row(
        HF, WEIGHTS, hurt.fill_with_zeros, [Code.SAFETENSORS_HEADER], CORRUPT,
        "safetensors: the size was set, nothing filled",
    ),
    row(HF, WEIGHTS, hurt.claim_unknown_dtype, [Code.SAFETENSORS_HEADER], CORRUPT, "safetensors: an unknown dtype"),
    row(HF, WEIGHTS, hurt.name_tensor_twice, [Code.SAFETENSORS_HEADER], CORRUPT, "safetensors: a tensor twice"),
    row(
        HF, WEIGHTS, hurt.claim_other_shape, [Code.SAFETENSORS_LAYOUT], CORRUPT,
        "safetensors: a shape that does not fit",
    ),
    row(HF, WEIGHTS, hurt.leave_gap_between_tensors, [Code.SAFETENSORS_LAYOUT], CORRUPT, "safetensors: a gap"),
    row(HF, WEIGHTS, hurt.let_tensors_overlap, [Code.SAFETENSORS_LAYOUT], CORRUPT, "safetensors: an overlap"),
    row(PLAIN, WEIGHTS, hurt.add_bytes, [Code.SAFETENSORS_LAYOUT], CORRUPT, "safetensors: bytes after the end"),
    # torch
    row(HF, OPTIMIZER, hurt.cut_in_half, [Code.ZIP_SHORT], SHORT, "torch: half of it"),
    row(HF, "rng_state.pth", hurt.cut_last_byte, [Code.ZIP_SHORT], SHORT, "torch: a byte too few"),
    row(HF, "scheduler.pt", hurt.cut_to_ten_bytes, [Code.ZIP_SHORT], SHORT, "torch: ten bytes"),
    row(PLAIN, PLAIN_STATE, hurt.cut_in_half, [Code.ZIP_SHORT], SHORT, "torch: half of the whole state"),
    row(HF, OPTIMIZER, hurt.flip_bit_in_storage, [Code.ZIP_RECORD_CRC], CORRUPT, "torch: a bit of a tensor"),
    row(
        PLAIN, PLAIN_STATE, hurt.flip_bit_in_storage, [Code.ZIP_RECORD_CRC], CORRUPT,
        "torch: a bit of the whole state",
    ),
    row(HF, OPTIMIZER, hurt.flip_bit_in_pickle, [Code.ZIP_RECORD_CRC], CORRUPT, "torch: a bit of a key"),
    row(HF, OPTIMIZER, hurt.flip_bit_in_directory, [Code.ZIP_DIRECTORY], CORRUPT, "torch: a bit of the directory"),
    row(HF, OPTIMIZER, hurt.flip_bit_at_record_start, [Code.ZIP_DIRECTORY], CORRUPT, "torch: a bit before a record"),
    row(HF, OPTIMIZER, hurt.cut_pickle_with_right_checksum, [Code.PICKLE_DAMAGED], CORRUPT, "torch: half a pickle"),
    row(
        HF, OPTIMIZER, hurt.shorten_storage_with_right_checksum, [Code.STORAGE_MISMATCH], CORRUPT,
        "torch: a short storage",
    ),
    row(HF, OPTIMIZER, hurt.drop_storage, [Code.STORAGE_MISMATCH], CORRUPT, "torch: a lost storage"),
    row(HF, WHOLE, save_shapes_of_weights, [Code.STORAGE_MISMATCH], CORRUPT, "torch: shapes of weights, no numbers"),
    row(
        HF, OPTIMIZER, save_shapes_of_moments, [Code.STORAGE_MISMATCH], CORRUPT,
        "torch: shapes of moments, no numbers",
    ),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(mask=torch.ones(3, device="meta")), [], SOUND,
        "plain: a shape without numbers beside what is trained",
    ),
    row(HF, OPTIMIZER, hurt.save_without_checksums, [Code.ZIP_NO_CRC], SOUND, "torch: checksums were switched off"),
    row(HF, OPTIMIZER, hurt.write_text, [Code.TORCH_FORMAT], CORRUPT, "torch: a text"),
    row(HF, "training_args.bin", hurt.fill_with_zeros, [Code.TORCH_FORMAT], CORRUPT, "torch: zeros"),
    row(
        HF, WHOLE, save_as_another_trainer, [Code.WEIGHTS_MISSING, *NO_STATE, Code.LAYOUT_UNKNOWN], SHORT,
        "another trainer's file",
    ),
    row(HF, WHOLE, save_a_model_of_ones_own, [Code.CONFIG_NOT_SAVED], SOUND, "hf: a model that has no configuration"),
    # JSON
    row(HF, TRAINER_STATE, hurt.cut_in_half, [Code.JSON_SHORT], SHORT, "json: half of it"),
    row(SHARDED, INDEX, hurt.cut_in_half, [Code.JSON_SHORT], SHORT, "json: half of the index"),
    row(HF, TRAINER_STATE, hurt.break_json, [Code.JSON_INVALID], CORRUPT, "json: a wrong character"),
    row(PLAIN, "config.json", hurt.add_bytes, [Code.JSON_INVALID], CORRUPT, "json: bytes after the end"),
    row(PLAIN, "tokenizer.json", hurt.fill_with_zeros, [Code.JSON_INVALID], CORRUPT, "json: zeros"),
    # What the files say
    row(
        HF, OPTIMIZER, hurt.save_instead(EMPTY_ADAM), [Code.OPTIMIZER_EMPTY], PARTIAL,
        "hf: Adam without its moments",
    ),
    row(
        HF, OPTIMIZER, hurt.save_instead({}), [Code.OPTIMIZER_EMPTY], PARTIAL,
        "hf: an optimizer's file that holds nothing",
    ),
    row(
        HF, "scheduler.pt", hurt.save_instead({}), [Code.SCHEDULER_EMPTY], PARTIAL,
        "hf: a scheduler that holds nothing",
    ),
    row(
        HF, "rng_state.pth", hurt.save_instead({}), [Code.RNG_EMPTY], PARTIAL,
        "hf: a random state that holds nothing",
    ),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(optimizer_state_dict={}), [Code.OPTIMIZER_EMPTY], PARTIAL,
        "plain: an empty optimizer",
    ),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(optimizer_state_dict=EMPTY_ADAM), [Code.OPTIMIZER_EMPTY], PARTIAL,
        "plain: Adam without its moments",
    ),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(optimizer_state_dict=None), [Code.OPTIMIZER_MISSING], PARTIAL,
        "plain: None for an optimizer",
    ),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(scheduler_state_dict={}), [Code.SCHEDULER_EMPTY], PARTIAL,
        "plain: an empty scheduler",
    ),
    row(
        PLAIN, PLAIN_STATE, hurt.leave_out("scheduler_state_dict"), [Code.SCHEDULER_MISSING], PARTIAL,
        "plain: no scheduler",
    ),
    row(PLAIN, PLAIN_STATE, hurt.leave_out("rng_states"), [Code.RNG_MISSING], PARTIAL, "plain: no random states"),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(rng_states={}), [Code.RNG_EMPTY], PARTIAL,
        "plain: empty random states",
    ),
    row(
        PLAIN, PLAIN_STATE, remember_best_loss_only,
        [Code.OPTIMIZER_MISSING, Code.SCHEDULER_MISSING, Code.RNG_MISSING, Code.PROGRESS_UNTOLD], PARTIAL,
        "plain: a state of which only the loss is left",
    ),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(global_step=-5), [Code.PROGRESS_UNTOLD], SOUND,
        "plain: a negative step",
    ),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(epoch=float("nan")), [Code.PROGRESS_UNTOLD], SOUND,
        "plain: an epoch of NaN",
    ),
    row(PLAIN, PLAIN_STATE, hurt.change_state(epoch=True), [Code.PROGRESS_UNTOLD], SOUND, "plain: yes for an epoch"),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(global_step="100"), [Code.PROGRESS_UNTOLD], SOUND,
        "plain: a text for a step",
    ),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(global_step=10**401), [Code.PROGRESS_UNTOLD], SOUND,
        "plain: a step of 401 digits",
    ),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(lastgood_baseline=["epoch"]), [Code.PROGRESS_ESTIMATED], SOUND,
        "plain: an epoch that was estimated",
    ),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(optimizer_state_dict="gone"), [Code.STATE_SHAPE], CORRUPT,
        "plain: a text for an optimizer",
    ),
    row(
        PLAIN, PLAIN_STATE, also_train_a_critic, [Code.TENSORS_CHANGED, Code.OPTIMIZER_STRANGE], SOUND,
        "plain: an optimizer that also trains what lies elsewhere",
    ),
    row(
        PLAIN, "model.safetensors", save_no_tensor, [Code.WEIGHTS_MISSING],
        SHORT, "plain: weights without a tensor",
    ),
    row(HF, "optimizer.pt", lose_the_rate, [Code.NOT_A_NUMBER], Verdict.UNHEALTHY, "hf: a rate that is no number"),
    row(HF, "optimizer.pt", hurt.save_instead(None), [Code.OPTIMIZER_EMPTY], PARTIAL, "hf: nothing for an optimizer"),
    row(HF, "scheduler.pt", hurt.save_instead(None), [Code.SCHEDULER_EMPTY], PARTIAL, "hf: nothing for a scheduler"),
    row(HF, "rng_state.pth", hurt.save_instead(None), [Code.RNG_EMPTY], PARTIAL, "hf: nothing for random states"),
    row(HF, TRAINER_STATE, hurt.change_json(epoch=1e-8), [], SOUND, "hf: the very beginning of an endless epoch"),
    row(HF, TRAINER_STATE, hurt.change_json(epoch=5e-324), [], SOUND, "hf: the least of all epochs"),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(epoch=[10**5000]), [Code.PROGRESS_UNTOLD], SOUND,
        "plain: a number that Python does not write",
    ),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(global_step=60.5), [Code.PROGRESS_UNTOLD], SOUND, "plain: half a step"
    ),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(global_step=torch.tensor([3, 4])), [Code.PROGRESS_UNTOLD], SOUND,
        "plain: two steps",
    ),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(scheduler_state_dict=7), [Code.STATE_SHAPE], CORRUPT,
        "plain: a number for a scheduler",
    ),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(additional_state={"of": torch.tensor([float("nan"), 1])}), [], SOUND,
        "plain: what is not trained by is not a number",
    ),
    row(
        PLAIN, PLAIN_STATE, hurt.save_instead(None),
        [Code.TRAINING_STATE_MISSING, Code.OPTIMIZER_MISSING, Code.SCHEDULER_MISSING, Code.RNG_MISSING], SHORT,
        "plain: nothing for a state",
    ),
    row(HF, "optimizer.pt", hurt.save_instead("gone"), [Code.STATE_SHAPE], CORRUPT, "hf: a text for an optimizer"),
    row(
        PLAIN, PLAIN_STATE, hurt.save_instead([1, 2]),
        [Code.TRAINING_STATE_MISSING, Code.OPTIMIZER_MISSING, Code.SCHEDULER_MISSING, Code.RNG_MISSING], SHORT,
        "plain: a list for a state",
    ),
    row(
        HF, TRAINER_STATE, hurt.change_json(global_step=400), [Code.STEP_DISAGREES], SOUND,
        "hf: another save's state",
    ),
    row(PLAIN, PLAIN_STATE, hurt.change_state(global_step=121), [Code.STEP_DISAGREES], SOUND, "plain: 21 steps off"),
    row(PLAIN, PLAIN_STATE, hurt.change_state(global_step=120), [Code.STEP_OFFSET], SOUND, "plain: 20 steps off"),
    row(PLAIN, PLAIN_STATE, mark_as_baseline, [Code.RNG_BASELINE], SOUND, "plain: random states of another day"),
    row(
        PLAIN, PLAIN_STATE, hurt.change_state(optimizer_state_dict=None, not_saved=["optimizer"]),
        [Code.STATE_LEFT_OUT], SOUND, "plain: its job saves no optimizer",
    ),
]  # fmt: skip

BY_PERMISSION: Final = [
    row(HF, WEIGHTS, hurt.forbid_reading, [Code.FILE_UNREADABLE], UNREADABLE, "hf: the weights are another user's"),
    row(
        PLAIN, PLAIN_STATE, hurt.forbid_reading, [Code.FILE_UNREADABLE], UNREADABLE,
        "plain: the state is another user's",
    ),
    row(HF, WHOLE, hurt.forbid_reading, [Code.FOLDER_UNREADABLE], UNREADABLE, "hf: the folder is another user's"),
    row(
        HF, WHOLE, hurt.add_folder_that_nobody_may_list, [Code.FOLDER_UNREADABLE], UNREADABLE,
        "hf: a folder within is another user's",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "where", "injure", "codes", "verdict"), ROWS)
def test_an_injury_gives_exactly_its_findings(
    make: Callable[[Path], Path],
    where: str,
    injure: Callable[[Path], None],
    codes: list[Code],
    verdict: Verdict,
    tmp_path: Path,
) -> None:
    checkpoint = make(tmp_path / NAME)
    injure(checkpoint / where)
    report = verify(str(checkpoint))
    assert ([finding.code for finding in told(report)], report.verdict) == (codes, verdict)
    assert {finding.file for finding in told(report) if where and finding.file} <= {where, *_promised(codes)}


def test_what_cannot_be_continued_bit_for_bit_is_not_promised(tmp_path: Path) -> None:
    checkpoint = PLAIN(tmp_path / NAME)
    assert verify(str(checkpoint)).exact_resume
    mark_as_baseline(checkpoint / PLAIN_STATE)
    assert not verify(str(checkpoint)).exact_resume


def told(report: Report) -> list[Finding]:
    """All but the remark that every folder here is given: its writers save classes of their own."""
    return [finding for finding in report.findings if finding.code is not Code.WEIGHTS_ONLY_REFUSES]


def _promised(codes: list[Code]) -> tuple[str, ...]:
    return (INDEX, SECOND_SHARD) if Code.SHARD_MISSING in codes else ()


@pytest.mark.parametrize(("make", "where", "injure", "codes", "verdict"), BY_PERMISSION)
def test_what_may_not_be_read_gives_exactly_its_finding(
    make: Callable[[Path], Path],
    where: str,
    injure: Callable[[Path], None],
    codes: list[Code],
    verdict: Verdict,
    tmp_path: Path,
) -> None:
    checkpoint = make(tmp_path / NAME)
    injure(checkpoint / where)
    try:
        report = verify_as_ordinary_user(checkpoint)
    finally:
        checkpoint.chmod(0o700)
    assert ([finding.code for finding in told(report)], report.verdict) == (codes, verdict)


def test_every_code_of_one_file_has_an_injury() -> None:
    assert set() == OF_ONE_FILE - {code for row in (*ROWS, *BY_PERMISSION) for code in row.values[3]}


@pytest.mark.parametrize(
    ("make", "where", "injure", "component", "presence"),
    [
        pytest.param(HF, OPTIMIZER, hurt.flip_bit_in_storage, Component.OPTIMIZER, Presence.DAMAGED, id="damaged"),
        pytest.param(HF, OPTIMIZER, hurt.empty, Component.OPTIMIZER, Presence.EMPTY, id="empty"),
        pytest.param(HF, OPTIMIZER, hurt.remove, Component.OPTIMIZER, Presence.MISSING, id="missing"),
        pytest.param(PLAIN, PLAIN_STATE, hurt.cut_in_half, Component.RNG, Presence.DAMAGED, id="damaged with its file"),
        pytest.param(SHARDED, SECOND_SHARD, hurt.cut_in_half, Component.WEIGHTS, Presence.DAMAGED, id="one shard"),
        pytest.param(PLAIN, "tokenizer.json", hurt.remove, Component.SCALER, Presence.NOT_APPLICABLE, id="not used"),
    ],
)
def test_a_component_is_as_the_file_that_holds_it(
    make: Callable[[Path], Path],
    where: str,
    injure: Callable[[Path], None],
    component: Component,
    presence: Presence,
    tmp_path: Path,
) -> None:
    checkpoint = make(tmp_path / NAME)
    injure(checkpoint / where)
    assert verify(str(checkpoint)).components[component] is presence


def lose_then(injure: Callable[[Path], None]) -> Callable[[Path], None]:
    """An injury to a state without a scheduler."""

    def lose(file: Path) -> None:
        hurt.leave_out("scheduler_state_dict")(file)
        injure(file)

    return lose


def state_of_batches(folder: Path) -> Path:
    return write_files(folder, pth_files(2, 0, 10, optimizer_steps=20))


@pytest.mark.parametrize(
    ("make", "file", "injure", "damaged"),
    [
        pytest.param(
            PLAIN, PLAIN_STATE, hurt.flip_bit_in_storage, {"optimizer", "scheduler", "rng"}, id="its structure tells"
        ),
        pytest.param(
            PLAIN, PLAIN_STATE, hurt.cut_in_half, {"optimizer", "scheduler", "rng"}, id="what its writer always saves"
        ),
        pytest.param(
            PLAIN, PLAIN_STATE, lose_then(hurt.flip_bit_in_storage), {"optimizer", "rng"}, id="one that it never held"
        ),
        pytest.param(
            PLAIN, PLAIN_STATE, lose_then(hurt.flip_bit_in_pickle), {"optimizer", "scheduler", "rng"},
            id="a structure that is itself damaged",
        ),
        pytest.param(state_of_batches, "training_state.pth", hurt.flip_bit_in_storage, {"optimizer"}, id="of batches"),
        pytest.param(state_of_batches, "training_state.pth", hurt.cut_in_half, {"optimizer"}, id="half of batches"),
    ],
)  # fmt: skip
def test_only_what_may_lie_in_a_damaged_state_is_damaged_with_it(
    make: Callable[[Path], Path], file: str, injure: Callable[[Path], None], damaged: set[str], tmp_path: Path
) -> None:
    checkpoint = make(tmp_path / NAME)
    injure(checkpoint / file)
    components = verify(str(checkpoint)).components
    found = {component.value for component, presence in components.items() if presence is Presence.DAMAGED}
    assert found == damaged | {"training_state"}


def meanwhile(act: Callable[[], object]) -> Callable[[int], None]:
    """Does it once, when the first block has been read."""
    waiting = [act]

    def hear(_count: int) -> None:
        while waiting:
            waiting.pop()()

    return hear


def grow(checkpoint: Path) -> None:
    hurt.add_bytes(checkpoint / TRAINER_STATE)


def rewrite_what_was_read(checkpoint: Path) -> None:
    config = checkpoint / "config.json"
    config.write_bytes(config.read_bytes())
    os.utime(config, ns=(0, 0))


def remove_what_is_to_come(checkpoint: Path) -> None:
    (checkpoint / TRAINER_STATE).unlink()


def add_a_file(checkpoint: Path) -> None:
    (checkpoint / "scaler.pt").write_bytes(b"new")


def cut_what_is_being_read(checkpoint: Path) -> None:
    os.truncate(checkpoint / "config.json", 0)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(grow, id="a file that is read later grows"),
        pytest.param(rewrite_what_was_read, id="a file that was read is written again, at the same size"),
        pytest.param(remove_what_is_to_come, id="a file that is read later is removed"),
        pytest.param(add_a_file, id="a file is added"),
        pytest.param(cut_what_is_being_read, id="the file being read is cut"),
    ],
)
def test_a_change_while_reading_is_never_taken_for_damage(act: Callable[[Path], None], tmp_path: Path) -> None:
    checkpoint = HF(tmp_path / NAME)
    report = verify(str(checkpoint), on_bytes=meanwhile(lambda: act(checkpoint)))
    assert [finding.code for finding in report.findings] == [Code.STILL_BEING_WRITTEN]
    assert report.still_changing
    assert not report.exact_resume


def test_a_checkpoint_removed_while_it_is_read_is_still_changing(tmp_path: Path) -> None:
    checkpoint = HF(tmp_path / NAME)
    report = verify(str(checkpoint), on_bytes=meanwhile(lambda: checkpoint.rename(tmp_path / "moved")))
    assert report.still_changing


def test_damage_that_a_second_reading_does_not_find_is_the_reader_s_and_not_the_file_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = HF(tmp_path / NAME)
    lies = [b"a cable that lies once"]
    preadv = os.preadv

    def lying_preadv(descriptor: int, buffers: list[memoryview], start: int, *flags: int) -> int:
        count = preadv(descriptor, buffers, start, *flags)
        place = bytes(buffers[0][:count]).find(b"betas")
        if start == 0 and place >= 0 and lies:
            lies.clear()
            buffers[0][place] ^= 1
        return count

    monkeypatch.setattr("os.preadv", lying_preadv)
    report = verify(str(checkpoint))
    assert [(finding.code, finding.file) for finding in told(report)] == [(Code.READS_DIFFER, OPTIMIZER)]
    assert report.verdict is UNREADABLE
