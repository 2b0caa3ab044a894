"""What every test of the worker starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from worker_world import World, world_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_in(tmp_path) as made:
        yield made
