"""How each fault of the matrix is brought about. All take a scene, whose seed decides where it strikes."""

from __future__ import annotations

import os
import shutil
import struct
import zipfile
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import torch

import injuries as hurt
import trained
from builders import saved

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scenes import Scene
    from trained import Weights

    Spoil = Callable[[Scene], None]

_PAGE: Final = 4096
_PAGES_AT_THE_END: Final = 3
_HOLE: Final = 4 * _PAGE
_BITS_OF_MANTISSA: Final = 16  # of a float32 in little-endian order the first two bytes: no number becomes NaN


# Bytes


def flip_weight_bit(scene: Scene) -> None:
    file = scene.weights()
    number = scene.chance.randrange((file.stat().st_size - _data_start(file)) // 4)
    bit = scene.chance.randrange(_BITS_OF_MANTISSA)
    hurt.flip_bit(file, _data_start(file) + 4 * number + bit // 8, bit % 8)


def flip_optimizer_bit(scene: Scene) -> None:
    _flip_storage_bit(scene, scene.file_of(scene.layout.optimizer))


def flip_storage_bit(name: str) -> Spoil:
    return lambda scene: _flip_storage_bit(scene, scene.checkpoint / name)


def _flip_storage_bit(scene: Scene, file: Path) -> None:
    """In a storage that a checksum covers, wherever it lies."""
    with zipfile.ZipFile(file) as records:
        storages = [r.filename.partition("/")[2] for r in records.infolist() if "/data/" in r.filename and r.file_size]
        record = scene.chance.choice(storages)
        size = records.getinfo(f"{records.infolist()[0].filename.partition('/')[0]}/{record}").file_size
    hurt.flip_bit(file, hurt.start_of_record(file, record) + scene.chance.randrange(size), scene.chance.randrange(8))


def zero_page(scene: Scene) -> None:
    """Within a tensor: it keeps other values before and after."""
    file = scene.pick("model.safetensors", "model-00001-*.safetensors")
    start = _data_start(file) // _PAGE * _PAGE + _PAGE * scene.chance.randrange(1, 4)
    _overwrite(file, start, bytes(_PAGE))


def zero_end(scene: Scene) -> None:
    file = scene.weights()
    size = file.stat().st_size
    start = (size - _PAGES_AT_THE_END * _PAGE) // _PAGE * _PAGE
    _overwrite(file, start, bytes(size - start))


def punch_hole(scene: Scene) -> None:
    file = scene.weights()
    content, start = file.read_bytes(), 2 * _PAGE
    file.unlink()
    with file.open("wb") as written:
        written.write(content[:start])
        written.seek(start + _HOLE)
        written.write(content[start + _HOLE :])


def damage_directory(scene: Scene) -> None:
    hurt.flip_bit_in_directory(scene.file_of(scene.layout.optimizer))


def save_before_zip(scene: Scene) -> None:
    file = scene.file_of(scene.layout.optimizer)
    torch.save(torch.load(file, weights_only=False), file, _use_new_zipfile_serialization=False)


def save_without_checksums(scene: Scene) -> None:
    hurt.save_without_checksums(scene.file_of(scene.layout.optimizer))


def cut(*patterns: str) -> Spoil:
    """Anywhere after the first byte; of a text, before its last sign."""

    def spoil(scene: Scene) -> None:
        file = scene.pick(*patterns)
        hurt.cut(file, scene.chance.randrange(1, len(file.read_bytes().rstrip())))

    return spoil


def garble(scene: Scene) -> None:
    scene.pick("*.json").write_bytes(b"\x00" + scene.chance.randbytes(200))


def _overwrite(file: Path, start: int, content: bytes) -> None:
    whole = bytearray(file.read_bytes())
    whole[start : start + len(content)] = content
    file.write_bytes(whole)


def _data_start(file: Path) -> int:
    return 8 + int(struct.unpack_from("<Q", file.read_bytes())[0])


# Numbers


def plant_in_weights(value: str) -> Spoil:
    return lambda scene: scene.change_weights(scene.weights(), lambda tensors: _planted(scene, tensors, value))


def plant_in_moments(value: str) -> Spoil:
    def change(scene: Scene, optimizer: dict[str, Any]) -> dict[str, Any]:
        number = scene.chance.choice(sorted(optimizer["state"]))
        state = optimizer["state"][number]
        moments = {key: state[key] for key in ("exp_avg", "exp_avg_sq")}
        changed = {**optimizer["state"], number: state | _planted(scene, moments, value)}
        return optimizer | {"state": changed}

    return lambda scene: scene.change(scene.layout.optimizer, lambda held: change(scene, held))


def _planted(scene: Scene, tensors: Weights, value: str) -> Weights:
    name = scene.chance.choice(sorted(tensors))
    changed = tensors[name].clone()
    changed.view(-1)[scene.chance.randrange(changed.numel())] = float(value)
    return {**tensors, name: changed}


def zero_weights(scene: Scene) -> None:
    for file in _weight_files(scene):
        scene.change_weights(file, lambda tensors: {name: torch.zeros_like(held) for name, held in tensors.items()})


def zero_tensor(scene: Scene) -> None:
    def change(tensors: Weights) -> Weights:
        name = scene.chance.choice(sorted(tensors))
        return {**tensors, name: torch.zeros_like(tensors[name])}

    scene.change_weights(scene.weights(), change)


def zero_moments(scene: Scene) -> None:
    def change(optimizer: dict[str, Any]) -> dict[str, Any]:
        zeroed = {
            number: {key: held if key == "step" else torch.zeros_like(held) for key, held in state.items()}
            for number, state in optimizer["state"].items()
        }
        return optimizer | {"state": zeroed}

    scene.change(scene.layout.optimizer, change)


def set_rate(rate: float | None) -> Spoil:
    def change(optimizer: dict[str, Any]) -> dict[str, Any]:
        return optimizer | {"param_groups": [group | {"lr": rate} for group in optimizer["param_groups"]]}

    return lambda scene: scene.change(scene.layout.optimizer, change)


def spoil_schedule(scheduler: dict[str, Any]) -> dict[str, Any]:
    return scheduler | {"_last_lr": [float("nan")]}


def on_scheduler(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Spoil:
    def spoil(scene: Scene) -> None:
        assert scene.layout.scheduler is not None
        scene.change(scene.layout.scheduler, change)

    return spoil


# What is not there


def empty_optimizer(scene: Scene) -> None:
    scene.change(scene.layout.optimizer, lambda held: held | {"state": {}})


def drop_moments(optimizer: dict[str, Any]) -> dict[str, Any]:
    """The second ones, of every parameter."""
    states = optimizer["state"].items()
    kept = {number: {key: held for key, held in state.items() if key != "exp_avg_sq"} for number, state in states}
    return optimizer | {"state": kept}


def drop_half(optimizer: dict[str, Any]) -> dict[str, Any]:
    """Of every second parameter."""
    kept = {number: state for place, (number, state) in enumerate(optimizer["state"].items()) if place % 2}
    return optimizer | {"state": kept}


def drop_groups(optimizer: dict[str, Any]) -> dict[str, Any]:
    return {"state": optimizer["state"]}


def on_optimizer(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Spoil:
    return lambda scene: scene.change(scene.layout.optimizer, change)


def empty(part: str) -> Spoil:
    return lambda scene: scene.change(getattr(scene.layout, part), lambda _held: {})


def drop(part: str) -> Spoil:
    """The file of it, or its key where it lies in a larger state."""

    def spoil(scene: Scene) -> None:
        name, _, key = getattr(scene.layout, part).partition(":")
        if not key:
            (scene.checkpoint / name).unlink()
            return
        scene.change(name, lambda state: {held: value for held, value in state.items() if held != key})

    return spoil


def drop_torch_random_state(scene: Scene) -> None:
    if scene.layout.rng is None:
        raise ValueError(scene.layout.name)
    scene.change(
        scene.layout.rng,
        lambda held: {key: value for key, value in held.items() if key not in ("cpu", "torch_rng_state")},
    )


def drop_state(scene: Scene) -> None:
    scene.file_of(scene.layout.state).unlink()


def remove(pattern: str) -> Spoil:
    return on_file(pattern, hurt.remove)


def remove_weights(scene: Scene) -> None:
    scene.weights().unlink()


def on_file(pattern: str, injure: Callable[[Path], None]) -> Spoil:
    return lambda scene: injure(scene.pick(pattern))


def add(name: str, content: bytes) -> Spoil:
    def spoil(scene: Scene) -> None:
        (scene.checkpoint / name).write_bytes(content)

    return spoil


def on_weights(injure: Callable[[Path], None]) -> Spoil:
    return lambda scene: injure(scene.weights())


def on_part(part: str, injure: Callable[[Path], None]) -> Spoil:
    return lambda scene: injure(scene.file_of(getattr(scene.layout, part)))


# What belongs elsewhere


def bring_earlier(part: str) -> Spoil:
    """Saved anew, so that only what it says tells where it is from."""

    def spoil(scene: Scene) -> None:
        scene.change(getattr(scene.layout, part), lambda _held: getattr(trained.moment(trained.EARLIER), part))

    return spoil


def copy_earlier(part: str) -> Spoil:
    def spoil(scene: Scene) -> None:
        file = scene.file_of(getattr(scene.layout, part))
        shutil.copyfile(scene.earlier / file.name, file)

    return spoil


def copy_earlier_weights(scene: Scene) -> None:
    _copy_earlier_file(scene, scene.weights())


def copy_earlier_shard(scene: Scene) -> None:
    _copy_earlier_file(scene, scene.pick("model-*.safetensors"))


def bring_optimizer_of_another_run(scene: Scene) -> None:
    _bring_optimizer(scene, trained.moment(trained.STEP, seed=1).optimizer)


def bring_optimizer_of_another_step(scene: Scene) -> None:
    _bring_optimizer(scene, trained.moment(trained.OTHER, seed=1).optimizer)


def bring_optimizer_of_another_model(scene: Scene) -> None:
    _bring_optimizer(scene, trained.moment(trained.STEP, hidden=2 * trained.HIDDEN).optimizer)


def swap_shards(scene: Scene) -> None:
    one, other = scene.chance.sample(sorted(scene.checkpoint.glob("model-*.safetensors")), 2)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def lose_entry(scene: Scene) -> None:
    def change(index: dict[str, Any]) -> dict[str, Any]:
        lost = scene.chance.choice(sorted(index["weight_map"]))
        return index | {"weight_map": {name: shard for name, shard in index["weight_map"].items() if name != lost}}

    scene.change(scene.pick("*.index.json").name, change)


def add_stray_shard(scene: Scene) -> None:
    """As an earlier save in four parts leaves it."""
    shutil.copyfile(scene.pick("model-*.safetensors"), scene.checkpoint / "model-00004-of-00004.safetensors")


def set_config(**changes: Any) -> Spoil:
    return on_file("config.json", hurt.change_json(**changes))


def set_step(scene: Scene) -> None:
    _set_step(scene, trained.STEP + scene.chance.randrange(50, 500))


def set_step_nearby(scene: Scene) -> None:
    _set_step(scene, trained.STEP + 15)


def _set_step(scene: Scene, step: int) -> None:
    if scene.layout.state.endswith(".pth"):
        epochs, batches = divmod(step, 100)
        scene.change(scene.layout.state, lambda held: held | {"epoch": epochs + bool(batches), "step": batches})
    else:
        scene.change(scene.layout.state, lambda held: held | {"global_step": step})


def rename_folder(scene: Scene) -> None:
    scene.checkpoint = scene.checkpoint.rename(scene.checkpoint.with_name("checkpoint-900"))


def _bring_optimizer(scene: Scene, optimizer: dict[str, Any]) -> None:
    scene.change(scene.layout.optimizer, lambda _held: optimizer)


def _copy_earlier_file(scene: Scene, file: Path) -> None:
    shutil.copyfile(scene.earlier / file.name, file)


# Tensors and names


def drop_tensor(scene: Scene) -> None:
    def change(tensors: Weights) -> Weights:
        dropped = scene.chance.choice(sorted(tensors))
        return {name: held for name, held in tensors.items() if name != dropped}

    scene.change_weights(scene.weights(), change)


def add_tensor(scene: Scene) -> None:
    scene.change_weights(scene.weights(), lambda held: {**held, "model.layers.1.mlp.up_proj.weight": torch.ones(2, 2)})


def add_prefix(prefix: str) -> Spoil:
    def change(tensors: Weights) -> Weights:
        return {f"{prefix}{name}": held for name, held in tensors.items()}

    return lambda scene: scene.change_weights(scene.weights(), change)


def add_file(scene: Scene) -> None:
    (scene.checkpoint / "notes.txt").write_text("the best one so far\n")


def save_unknown_class(scene: Scene) -> None:
    scene.change("training_args.bin", lambda _held: Fraction(1, 3))


class _Program:
    """Loading it would run a program. lastgood never does, and no test loads it either."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def plant_program(scene: Scene) -> None:
    file = scene.file_of(scene.layout.optimizer)
    file.write_bytes(saved(torch.load(file, weights_only=False) | {"hook": _Program()}))


def _weight_files(scene: Scene) -> list[Path]:
    return sorted([*scene.checkpoint.glob("*.safetensors"), *scene.checkpoint.glob("pytorch_model.bin")])
