"""How a save is written: whole, on the disk, listed in `.lastgood.json`, and looked at again."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from lastgood import durable, naming
from lastgood.errors import Damaged
from lastgood.facts import FileDigest, Level, Presence
from lastgood.findings import SOUND, Severity, Verdict
from lastgood.formats.scan import Source, scan_file
from lastgood.inventory import take_inventory
from lastgood.manifest import file_list_as_json
from lastgood.training import packing, plainly, provenance, state, weights
from lastgood.training.whole_folder import clear_drafts, whole_folder
from lastgood.verify import verify

if TYPE_CHECKING:
    from lastgood.training.collecting import Save

_log = logging.getLogger("lastgood")
_ABOUT: Final = ("epoch", "best_loss", "epoch_losses", "metrics", "batch_size", "total_batches", "world_size")


def require_space(path: str, save: Save) -> None:
    """OSError, before anything is written, where the disk has not enough room. What killed saves left goes first."""
    place = os.path.dirname(path)
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    clear_drafts(place)
    disk = os.statvfs(place)
    free = disk.f_bavail * disk.f_frsize
    if free < save.bytes:
        raise OSError(errno.ENOSPC, f"the save takes about {save.bytes:,} bytes, {free:,} are free", path)


def write(path: str, save: Save) -> None:
    """Writes it, in place of what is there. After an error that is as it was.

    Damaged where what came out is not what was to be saved.
    """
    with whole_folder(path) as folder:
        if save.weights is not None and save.config is not None:
            _write_json(os.path.join(folder, "config.json"), save.config)
            if save.generation is not None:
                _write_json(os.path.join(folder, "generation_config.json"), save.generation)
            with plainly.naming_offenders(save.weights):
                weights.write_weights(folder, save.weights, as_safetensors=save.safetensors)
        if save.tokenizer is not None:
            _write_tokenizer(path, folder, save.tokenizer)
        file = os.path.join(folder, state.FILE)
        _write_state(save, file)
        if save.packed:
            packing.pack(file)
        durable.sync_tree(folder)
        _write_list(folder, save)
        _require_whole(path, folder, save)


def _write_state(save: Save, file: str) -> None:
    with plainly.naming_offenders(save.content):
        plainly.save(dict(save.content), file)
        plainly.require(file)  # what cannot be loaded again must not pass for saved


def _write_tokenizer(path: str, folder: str, tokenizer: Any) -> None:
    """Under whatever names it likes, but something."""
    before = set(os.listdir(folder))
    tokenizer.save_pretrained(folder)
    if not set(os.listdir(folder)) - before:
        raise Damaged(f"{path}: the tokenizer has saved nothing")


def _require_whole(path: str, folder: str, save: Save) -> None:
    """By the names and headers: the bytes were read when they were listed."""
    report = verify(folder, Level.QUICK)
    if report.verdict not in SOUND:
        why = next(finding for finding in report.findings if finding.severity is Severity.ERROR)
        raise Damaged(f"{path}: what was written is {report.verdict}: {why.file or 'it'}: {why.message}")
    lacking = sorted(
        component for component in save.expected if report.components.get(component) in (None, *_NOT_THERE)
    )
    if lacking:
        raise Damaged(f"{path}: {', '.join(lacking)} could not be saved")
    if report.verdict is Verdict.PARTIAL:
        lacks = "; ".join(finding.message for finding in report.findings if finding.severity is Severity.ERROR)
        _log.warning("%s is partial, and no job goes on from it unless it accepts that: %s", path, lacks)


_NOT_THERE: Final = (Presence.MISSING, Presence.DAMAGED)


def _write_list(folder: str, save: Save) -> None:
    """Our own list of the files: the last to be written, it says that the save is finished."""
    entries = take_inventory(folder).entries
    files = [FileDigest(entry.path, entry.size, _digest(folder, entry.path, entry.size)) for entry in entries]
    about = {name: _plain(save.content[name]) for name in _ABOUT if name in save.content}
    made = {"saved_at": datetime.now(UTC).isoformat(timespec="seconds"), "git_commit": provenance.git_commit()}
    about = {**about, **made, "versions": provenance.versions()}
    _write_json(os.path.join(folder, naming.FILE_LIST), file_list_as_json(save.content["global_step"], files, about))


def _plain(value: Any) -> Any:
    """As JSON has it: numbers that it does not have are null, what is no number is told in words."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        return str(value)
    return number if math.isfinite(number) else None


def _digest(folder: str, path: str, size: int) -> str:
    return scan_file(Source(os.path.join(folder, path), path, size), (), {}).digest


def _write_json(path: str, content: Mapping[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, default=_in_words)
        file.write("\n")


def _in_words(value: Any) -> str:
    """A type of numbers as Hugging Face writes it, `bfloat16`; anything else as it names itself."""
    return str(value).removeprefix("torch.")
