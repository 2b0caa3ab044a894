"""What `make prove` runs in a process of its own: atheris, the fuzzer of CPython that is led by coverage.

    python tests/support/fuzzing.py TARGET SECONDS SEED CORPUS

Exit code 0: time is up and nothing failed. An exception, an input that takes ten seconds, or too much memory ends it
otherwise, and atheris names the file in which it left the input.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["lastgood", "pickle", "zipfile", "json"]):
    from lastgood.errors import LastgoodError
    from lastgood.formats import read_file
    from lastgood.formats.inert_pickle import NotInert, read_pickle
    from lastgood.verify import verify

from lastgood.facts import Level
from lastgood.inventory import take_inventory

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS_FOR_ONE: Final = 10
MEBIBYTES: Final = 2048
_ENDINGS: Final = {"torch": ".pt", "safetensors": ".safetensors", "json": ".json"}


def read_a_pickle(data: bytes) -> None:
    try:
        read_pickle(data)
    except NotInert:
        return


def read_a_file(ending: str, folder: Path) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        (folder / f"file{ending}").write_bytes(data)
        (entry,) = take_inventory(str(folder)).entries
        facts = read_file(str(folder), entry, Level.FULL)
        assert facts.size == len(data)

    return read


def verify_a_folder(folder: Path) -> Callable[[bytes], None]:
    """The input is a name out of the checkpoint, a line's end, and that file's new content."""
    checkpoint = folder / "checkpoint-100"

    def judge(data: bytes) -> None:
        name, _, content = data.partition(b"\n")
        file = checkpoint / name.decode("latin-1").replace("/", "_").replace("\0", "_")[:100]
        before = file.read_bytes() if file.is_file() else None
        try:
            file.write_bytes(content)
        except OSError:
            return  # "." and the like
        try:
            verify(str(checkpoint))
        except LastgoodError:
            pass
        finally:
            file.unlink() if before is None else file.write_bytes(before)

    return judge


def _target(name: str, folder: Path, corpus: Path) -> Callable[[bytes], None]:
    if name == "pickle":
        return read_a_pickle
    if name in _ENDINGS:
        return read_a_file(_ENDINGS[name], folder)
    shutil.copytree(corpus.parent / "checkpoint", folder / "checkpoint-100")
    return verify_a_folder(folder)


def main() -> None:
    name, seconds, seed, corpus = sys.argv[1:]
    found = Path(corpus).parent / f"found-{name}-"
    options = {
        "max_total_time": seconds,
        "seed": seed,
        "timeout": SECONDS_FOR_ONE,
        "rss_limit_mb": MEBIBYTES,
        "max_len": 20_000,
        "artifact_prefix": found,
        "print_final_stats": 1,
        "verbosity": 1,
    }
    with tempfile.TemporaryDirectory() as folder:
        target = _target(name, Path(folder), Path(corpus))
        atheris.Setup([sys.argv[0], corpus, *(f"-{key}={value}" for key, value in options.items())], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
