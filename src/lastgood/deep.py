"""The deepest look: each sound file is given to the loader that training would use, in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from lastgood.errors import CannotTell
from lastgood.findings import Code, Finding, Severity
from lastgood.formats.zip_directory import is_mappable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from lastgood.facts import FileFacts

_SECONDS: Final = 120.0  # to load torch from a cold disk, and all headers
_SLOWEST_DISK: Final = 20_000_000  # bytes per second: files in torch's old format are read whole
_TRIES: Final = 2
_WHEN_IT_DIED: Final = "check whether memory ran out; `lastgood verify PATH --level full` judges it without its loader"

Job = dict[str, Any]
Answer = dict[str, str]


def require_loaders(path: str) -> None:
    """CannotTell, with what to install, where the real loaders are not there."""
    for loader in ("torch", "safetensors"):
        if importlib.util.find_spec(loader) is None:
            raise CannotTell("loading", path, OSError(f"{loader} is not installed: pip install 'lastgood[torch]'"))


def load_findings(
    folder: str, files: Collection[FileFacts], run: Callable[[Sequence[Job], float], list[Answer]] | None = None
) -> tuple[Finding, ...]:
    """What the loaders say of the files that we found sound. Of the others enough is said already."""
    jobs = {file.path: job for file in files if (job := _job_for(folder, file))}
    seconds = _SECONDS + sum(file.size for file in files if file.path in jobs) / _SLOWEST_DISK
    return tuple(_ask(jobs, seconds, run or run_child))


def merged(found: Sequence[Finding], deeper: Sequence[Finding]) -> tuple[Finding, ...]:
    """Both, without what the loader says of a file that was said of it before."""
    said = {(finding.code, finding.file) for finding in found}
    return (*found, *(finding for finding in deeper if (finding.code, finding.file) not in said))


def run_child(jobs: Sequence[Job], seconds: float) -> list[Answer]:
    """The answers of one child, in order; fewer where it died, or took too long."""
    child = subprocess.Popen(
        # -P: a checkpoint may be the working folder, and hold a file called torch.py.
        [sys.executable, "-P", "-m", "lastgood.deep_load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with child:
        try:
            said, _ = child.communicate("".join(json.dumps(job) + "\n" for job in jobs), seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            said, _ = child.communicate()
        except BaseException:
            child.kill()
            raise
    return list(_answers(said))


def _answers(said: str) -> Iterator[Answer]:
    for line in said.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return  # it was killed in the middle of a line


def _job_for(folder: str, file: FileFacts) -> Job | None:
    if any(problem.severity is Severity.ERROR for problem in file.problems):
        return None
    # A zip without torch's structure in it, such as an exported program, is not for torch.load.
    if file.format not in ("torch", "safetensors") or (file.format == "torch" and file.contents is None):
        return None
    path = os.path.join(folder, file.path)
    return {"path": path, "format": file.format, "mapped": file.format == "torch" and is_mappable(path)}


def _ask(
    jobs: Mapping[str, Job], seconds: float, run: Callable[[Sequence[Job], float], list[Answer]]
) -> Iterator[Finding]:
    """A child that ends early died of the file after its last answer: another one tries that file once more."""
    waiting, tries = list(jobs), 0
    while waiting:
        answers = run([jobs[path] for path in waiting], seconds)
        for path, answer in zip(waiting, answers, strict=False):
            yield from _finding(path, answer)
        waiting, tries = waiting[len(answers) :], 1 if answers else tries + 1
        if waiting and tries >= _TRIES:
            message = f"the process that loaded it died or hung {_TRIES} times"
            yield Finding(Code.CHECKER_DIED, waiting.pop(0), message, _WHEN_IT_DIED)
            tries = 0


def _finding(path: str, answer: Answer) -> Iterator[Finding]:
    if why := answer.get("refused"):
        yield Finding(Code.LOADER_REFUSES, path, f"its own loader refuses it: {why}")
    elif why := answer.get("only_with_trust"):
        yield Finding(Code.WEIGHTS_ONLY_REFUSES, path, f"weights_only=True refuses it: {why}")
    elif why := answer.get("unreadable"):
        yield Finding(Code.FILE_UNREADABLE, path, f"its own loader cannot read it: {why}", _WHEN_IT_DIED)
