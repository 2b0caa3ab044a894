"""What can go wrong with a checkpoint, in which layouts, and what lastgood must say of it: exactly these codes.

Codes above information decide; `remarks` are the information that must be there too. Each fault is judged alone, beside
the run's earlier checkpoint, and against its own manifest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import injuries as hurt
import spoiling as spoil
from lastgood.findings import Code, Severity, Verdict
from scenes import FORGATHER, FORGATHER_OLD, HF, HF_BIN, HF_RANKS, HF_SCALER, HF_SHARDS, LAYOUTS, PLAIN, PTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from lastgood.facts import Report
    from scenes import Layout, Scene


@dataclass(frozen=True)
class Seen:
    """What lastgood says."""

    verdict: Verdict
    codes: frozenset[Code]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong; `beside` is what is said where the run's earlier checkpoint is known."""

    name: str
    spoil: Callable[[Scene], None]
    layouts: tuple[Layout, ...]
    alone: Seen
    beside: Seen
    remarks: frozenset[Code] = frozenset()
    seeds: int = 1


def seen_in(report: Report) -> Seen:
    """What a report says, information left out."""
    return Seen(report.verdict, frozenset(f.code for f in report.findings if f.severity is not Severity.INFO))


def seen(verdict: Verdict, *codes: Code) -> Seen:
    return Seen(verdict, frozenset(codes))


def fault(
    name: str,
    how: Callable[[Scene], None],
    layouts: tuple[Layout, ...],
    alone: Seen,
    *,
    beside: Seen | None = None,
    remarks: tuple[Code, ...] = (),
    seeds: int = 1,
) -> Fault:
    return Fault(name, how, layouts, alone, beside or alone, frozenset(remarks), seeds)


SAFETENSORS: Final = (HF, HF_SHARDS, HF_RANKS, PLAIN, PTH, FORGATHER)
ONE_FILE: Final = (HF, HF_BIN, PLAIN, PTH, FORGATHER)
ALL: Final = LAYOUTS
WITHOUT_SCALER: Final = tuple(layout for layout in LAYOUTS if layout is not HF_SCALER)  # it skips steps
WITH_SCHEDULER: Final = (HF, PLAIN, FORGATHER_OLD, FORGATHER)
WITH_RNG: Final = (HF, PLAIN, FORGATHER)
OPTIMIZER_ALONE: Final = (HF, HF_SHARDS, FORGATHER)
WITH_JSON_STATE: Final = (HF, HF_SHARDS, HF_RANKS)

SOUND: Final = seen(Verdict.COMPLETE)  # nobody can tell from the checkpoint itself
PARTIAL: Final = Verdict.PARTIAL
SHORT: Final = Verdict.INCOMPLETE
CORRUPT: Final = Verdict.CORRUPT
SICK: Final = Verdict.UNHEALTHY
COMPLETE: Final = Verdict.COMPLETE

BITS: Final = (
    fault("nothing at all", lambda _scene: None, ALL, SOUND),
    fault("a flipped bit in the weights, in safetensors", spoil.flip_weight_bit, SAFETENSORS, SOUND, seeds=3),
    fault(
        "a flipped bit in the weights, in .bin",
        spoil.flip_storage_bit("pytorch_model.bin"), (HF_BIN,), seen(CORRUPT, Code.ZIP_RECORD_CRC), seeds=3,
    ),
    fault(
        "a flipped bit in the optimizer", spoil.flip_optimizer_bit, ALL, seen(CORRUPT, Code.ZIP_RECORD_CRC), seeds=2
    ),
    fault("a page of zeros in the weights", spoil.zero_page, SAFETENSORS, SOUND, seeds=3),
    fault(
        "pages of zeros at the end of the weights", spoil.zero_end, (HF, PLAIN, FORGATHER),
        seen(COMPLETE, Code.ZERO_TAIL), beside=seen(SICK, Code.ZERO_TAIL, Code.TENSOR_ZEROED),
    ),
    fault("a hole in the weights", spoil.punch_hole, (HF, PLAIN, PTH), seen(COMPLETE, Code.FILE_SPARSE)),
    fault("the zip's list of records is damaged", spoil.damage_directory, ALL, seen(CORRUPT, Code.ZIP_DIRECTORY)),
    fault(
        "the optimizer in torch's older format", spoil.save_before_zip, (HF, PLAIN, FORGATHER), SOUND,
        remarks=(Code.NO_CHECKSUM,),
    ),
    fault(
        "checksums were switched off", spoil.save_without_checksums, (HF, PLAIN, FORGATHER), SOUND,
        remarks=(Code.ZIP_NO_CRC,),
    ),
)  # fmt: skip

