"""What names say: which folders are checkpoints, which are still being written, which files are ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OWN_PREFIX: Final = ".lastgood"
FILE_LIST: Final = ".lastgood.json"  # inside a checkpoint, by our CheckpointManager
BASELINE: Final = "lastgood_baseline"  # key beside random states that were made when a checkpoint was mended
ROOT_MARKER: Final = ".lastgood-root"
OWN_FOLDER: Final = ".lastgood"
ROOT_FOLDER: Final = "."

USUAL_DIGEST: Final = "crc64nvme"  # what the digest of a file is called, where nothing else is chosen

UNKNOWN_LAYOUT: Final = "unknown"  # of what no layout recognises
BACKUP: Final = ".backup"
STRUCTURE: Final = "/data.pkl"  # the record of a torch file that says what the others are
COMPILED: Final = "_orig_mod."  # what torch.compile puts into the names of tensors
PARALLEL: Final = "module."  # what data-parallel wrappers put before all of them

# Matched whole: `checkpoint-5000.backup` is a copy, not checkpoint 5000.
_NUMBERED: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"checkpoint-(\d{1,18})",
        r"checkpoint_(\d{1,18})",
        r"step-(\d{1,18})",
        r"step(\d{1,18})",
        r"global_step(\d{1,18})",
        r"iter_(\d{1,18})",
    )
)

# Marks, logs and locks that jobs leave beside what they save: `_SUCCESS`, `DONE`, `.gitkeep`, `events.out.tfevents.1`.
# Not so `.metadata`: torch.distributed.checkpoint keeps in it where each tensor lies, and writes it last.
_MAY_BE_EMPTY: Final = re.compile(
    r"(?:.*/)?(?:\.(?!metadata$)[^/]*|_?[A-Z]+|[^/]*\.(?:lock|log|md|py|out|err|done|complete|success)"
    r"|[^/]*log[^/]*\.txt|events\.out\.tfevents\.[^/]*)"
)

# What people and trainers call a checkpoint that they want to have a second time.
_COPY: Final = re.compile(
    r"""(?:checkpoint-|checkpoint_|step-|step|global_step|iter_)(\d{1,18})(?:[^0-9].*)   # checkpoint-5000.backup
    |   (?:best|last|final|latest)(?:[-_.].*)? | .*[-_.](?:best|last|final|latest)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_TEMPORARY: Final = re.compile(
    r"""\.tmp.*                      # safetensors 0.8
    |   tmp-checkpoint-.*            # transformers 4.37 to 4.40
    |   .*\.tmp | .*\.partial | .*-tmp
    |   \..+\.[A-Za-z0-9]{6}         # rsync: .NAME.XXXXXX
    |   .*\.orbax-checkpoint-tmp.*
    |   \.nfs[0-9a-fA-F]+            # NFS keeps a removed, open file under this name
    """,
    re.VERBOSE,
)
_OF_LIGHTNING: Final = re.compile(r"(?:.*(?:step|epoch)=\d+.*|last(?:-v\d+)?)\.ckpt")
_BACKUP: Final = re.compile(r".+\.backup(?:\.\d+)?")
_IN_PROGRESS: Final = re.compile(r"checkpoint-is-incomplete\.txt|.*-unfinished")


def step_in_name(name: str) -> int | None:
    """The number that a checkpoint folder's name carries, or None where it is not a checkpoint's name."""
    for pattern in _NUMBERED:
        if match := pattern.fullmatch(name):
            return int(match[1])
    return None


def number_of_copy(name: str) -> int | None:
    """The number in the name of what may be a copy, 0 where it has none; None where it is called like no copy."""
    match = _COPY.fullmatch(name)
    return int(match[1] or 0) if match and step_in_name(name) is None else None


def is_whole_checkpoint(name: str) -> bool:
    """Whether a file of this name is a checkpoint by itself, as Lightning saves it: such a file is not judged."""
    return _OF_LIGHTNING.fullmatch(name) is not None


def is_payload(name: str) -> bool:
    """Whether a file of this name holds tensors, as far as a name tells."""
    return name.endswith((".safetensors", ".bin", ".pt", ".pth"))


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is still being written, by the habits of the known writers."""
    return _TEMPORARY.fullmatch(name) is not None


def is_passed_over(name: str) -> bool:
    """Whether nobody saves into a folder of this name: it is hidden, or root's own on every fresh ext4."""
    return name.startswith(".") or name == "lost+found"


def marks_progress(name: str) -> bool:
    """Whether a file of this name says that the save around it is not finished."""
    return _IN_PROGRESS.fullmatch(name) is not None


def is_backup(path: str) -> bool:
    """Whether a file bears a name under which mending keeps what it replaced: whatever is wrong with it stays so."""
    return _BACKUP.fullmatch(path) is not None


def is_ours(name: str) -> bool:
    """Whether lastgood wrote it: left out of every inventory."""
    return name.startswith(OWN_PREFIX)


def is_of_macos(path: str) -> bool:
    """Whether macOS keeps here what its own disks keep beside a file: `._model.safetensors`, which holds no tensor."""
    return path.rpartition("/")[2].startswith("._")


def may_be_empty(path: str) -> bool:
    """Whether a file of this name says what it has to say by being there."""
    return _MAY_BE_EMPTY.fullmatch(path) is not None


def bare_names(tensors: Iterable[str]) -> dict[str, str]:
    """By each tensor's name, the one that the model itself has for it: without those of the wrappers."""
    bare = {name: name.replace(COMPILED, "") for name in tensors}
    # A module may really be called so: a wrapper puts it before every name.
    while bare and all(name.startswith(PARALLEL) for name in bare.values()):
        bare = {name: rest.removeprefix(PARALLEL) for name, rest in bare.items()}
    return bare


def root_names(roots: Sequence[str]) -> dict[str, str]:
    """How each of several roots is called: the last part of its path, and as many more as tell it from the others.

    No name begins another one, so that no run of a root can be taken for one of another root.
    """
    parts = {root: root.strip("/").split("/") for root in roots}
    used = dict.fromkeys(parts, 1)
    while True:
        names = {root: "/".join(parts[root][-used[root] :]) for root in parts}
        alike = {root for root, name in names.items() for other, its in names.items() if _alike(root, name, other, its)}
        short = [root for root in alike if used[root] < len(parts[root])]
        if not short:
            return names
        used.update({root: used[root] + 1 for root in short})


def _alike(root: str, name: str, other: str, its: str) -> bool:
    return root != other and (name == its or name.startswith(its + "/") or its.startswith(name + "/"))


def run_name(root_name: str, relative: str, *, several_roots: bool) -> str:
    """How a run is called: its path below the root, with the root's name before it where there are several."""
    if not several_roots:
        return relative
    return root_name if relative == ROOT_FOLDER else f"{root_name}/{relative}"
