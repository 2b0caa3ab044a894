"""What is known of a checkpoint's bytes from before: the manifest that verification leaves, the list that the job left.

As files: docs/format.md.
"""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any, Final

from lastgood import __version__, durable, naming
from lastgood.errors import CannotTell, NotAManifest
from lastgood.facts import FileDigest, FileList, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lastgood.facts import Facts, Inventory

VERSION: Final = 1
LIST_VERSION: Final = 1
_LARGEST: Final = 256 << 20  # a file of this name that somebody else put there must not fill the memory


def manifest_of(facts: Facts) -> Manifest:
    """What is worth keeping of a checkpoint that was read to its last byte."""
    optimizer = facts.optimizer
    return Manifest(
        name=facts.name,
        fingerprint=facts.inventory.fingerprint,
        files=tuple(FileDigest(file.path, file.size, file.digest) for file in facts.files.values()),
        step=facts.progress.step,
        step_by_name=facts.step_by_name,
        schedule_step=facts.progress.schedule_step,
        optimizer_steps=optimizer.steps if optimizer else (),
        parameters=optimizer.parameters if optimizer else None,
        kept=optimizer.kept if optimizer else None,
        rates=optimizer.rates if optimizer else (),
        weights={name: f"{tensor.dtype} {list(tensor.shape)}" for name, tensor in facts.weights.items()},
        zero={file.path: file.numbers.zero for file in facts.files.values() if file.numbers.zero},
        strangers=frozenset(file.path for file in facts.files.values() if file.foreign),
    )


def manifest_as_json(manifest: Manifest) -> dict[str, Any]:
    return {
        "lastgood_manifest": VERSION,
        "name": manifest.name,
        "fingerprint": manifest.fingerprint,
        "step": manifest.step,
        "step_by_name": manifest.step_by_name,
        "schedule_step": manifest.schedule_step,
        "optimizer_steps": list(manifest.optimizer_steps),
        "parameters": manifest.parameters,
        "kept": manifest.kept,
        "rates": list(manifest.rates),
        "files": _files_as_json(manifest.files),
        "weights": dict(manifest.weights),
        "zero": {path: sorted(names) for path, names in manifest.zero.items()},
        "strangers": sorted(manifest.strangers),
    }


def manifest_from_json(data: object) -> Manifest:
    """The manifest that `manifest_as_json` wrote. NotAManifest says what is wrong where it is none."""
    found = _of_version(data, "lastgood_manifest", VERSION)
    return Manifest(
        name=_of(found, "name", str),
        fingerprint=_of(found, "fingerprint", str),
        files=tuple(_file(file) for file in _of(found, "files", list)),
        step=_whole_or_none(found, "step"),
        step_by_name=_whole_or_none(found, "step_by_name"),
        schedule_step=_whole_or_none(found, "schedule_step"),
        optimizer_steps=tuple(
            _typed(step, int, "an entry of optimizer_steps") for step in _list(found, "optimizer_steps")
        ),
        parameters=_whole_or_none(found, "parameters"),
        kept=_whole_or_none(found, "kept"),
        rates=tuple(float(_typed(rate, int | float, "an entry of rates")) for rate in _list(found, "rates")),
        weights={name: _typed(kind, str, f"weights.{name}") for name, kind in _object(found, "weights").items()},
        zero={
            path: frozenset(
                _typed(name, str, f"an entry of zero.{path}") for name in _typed(names, list, f"zero.{path}")
            )
            for path, names in _object(found, "zero").items()
        },
        strangers=frozenset(_typed(path, str, "an entry of strangers") for path in _list(found, "strangers")),
    )


def read_manifest(path: str) -> Manifest:
    """The manifest in a file. CannotTell where it cannot be read, NotAManifest where it is none."""
    try:
        found, _status = _read_json(path)
        return manifest_from_json(found)
    except OSError as error:
        raise CannotTell("reading the manifest", path, error) from error
    except NotAManifest as error:
        raise NotAManifest(f"{path} is no manifest: {error}") from None


def file_list_as_json(step: int, files: Iterable[FileDigest], about: Mapping[str, Any]) -> dict[str, Any]:
    """The object of `.lastgood.json`. `about`: what people want to know of the save."""
    told = {"lastgood_checkpoint": LIST_VERSION, "lastgood": __version__, "step": step}
    return {**told, **about, "files": _files_as_json(files)}


