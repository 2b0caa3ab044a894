"""Writing the file of a repair. What torch must write, `lastgood.training.rewriting` writes."""

from __future__ import annotations

import errno
import json
import os
import shutil
from typing import TYPE_CHECKING, Any, Final

from lastgood import ownership
from lastgood.errors import CannotMend, CannotTell
from lastgood.mending.words import FromNeighbour, RandomStates, Renamed, Repair, State, Text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lastgood.mending.words import Plan

    Hears = Callable[[int], None]

_LENGTH_BYTES: Final = 8
_ALIGNMENT: Final = 8  # the header's end, as the format's own writer has it
_BLOCK: Final = 4 << 20


def maker(plan: Plan, hears: Hears = lambda _count: None) -> Callable[[Repair, str], None]:
    """What `carry_out` calls for each repair. CannotMend where torch is needed, and not there.

    `hears`: of every block of a large file that was written.
    """

    def make(repair: Repair, path: str) -> None:
        before = os.path.join(plan.path, repair.file)
        match repair.work:
            case Text(content):
                with open(path, "w", encoding="utf-8") as file:
                    json.dump(content, file, indent=2)
                    file.write("\n")
            case FromNeighbour(source):
                shutil.copyfile(source, path)
            case Renamed(names) if repair.file.endswith(".safetensors"):
                rename_tensors(before, path, names, hears)
            case Renamed(names):
                _rewriting(repair.file).rename_tensors(before, path, names)
            case State() as work:
                _rewriting(repair.file).write_state(before, path, work.entries, random=work.random, names=work.names)
            case RandomStates(anew):
                _rewriting(repair.file).write_random_states(None if anew else before, path)
            case _:
                raise AssertionError(f"{repair.file}: nobody makes it")

    return make


def require_makeable(plan: Plan) -> None:
    """CannotMend, before anything is written, where torch is needed and not there, or would not load what is kept.

    CannotTell where the checkpoint lets nobody like us write in it.
    """
    if why := ownership.why_closed("the checkpoint", plan.path, write=True):
        raise CannotTell("mending", plan.path, OSError(errno.EACCES, why))
    for repair in plan.repairs:
        if os.path.isdir(os.path.join(plan.path, repair.file)):
            raise CannotMend(f"{repair.file} is a folder, where a file belongs: move it away")
        in_torch = isinstance(repair.work, Renamed) and not repair.file.endswith(".safetensors")
        anew = isinstance(repair.work, RandomStates) and repair.work.anew
        if not anew and (in_torch or isinstance(repair.work, State | RandomStates)):
            _rewriting(repair.file).require_loadable(os.path.join(plan.path, repair.file))


def rename_tensors(source: str, path: str, names: Mapping[str, str], hears: Hears = lambda _count: None) -> None:
    """A safetensors file with other names in its header, and the same tensors behind it, byte for byte."""
    with open(source, "rb") as before, open(path, "wb") as after:
        length = int.from_bytes(before.read(_LENGTH_BYTES), "little")
        header: dict[str, Any] = json.loads(before.read(length))
        renamed = json.dumps({names.get(name, name): described for name, described in header.items()})
        data = renamed.encode()
        data += b" " * (-len(data) % _ALIGNMENT)
        after.write(len(data).to_bytes(_LENGTH_BYTES, "little") + data)
        while block := before.read(_BLOCK):
            after.write(block)
            hears(len(block))


def _rewriting(file: str) -> Any:
    try:
        from lastgood.training import rewriting  # noqa: PLC0415 - it imports torch, which may not be there
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("torch", "numpy", "safetensors"):
            raise
        raise CannotMend(f"to write {file} takes torch: pip install 'lastgood[torch]'") from error
    return rewriting
