"""What the images need besides lastgood itself, one requirement a line, as pyproject.toml has it.

`python docker/requirements.py`: what every part needs; with the names of extras: what these add.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = [project["optional-dependencies"][name] for name in sys.argv[1:]]
for requirements in extras or [project["dependencies"]]:
    print(*requirements, sep="\n")