def read_file_list(folder: str) -> FileList | None:
    """What the job says that it saved in the checkpoint at `folder`; None where it says nothing."""
    try:
        found, status = _read_json(os.path.join(folder, naming.FILE_LIST))
        files = _of(_of_version(found, "lastgood_checkpoint", LIST_VERSION), "files", list)
        return FileList(tuple(_file(file) for file in files), status.st_ctime_ns)
    except (FileNotFoundError, PermissionError):  # what may not be read is said of the folder, or of its files
        return None
    except OSError as error:
        return FileList(problem=f"it cannot be read: {error.strerror or error}")
    except NotAManifest as error:
        return FileList(problem=f"it cannot be read: {error}")


def is_all_there(saved: FileList | None, inventory: Inventory) -> bool:
    """Whether a folder holds what its own list names and nothing else, and the list was written last."""
    if saved is None or not saved.files:
        return False
    listed = {file.path: file.bytes for file in saved.files}
    present = {entry.path: entry.size for entry in inventory.entries}
    return listed == present and all(entry.ctime_ns <= saved.changed_at_ns for entry in inventory.entries)


def algorithm_of(manifest: Manifest | None) -> str | None:
    """The algorithm of its digests: only those of the same one can be compared."""
    digests = (file.digest for file in manifest.files) if manifest else iter(())
    return next((digest.partition(":")[0] for digest in digests if digest), None)


def write_manifest(folder: str, manifest: Manifest) -> None:
    """Puts `<name>.json` into the folder, in place of an older one, and onto the disk. OSError where it cannot."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"{manifest.name}.json")
    durable.write_text(path, json.dumps(manifest_as_json(manifest), ensure_ascii=True) + "\n")


def _read_json(path: str) -> tuple[object, os.stat_result]:
    """What stands in the file. OSError where it cannot be read, NotAManifest where it is not JSON."""
    # O_NONBLOCK: a pipe in the file's place must not hold us.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise NotAManifest("it is not a regular file")
        raw = file.read(_LARGEST + 1)
    if len(raw) > _LARGEST:
        raise NotAManifest(f"it is larger than {_LARGEST >> 20} MiB")
    try:
        return json.loads(raw), status
    except (ValueError, RecursionError) as error:
        raise NotAManifest(f"it is not JSON: {error}") from None


def _of_version(data: object, name: str, known: int) -> dict[str, Any]:
    found: dict[str, Any] = _typed(data, dict, "it")
    version = found.get(name)
    if version is None:
        raise NotAManifest(f"it has no {name} version")
    if version != known:
        raise NotAManifest(f"its version is {version!r}; this lastgood reads version {known}")
    return found


def _files_as_json(files: Iterable[FileDigest]) -> list[dict[str, Any]]:
    return [{"path": file.path, "bytes": file.bytes, "digest": file.digest} for file in files]


def _file(data: object) -> FileDigest:
    found = _typed(data, dict, "an entry of files")
    digest = found.get("digest")
    return FileDigest(
        _of(found, "path", str), _of(found, "bytes", int), None if digest is None else _typed(digest, str, "digest")
    )


def _of(data: Mapping[str, Any], name: str, kind: Any) -> Any:
    if name not in data:
        raise NotAManifest(f"{name} is missing")
    return _typed(data[name], kind, name)


def _list(data: Mapping[str, Any], name: str) -> list[Any]:
    found: list[Any] = _typed(data.get(name, []), list, name)
    return found


def _object(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = _typed(data.get(name, {}), dict, name)
    return found


def _whole_or_none(data: Mapping[str, Any], name: str) -> int | None:
    value = data.get(name)
    return None if value is None else int(_typed(value, int, name))


def _typed(value: object, kind: Any, what: str) -> Any:
    # In Python a bool is an int; in JSON it is none.
    if isinstance(value, bool) or not isinstance(value, kind):
        raise NotAManifest(f"{what} is {type(value).__name__}, not {_WORDS[kind]}")
    return value


_WORDS: Final = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a whole number",
    int | float: "a number",
}