NUMBERS: Final = (
    fault("NaN in a weight", spoil.plant_in_weights("nan"), ALL, seen(SICK, Code.NOT_A_NUMBER), seeds=2),
    fault("infinity in a weight", spoil.plant_in_weights("inf"), ALL, seen(SICK, Code.NOT_FINITE), seeds=2),
    fault("NaN in a moment", spoil.plant_in_moments("nan"), ALL, seen(SICK, Code.NOT_A_NUMBER)),
    fault("infinity in a moment", spoil.plant_in_moments("inf"), ALL, seen(SICK, Code.NOT_FINITE)),
    fault("all weights are zero", spoil.zero_weights, ALL, seen(SICK, Code.WEIGHTS_ZERO)),
    fault(
        "one tensor is zero", spoil.zero_tensor, ALL, SOUND, beside=seen(SICK, Code.TENSOR_ZEROED), seeds=3
    ),
    fault("all moments are zero", spoil.zero_moments, ALL, seen(PARTIAL, Code.OPTIMIZER_EMPTY)),
    fault("the learning rate is 0", spoil.set_rate(0.0), ALL, SOUND, remarks=(Code.RATE_ZERO,)),
    fault("the learning rate is negative", spoil.set_rate(-1.0), ALL, seen(SICK, Code.RATE_NEGATIVE)),
    fault("there is no learning rate", spoil.set_rate(None), ALL, seen(SICK, Code.NOT_A_NUMBER)),
    fault(
        "the schedule's rate is NaN", spoil.on_scheduler(spoil.spoil_schedule), WITH_SCHEDULER,
        seen(SICK, Code.NOT_A_NUMBER),
    ),
)  # fmt: skip

