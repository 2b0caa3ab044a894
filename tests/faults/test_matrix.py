"""Every fault in every layout: exactly its codes, alone, beside the run's earlier checkpoint, and with a manifest."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

import pytest

import scenes
from faults import FAULTS, OF_ONE_FILE, OF_THE_MOMENT, SOUND, Fault, seen_in
from lastgood.findings import Code, Verdict
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lastgood.facts import Manifest
    from scenes import Layout, Scene

RESUMABLE: Final = (Verdict.COMPLETE, Verdict.PARTIAL)

CASES: Final = [
    pytest.param(fault, layout, seed, id=f"{fault.name} - {layout.name} - {seed}")
    for fault in FAULTS
    for layout in fault.layouts
    for seed in range(fault.seeds)
]


@pytest.fixture(scope="session")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Layout], tuple[Path, Manifest, Manifest]]:
    """A run of two healthy checkpoints, and the manifest of each; made once for each layout."""
    made: dict[str, tuple[Path, Manifest, Manifest]] = {}

    def run_in(layout: Layout) -> tuple[Path, Manifest, Manifest]:
        if layout.name not in made:
            run = scenes.make(tmp_path_factory.mktemp("run"), layout)
            earlier, now = (verify(str(run / f"checkpoint-{step}")).manifest for step in scenes.STEPS)
            assert earlier is not None
            assert now is not None
            made[layout.name] = run, earlier, now
        return made[layout.name]

    return run_in


@pytest.mark.parametrize(("fault", "layout", "seed"), CASES)
def test_a_fault_gives_exactly_its_findings(
    fault: Fault,
    layout: Layout,
    seed: int,
    healthy: Callable[[Layout], tuple[Path, Manifest, Manifest]],
    tmp_path: Path,
) -> None:
    run, earlier, own = healthy(layout)
    scene = scenes.stage(run, tmp_path, layout, seed)
    fault.spoil(scene)
    path = str(scene.checkpoint)
    alone = verify(path)
    assert seen_in(alone) == fault.alone
    assert fault.remarks <= {finding.code for finding in alone.findings}
    if seed and fault.alone == fault.beside != SOUND:
        return  # where it strikes was the question, and is answered
    assert seen_in(verify(path, previous=earlier)) == fault.beside
    changed, held = frozenset(by_manifest(scene, run)), verify(path, manifest=own)
    assert seen_in(held).codes == fault.alone.codes | changed - {Code.MANIFEST_FILE_NEW}
    assert changed <= {finding.code for finding in held.findings}
    noticed = fault.alone.verdict not in RESUMABLE or bool(changed - {Code.MANIFEST_FILE_NEW})
    assert (held.verdict not in RESUMABLE) is noticed


def by_manifest(scene: Scene, run: Path) -> Iterator[Code]:
    """What a manifest must notice, from the bytes themselves."""
    healthy_files = {file.name: file for file in (run / f"checkpoint-{scenes.STEPS[1]}").iterdir()}
    found = {file.name: file for file in scene.checkpoint.iterdir() if not stat.S_ISDIR(file.lstat().st_mode)}
    if healthy_files.keys() - found.keys():
        yield Code.MANIFEST_FILE_MISSING
    if found.keys() - healthy_files.keys():
        yield Code.MANIFEST_FILE_NEW
    if any(not _same(file, healthy_files[name]) for name, file in found.items() if name in healthy_files):
        yield Code.MANIFEST_MISMATCH


def _same(file: Path, other: Path) -> bool:
    return file.is_file() and file.read_bytes() == other.read_bytes()


def test_every_code_is_produced_by_a_fault_or_by_an_injury_or_named_as_of_the_moment() -> None:
    by_faults = {
        code for fault in FAULTS for seen in (fault.alone, fault.beside) for code in seen.codes | fault.remarks
    }
    by_manifest = {Code.MANIFEST_MISMATCH, Code.MANIFEST_FILE_MISSING, Code.MANIFEST_FILE_NEW}
    by_file_list = {Code.FILE_LIST_BROKEN}  # tests/training/test_file_list.py
    assert set(Code) - by_faults - by_manifest - by_file_list == OF_THE_MOMENT | OF_ONE_FILE


def test_every_layout_has_faults_of_every_kind() -> None:
    assert {layout.name for fault in FAULTS for layout in fault.layouts} == {layout.name for layout in scenes.LAYOUTS}


def test_no_two_faults_have_one_name() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
