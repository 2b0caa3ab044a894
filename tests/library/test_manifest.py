"""Manifests: what is written is what is read, and what is none says why."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import make_hf_checkpoint
from lastgood.errors import CannotTell, NotAManifest
from lastgood.facts import FileDigest, Level, Manifest
from lastgood.findings import Code, Verdict
from lastgood.manifest import algorithm_of, manifest_as_json, manifest_from_json, read_manifest, write_manifest
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SMALLEST = Manifest("checkpoint-100", "f" * 32, (FileDigest("model.safetensors", 7, "crc64nvme:0"),))
_NAMES = st.text(max_size=8)
_NUMBERS = st.none() | st.integers()
_DIGESTS = st.builds(FileDigest, path=_NAMES, bytes=st.integers(0), digest=st.none() | _NAMES)
MANIFESTS = st.builds(
    Manifest,
    name=_NAMES,
    fingerprint=_NAMES,
    files=st.lists(_DIGESTS, max_size=3).map(tuple),
    step=_NUMBERS,
    step_by_name=_NUMBERS,
    schedule_step=_NUMBERS,
    optimizer_steps=st.lists(st.integers(), max_size=3).map(tuple),
    rates=st.lists(st.floats(allow_nan=False), max_size=3).map(tuple),
    weights=st.dictionaries(_NAMES, _NAMES, max_size=3),
    zero=st.dictionaries(_NAMES, st.frozensets(_NAMES, max_size=3), max_size=3),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(MANIFESTS)
def test_every_manifest_comes_back_as_it_was(manifest: Manifest) -> None:
    assert manifest_from_json(json.loads(json.dumps(manifest_as_json(manifest)))) == manifest


@given(MANIFESTS, st.sampled_from(sorted(manifest_as_json(SMALLEST))), _JSON)
def test_whatever_stands_in_a_manifest_it_is_read_or_refused(manifest: Manifest, name: str, value: Any) -> None:
    try:
        found = manifest_from_json({**manifest_as_json(manifest), name: value})
    except NotAManifest:
        return
    assert isinstance(found, Manifest)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "it is not JSON", id="empty"),
        pytest.param("[" * 100_000, "it is not JSON", id="nested without end"),
        pytest.param("[]", "it is list, not an object", id="a list"),
        pytest.param("{}", "it has no lastgood_manifest version", id="any JSON object"),
        pytest.param('{"lastgood_manifest": 2}', "its version is 2; this lastgood reads version 1", id="a later one"),
        pytest.param('{"lastgood_manifest": 1}', "name is missing", id="nothing in it"),
    ],
)
def test_what_is_no_manifest_says_why(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text(text)
    with pytest.raises(NotAManifest) as caught:
        read_manifest(str(tmp_path / "found.json"))
    assert str(caught.value).startswith(f"{tmp_path}/found.json is no manifest: {why}")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param({"files": {}}, "files is dict, not a list", id="files that are no list"),
        pytest.param({"files": [1]}, "an entry of files is int, not an object", id="a file that is a number"),
        pytest.param({"files": [{"path": "a"}]}, "bytes is missing", id="a file without its size"),
        pytest.param({"step": True}, "step is bool, not a whole number", id="a truth in a number's place"),
        pytest.param({"rates": ["x"]}, "an entry of rates is str, not a number", id="a rate that is text"),
        pytest.param({"zero": {"a": [1]}}, "an entry of zero.a is int, not text", id="a tensor without a name"),
    ],
)
def test_a_wrong_entry_is_named(change: dict[str, Any], why: str) -> None:
    with pytest.raises(NotAManifest, match=why):
        manifest_from_json({**manifest_as_json(SMALLEST), **change})


def test_a_manifest_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CannotTell, match=r"reading the manifest .*nowhere.json: No such file"):
        read_manifest(str(tmp_path / "nowhere.json"))


def test_a_manifest_takes_the_place_of_the_older_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / ".lastgood" / "manifests"
    for size in (1, 2):
        write_manifest(str(folder), Manifest("checkpoint-100", "f", (FileDigest("a\udcff", size, None),)))
    assert os.listdir(folder) == ["checkpoint-100.json"]
    assert read_manifest(str(folder / "checkpoint-100.json")).files == (FileDigest("a\udcff", 2, None),)


def test_a_manifest_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-100.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_manifest(str(tmp_path), SMALLEST)
    assert os.listdir(tmp_path) == ["checkpoint-100.json"]


@pytest.mark.parametrize(
    ("manifest", "algorithm"),
    [
        pytest.param(None, None, id="no manifest"),
        pytest.param(Manifest("a", "f", (FileDigest("a", 1, None),)), None, id="no digest"),
        pytest.param(
            Manifest("a", "f", (FileDigest("a", 1, None), FileDigest("b", 1, "sha256:0"))), "sha256", id="the first one"
        ),
    ],
)
def test_which_digests_can_be_compared(manifest: Manifest | None, algorithm: str | None) -> None:
    assert algorithm_of(manifest) == algorithm


# --- what it is for ---


def _add(checkpoint: Path) -> None:
    (checkpoint / "notes.txt").write_text("later")


def _flip(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("act", "code", "verdict"),
    [
        pytest.param(_flip, Code.MANIFEST_MISMATCH, Verdict.CORRUPT, id="a flipped bit that no checksum covers"),
        pytest.param(_add, Code.MANIFEST_FILE_NEW, Verdict.COMPLETE, id="a file that was added"),
    ],
)
def test_the_same_checkpoint_is_held_against_its_manifest(
    act: Callable[[Path], None], code: Code, verdict: Verdict, tmp_path: Path
) -> None:
    checkpoint = make_hf_checkpoint(tmp_path / "checkpoint-100", 100)
    manifest = verify(str(checkpoint)).manifest
    assert code not in [finding.code for finding in verify(str(checkpoint), manifest=manifest).findings]
    act(checkpoint)
    report = verify(str(checkpoint), manifest=manifest)
    assert code in [finding.code for finding in report.findings]
    assert report.verdict is verdict


def test_a_quick_look_makes_no_manifest(tmp_path: Path) -> None:
    assert verify(str(make_hf_checkpoint(tmp_path / "checkpoint-100", 100)), Level.QUICK).manifest is None
