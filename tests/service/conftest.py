from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service_world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.testclient import TestClient


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world whose worker has looked at everything; its clock is moved by hand."""
    made = World(tmp_path)
    made.beat()
    yield made
    made.catalog.close()


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    with world.client() as made:
        yield made
