"""Files that are not the checkpoint's own: other programs leave theirs in it, under endings that mean another format.

What surely is a damaged file stays one, whoever wrote it: readers tell it from another format (`foreign`). Pure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from lastgood.findings import Code, Finding
from lastgood.layouts import base

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastgood.facts import Component, FileFacts, Manifest

_OF_ANOTHER_FORMAT: Final = {
    Code.TORCH_FORMAT: "no file of torch, although its ending says so",
    Code.JSON_INVALID: "no JSON, although its ending says so",
    Code.FILE_NOT_REGULAR: "no regular file",
}


def known_as_sound(*manifests: Manifest | None) -> frozenset[str]:
    """What was of its own format when it was verified, here or in the checkpoint before."""
    known = (manifest for manifest in manifests if manifest is not None)
    return frozenset(file.path for manifest in known for file in manifest.files if file.path not in manifest.strangers)


def with_strangers_excused(
    names: frozenset[str],
    homes: Mapping[Component, tuple[str, ...]],
    files: Mapping[str, FileFacts],
    sound: frozenset[str] = frozenset(),
) -> dict[str, FileFacts]:
    """The files, where those that neither layout nor index know are not held to what their endings say."""
    own = base.own_files(names, homes, files) | sound
    return {path: file if path in own or not file.foreign else _excused(file) for path, file in files.items()}


def _excused(file: FileFacts) -> FileFacts:
    return replace(file, problems=tuple(_as_stranger(problem) for problem in file.problems))


def _as_stranger(problem: Finding) -> Finding:
    if problem.code not in _OF_ANOTHER_FORMAT:
        return problem  # a program that runs when it is loaded does so wherever it lies
    why = f"{_OF_ANOTHER_FORMAT[problem.code]} ({problem.message}); no part of the checkpoint"
    return Finding(Code.FILE_NOT_UNDERSTOOD, problem.file, why)