MISSING: Final = (
    fault("the optimizer holds no state", spoil.empty_optimizer, ALL, seen(PARTIAL, Code.OPTIMIZER_EMPTY)),
    fault(
        "half of the optimizer's states are missing", spoil.on_optimizer(spoil.drop_half), ALL, SOUND,
        beside=seen(COMPLETE, Code.OPTIMIZER_STRANGE),
    ),
    fault(
        "the second moments are missing", spoil.on_optimizer(spoil.drop_moments), ALL, seen(CORRUPT, Code.STATE_SHAPE)
    ),
    fault(
        "the optimizer's groups are missing", spoil.on_optimizer(spoil.drop_groups), ALL,
        seen(CORRUPT, Code.STATE_SHAPE),
    ),
    fault("the optimizer is missing", spoil.drop("optimizer"), ALL, seen(PARTIAL, Code.OPTIMIZER_MISSING)),
    fault(
        "the scheduler is missing", spoil.drop("scheduler"), WITH_SCHEDULER, seen(PARTIAL, Code.SCHEDULER_MISSING)
    ),
    fault("the scheduler holds nothing", spoil.empty("scheduler"), WITH_SCHEDULER, seen(PARTIAL, Code.SCHEDULER_EMPTY)),
    fault(
        "the scheduler's state is something else", spoil.on_scheduler(lambda _held: {"name": 1}), WITH_SCHEDULER,
        seen(COMPLETE, Code.SCHEDULER_STRANGE),
    ),
    fault("the random states hold nothing", spoil.empty("rng"), WITH_RNG, seen(PARTIAL, Code.RNG_EMPTY)),
    fault("the random states are missing", spoil.drop("rng"), WITH_RNG, seen(PARTIAL, Code.RNG_MISSING)),
    fault(
        "torch's random state is missing", spoil.drop_torch_random_state, (HF, HF_RANKS, PLAIN),
        seen(PARTIAL, Code.RNG_INCOMPLETE),
    ),
    fault("a rank's file is missing", spoil.drop("rng"), (HF_RANKS,), seen(SHORT, Code.RANKS_MISSING)),
    fault(
        "the loss scaler is missing", spoil.remove("scaler.pt"), (HF_SCALER,), SOUND,
        beside=seen(COMPLETE, Code.SCALER_MISSING),
    ),
    fault("the weights are missing", spoil.remove_weights, ONE_FILE, seen(SHORT, Code.WEIGHTS_MISSING)),
    fault(
        "a shard is missing", spoil.remove("model-*.safetensors"), (HF_SHARDS,), seen(SHORT, Code.SHARD_MISSING),
        seeds=3,
    ),
    fault("the index is missing", spoil.remove("*.index.json"), (HF_SHARDS,), seen(SHORT, Code.SHARD_MISSING)),
    fault("config.json is missing", spoil.remove("config.json"), (HF, PLAIN), seen(SHORT, Code.CONFIG_MISSING)),
    fault(
        "the trainer's state is missing", spoil.drop_state, WITH_JSON_STATE, seen(SHORT, Code.TRAINING_STATE_MISSING)
    ),
)  # fmt: skip

TORN: Final = (
    fault(
        "the weights are cut short, in safetensors", spoil.cut("*.safetensors"), SAFETENSORS,
        seen(SHORT, Code.SAFETENSORS_SHORT), seeds=4,
    ),
    fault("a torch file is cut short", spoil.cut("*.pt", "*.pth", "*.bin"), ALL, seen(SHORT, Code.ZIP_SHORT), seeds=4),
    fault("a JSON file is cut short", spoil.cut("*.json"), ALL, seen(SHORT, Code.JSON_SHORT), seeds=4),
    fault("the weights are empty", spoil.on_weights(hurt.empty), ALL, seen(SHORT, Code.FILE_EMPTY)),
    fault(
        "the optimizer's file is empty", spoil.on_part("optimizer", hurt.empty), OPTIMIZER_ALONE,
        seen(SHORT, Code.FILE_EMPTY, Code.OPTIMIZER_EMPTY),
    ),
    fault(
        "the training state is empty", spoil.on_part("state", hurt.empty), (PLAIN,),
        seen(SHORT, Code.FILE_EMPTY, Code.OPTIMIZER_EMPTY, Code.SCHEDULER_EMPTY, Code.RNG_EMPTY),
    ),
    fault("a JSON file is empty", spoil.on_file("*.json", hurt.empty), ALL, seen(SHORT, Code.FILE_EMPTY), seeds=2),
    fault("a JSON file is garbage", spoil.garble, ALL, seen(CORRUPT, Code.JSON_INVALID), seeds=2),
    fault(
        "raw bytes of another program, called .bin", spoil.add("openvino_model.bin", bytes(range(256)) * 64), ALL,
        seen(COMPLETE, Code.FILE_NOT_UNDERSTOOD),
    ),
    fault(
        "config.json is a list", spoil.on_file("config.json", hurt.write_json([1])), (HF, PLAIN, FORGATHER),
        seen(CORRUPT, Code.JSON_SHAPE),
    ),
    fault(
        "the index is a list", spoil.on_file("*.index.json", hurt.write_json([1])), (HF_SHARDS,),
        seen(CORRUPT, Code.JSON_SHAPE),
    ),
    fault(
        "the weights are a text", spoil.on_file("pytorch_model.bin", hurt.write_text), (HF_BIN,),
        seen(CORRUPT, Code.TORCH_FORMAT),
    ),
)  # fmt: skip

