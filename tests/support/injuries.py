"""Injuries: each changes one fact of a good checkpoint. All take the path of the file, or of the checkpoint itself."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import zipfile
from typing import TYPE_CHECKING, Any

from builders import saved

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEMPORARY = ".tmpA1b2C3"


# Any file


def remove(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut_in_half(file: Path) -> None:
    cut(file, file.stat().st_size // 2)


def cut_last_byte(file: Path) -> None:
    cut(file, file.stat().st_size - 1)


def cut_to_ten_bytes(file: Path) -> None:
    cut(file, 10)


def cut(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


def add_bytes(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"more")


def fill_with_zeros(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def write_text(file: Path) -> None:
    file.write_text("this was a file of torch once\n")


def flip_bit(file: Path, position: int, bit: int = 0) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << bit
    file.write_bytes(content)


# What lies in a file's place


def put_pipe_in_place(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def put_socket_in_place(file: Path) -> None:
    file.unlink()
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(f"/proc/self/fd/{folder}/{file.name}")  # the path itself may be too long for a socket
    finally:
        os.close(folder)


def put_folder_in_place(file: Path) -> None:
    file.unlink()
    file.mkdir()


def put_folder_link_in_place(file: Path) -> None:
    file.unlink()
    file.symlink_to(_beside_the_run(file, "elsewhere", folder=True), target_is_directory=True)


def put_link_to_nothing_in_place(file: Path) -> None:
    file.unlink()
    file.symlink_to("nothing")


def put_link_to_itself_in_place(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


def put_link_below_a_file_in_place(file: Path) -> None:
    file.unlink()
    file.symlink_to("config.json/nothing")


def put_link_out_in_place(file: Path) -> None:
    target = _beside_the_run(file, file.name)
    file.rename(target)
    file.symlink_to(target)


def put_link_within_in_place(file: Path) -> None:
    file.rename(file.parent / "blob")
    file.symlink_to("blob")


def forbid_reading(path: Path) -> None:
    path.chmod(0)


def add_folder_that_nobody_may_list(checkpoint: Path) -> None:
    (checkpoint / "global_step5").mkdir(mode=0)


def _beside_the_run(file: Path, name: str, *, folder: bool = False) -> Path:
    place = file.parent.parent / "outside"
    place.mkdir()
    if folder:
        (place / name).mkdir()
    return place / name


# Traces of a writer


def add_newer_temporary(checkpoint: Path) -> None:
    _add_temporary(checkpoint, seconds=1)


def add_older_temporary(checkpoint: Path) -> None:
    _add_temporary(checkpoint, seconds=-60)


def add_mark_of_progress(checkpoint: Path) -> None:
    (checkpoint / "checkpoint-is-incomplete.txt").write_text("saving")


def _add_temporary(checkpoint: Path, seconds: int) -> None:
    newest = max(file.stat().st_mtime_ns for file in checkpoint.iterdir())
    (checkpoint / TEMPORARY).write_bytes(b"half of a tensor")
    os.utime(checkpoint / TEMPORARY, ns=(newest, newest + seconds * 10**9))


# safetensors


def claim_huge_header(file: Path) -> None:
    flip_bit(file, 7, 6)


def claim_header_beyond_end(file: Path) -> None:
    flip_bit(file, 2, 6)


def claim_other_header_length(file: Path) -> None:
    flip_bit(file, 0, 0)


def flip_bit_in_header(file: Path) -> None:
    flip_bit(file, 8, 0)


def leave_gap_between_tensors(file: Path) -> None:
    _change_header(file, lambda header: _move(header, by=4), grow=4)


def let_tensors_overlap(file: Path) -> None:
    _change_header(file, lambda header: _move(header, by=-4), grow=-4)


def claim_other_shape(file: Path) -> None:
    _change_header(file, lambda header: _last(header).update(shape=[3, 3]))


def claim_unknown_dtype(file: Path) -> None:
    _change_header(file, lambda header: _last(header).update(dtype="F33"))


def name_tensor_twice(file: Path) -> None:
    content = file.read_bytes()
    length = struct.unpack_from("<Q", content)[0]
    header = content[8 : 8 + length].replace(b"embed.weight", b" head.weight").replace(b" head", b"head")
    file.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])


def _change_header(file: Path, change: Callable[[dict[str, Any]], None], grow: int = 0) -> None:
    content = file.read_bytes()
    length = struct.unpack_from("<Q", content)[0]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    change(header)
    written = json.dumps(header).encode()
    data = data + bytes(grow) if grow > 0 else data[: len(data) + grow]
    file.write_bytes(struct.pack("<Q", len(written)) + written + data)


def _move(header: dict[str, Any], by: int) -> None:
    last = _last(header)
    last["data_offsets"] = [offset + by for offset in last["data_offsets"]]


def _last(header: dict[str, Any]) -> dict[str, Any]:
    tensors = [described for name, described in header.items() if name != "__metadata__"]
    found: dict[str, Any] = max(tensors, key=lambda described: described["data_offsets"])
    return found


# Files of torch.save


def flip_bit_in_storage(file: Path) -> None:
    flip_bit(file, start_of_record(file, "data/0") + 1, 3)


def flip_bit_in_pickle(file: Path) -> None:
    """In the text of a key, so that the stream itself stays whole."""
    flip_bit(file, file.read_bytes().index(b"betas"), 0)


def flip_bit_in_directory(file: Path) -> None:
    with zipfile.ZipFile(file) as records:
        flip_bit(file, records.start_dir, 0)


def flip_bit_at_record_start(file: Path) -> None:
    with zipfile.ZipFile(file) as records:
        flip_bit(file, records.infolist()[-1].header_offset, 0)


def cut_pickle_with_right_checksum(file: Path) -> None:
    _rewrite_records(file, lambda name, content: content[:-20] if name == "data.pkl" else content)


def shorten_storage_with_right_checksum(file: Path) -> None:
    _rewrite_records(file, lambda name, content: content[:-4] if name == "data/1" else content)


def drop_storage(file: Path) -> None:
    _rewrite_records(file, lambda name, content: None if name == "data/1" else content)


def save_without_checksums(file: Path) -> None:
    import torch

    value = torch.load(file, weights_only=False)
    torch.serialization.set_crc32_options(False)
    try:
        file.write_bytes(saved(value))
    finally:
        torch.serialization.set_crc32_options(True)


def start_of_record(file: Path, name: str) -> int:
    content = file.read_bytes()
    with zipfile.ZipFile(file) as records:
        found = next(record for record in records.infolist() if record.filename.endswith(f"/{name}"))
    name_length, extra_length = struct.unpack_from("<HH", content, found.header_offset + 26)
    return found.header_offset + 30 + int(name_length) + int(extra_length)


def _rewrite_records(file: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as new:
        for record in old.infolist():
            content = change(record.filename.partition("/")[2], old.read(record))
            if content is not None:
                new.writestr(record.filename, content)
    file.write_bytes(stream.getvalue())


# What the files say


def change_state(**changes: Any) -> Callable[[Path], None]:
    """An injury: other values under these keys of a file of torch.save."""

    def injure(file: Path) -> None:
        import torch

        file.write_bytes(saved(torch.load(file, weights_only=False) | changes))

    return injure


def leave_out(key: str) -> Callable[[Path], None]:
    """An injury: a file of torch.save without this key."""

    def injure(file: Path) -> None:
        import torch

        state = torch.load(file, weights_only=False)
        del state[key]
        file.write_bytes(saved(state))

    return injure


def save_instead(value: Any) -> Callable[[Path], None]:
    """An injury: a file of torch.save that holds something else altogether."""

    def injure(file: Path) -> None:
        file.write_bytes(saved(value))

    return injure


def write_json(value: Any) -> Callable[[Path], None]:
    """An injury: a JSON file that holds something else altogether."""

    def injure(file: Path) -> None:
        file.write_text(json.dumps(value))

    return injure


def change_json(**changes: Any) -> Callable[[Path], None]:
    """An injury: other values under these keys of a JSON file."""

    def injure(file: Path) -> None:
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return injure


def break_json(file: Path) -> None:
    file.write_text(file.read_text().replace(":", ";", 1))


# A whole checkpoint of weights


def wrap(prefix: str, *, infix: str = "") -> Callable[[Path], None]:
    """Every tensor of every weights file, and of the index, under a wrapper's name."""

    def wrapped(name: str) -> str:
        return prefix + name.replace(".", f".{infix}", 1)

    def injure(checkpoint: Path) -> None:
        import safetensors.torch

        for file in checkpoint.glob("*.safetensors"):
            tensors = safetensors.torch.load_file(file)
            renamed = {wrapped(name): tensor for name, tensor in tensors.items()}
            safetensors.torch.save_file(renamed, file, {"format": "pt"})
        for file in checkpoint.glob("*.index.json"):
            index = json.loads(file.read_text())
            index["weight_map"] = {wrapped(name): shard for name, shard in index["weight_map"].items()}
            file.write_text(json.dumps(index))

    return injure


def forget_a_tensor(index: Path) -> None:
    """An index of shards that does not name the tensor of the second one."""
    content = json.loads(index.read_text())
    del content["weight_map"]["layers.1.weight"]
    index.write_text(json.dumps(content))