MIXED: Final = (
    fault(
        "the optimizer of another checkpoint of the run", spoil.bring_earlier("optimizer"), (PLAIN, FORGATHER_OLD),
        seen(COMPLETE, Code.STEP_DISAGREES),
    ),
    fault(  # alone it may count steps of two batches each
        "the optimizer of another checkpoint of a run that counts batches", spoil.bring_earlier("optimizer"), (PTH,),
        SOUND, beside=seen(COMPLETE, Code.STEP_DISAGREES),
    ),
    fault(
        "the optimizer's file of the earlier checkpoint", spoil.copy_earlier("optimizer"), OPTIMIZER_ALONE,
        seen(COMPLETE, Code.STEP_DISAGREES), beside=seen(CORRUPT, Code.STEP_DISAGREES, Code.FILE_OF_ANOTHER),
    ),
    fault(
        "the training state of the earlier checkpoint", spoil.copy_earlier("state"), (PLAIN, FORGATHER_OLD),
        seen(COMPLETE, Code.STEP_DISAGREES), beside=seen(CORRUPT, Code.STEP_DISAGREES, Code.FILE_OF_ANOTHER),
    ),
    fault("the optimizer of another run, at the same step", spoil.bring_optimizer_of_another_run, ALL, SOUND),
    fault(
        "the optimizer of another run, at another step", spoil.bring_optimizer_of_another_step, ALL,
        seen(COMPLETE, Code.STEP_DISAGREES),
    ),
    fault(
        "the optimizer of another model", spoil.bring_optimizer_of_another_model, ALL,
        seen(CORRUPT, Code.OPTIMIZER_DISAGREES),
    ),
    fault(
        "the scheduler of another checkpoint of the run", spoil.bring_earlier("scheduler"), WITH_SCHEDULER,
        seen(COMPLETE, Code.STEP_DISAGREES),
    ),
    fault(
        "the weights of the earlier checkpoint", spoil.copy_earlier_weights, ONE_FILE, SOUND,
        beside=seen(COMPLETE, Code.WEIGHTS_UNCHANGED),
    ),
    fault(
        "a shard of the earlier checkpoint", spoil.copy_earlier_shard, (HF_SHARDS,), SOUND,
        beside=seen(COMPLETE, Code.WEIGHTS_UNCHANGED), seeds=3,
    ),
    fault("swapped shards", spoil.swap_shards, (HF_SHARDS,), seen(COMPLETE, Code.INDEX_DISAGREES), seeds=2),
    fault("a lost entry of the index", spoil.lose_entry, (HF_SHARDS,), seen(COMPLETE, Code.INDEX_DISAGREES), seeds=2),
    fault("a stray shard", spoil.add_stray_shard, (HF_SHARDS,), seen(COMPLETE, Code.SHARD_STRAY)),
    fault(
        "config.json of a model with more words", spoil.set_config(vocab_size=50257), ALL,
        seen(COMPLETE, Code.CONFIG_DISAGREES),
    ),
    fault(
        "config.json of a wider model", spoil.set_config(hidden_size=768), ALL, seen(COMPLETE, Code.CONFIG_DISAGREES)
    ),
    fault("another step in the state", spoil.set_step, ALL, seen(COMPLETE, Code.STEP_DISAGREES), seeds=2),
    fault(
        "a few steps more in the state", spoil.set_step_nearby, WITHOUT_SCALER, SOUND, remarks=(Code.STEP_OFFSET,),
        beside=seen(COMPLETE, Code.STEP_DISAGREES),
    ),
    fault("another step in the folder's name", spoil.rename_folder, ALL, seen(COMPLETE, Code.STEP_DISAGREES)),
)  # fmt: skip

TENSORS: Final = (
    fault(
        "a tensor is missing from the weights", spoil.drop_tensor, ONE_FILE, seen(COMPLETE, Code.TENSORS_CHANGED),
        beside=seen(CORRUPT, Code.TENSORS_LOST), seeds=2,
    ),
    fault(
        "a tensor more in the weights", spoil.add_tensor, ONE_FILE, SOUND, beside=seen(COMPLETE, Code.TENSORS_CHANGED)
    ),
    fault(
        "names that begin with _orig_mod.", spoil.add_prefix("_orig_mod."), ONE_FILE,
        seen(COMPLETE, Code.WRAPPER_PREFIX),
    ),
    fault(
        "names that begin with module.", spoil.add_prefix("module."), ONE_FILE, seen(COMPLETE, Code.WRAPPER_PREFIX)
    ),
)  # fmt: skip

PLACES: Final = (
    fault("a pickle that runs a program", spoil.plant_program, ALL, seen(CORRUPT, Code.UNSAFE_PICKLE)),
    fault(
        "a pipe in the weights' place", spoil.on_weights(hurt.put_pipe_in_place), ALL,
        seen(CORRUPT, Code.FILE_NOT_REGULAR),
    ),
    fault(
        "a socket in the weights' place", spoil.on_weights(hurt.put_socket_in_place), ALL,
        seen(CORRUPT, Code.FILE_NOT_REGULAR),
    ),
    fault(
        "a link to nothing in the weights' place", spoil.on_weights(hurt.put_link_to_nothing_in_place), ALL,
        seen(CORRUPT, Code.FILE_NOT_REGULAR),
    ),
    fault(
        "the weights are a link out of the checkpoint", spoil.on_weights(hurt.put_link_out_in_place), ALL,
        seen(COMPLETE, Code.LINK_LEAVES_CHECKPOINT),
    ),
    fault(
        "a folder in the weights' place", spoil.on_weights(hurt.put_folder_in_place), ONE_FILE,
        seen(SHORT, Code.WEIGHTS_MISSING),
    ),
    fault(
        "a folder in the optimizer's place", spoil.on_part("optimizer", hurt.put_folder_in_place), OPTIMIZER_ALONE,
        seen(PARTIAL, Code.OPTIMIZER_MISSING),
    ),
    fault(
        "an object of a class that nobody knows", spoil.save_unknown_class, (HF, HF_RANKS), SOUND,
        remarks=(Code.WEIGHTS_ONLY_REFUSES,),
    ),
    fault("a file more", spoil.add_file, ALL, SOUND),
)  # fmt: skip

FAULTS: Final = (*BITS, *NUMBERS, *MISSING, *TORN, *MIXED, *TENSORS, *PLACES)

#: What no state of a folder gives: somebody who writes while we read, a disk that lies, a worker, the real loaders.
OF_THE_MOMENT: Final = frozenset(
    {
        Code.STILL_BEING_WRITTEN,
        Code.READS_DIFFER,
        Code.CHECKER_DIED,
        Code.CONCURRENT_WRITERS,
        Code.LOADER_REFUSES,
    }
)
#: Of one file's bytes or mode, whatever the layout: each has its injury in tests/library/test_verify_injuries.py.
OF_ONE_FILE: Final = frozenset(
    {
        Code.FOLDER_UNREADABLE,
        Code.FILE_UNREADABLE,
        Code.SAVE_UNFINISHED,
        Code.LEFTOVER_TEMPORARY,
        Code.LAYOUT_UNKNOWN,
        Code.CONFIG_NOT_SAVED,
        Code.SAFETENSORS_HEADER,
        Code.SAFETENSORS_LAYOUT,
        Code.PICKLE_DAMAGED,
        Code.STORAGE_MISMATCH,
        Code.RNG_BASELINE,
        Code.STATE_LEFT_OUT,
        Code.PROGRESS_UNTOLD,
        Code.PROGRESS_ESTIMATED,
    }
)
