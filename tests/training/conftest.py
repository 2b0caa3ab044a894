from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from lastgood.settings import Settings
from lastgood.training import CheckpointManager, restore_rng_states, save_rng_states

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    """One thread, which is faster for small models, and generators as they were for the other tests."""
    threads, states = torch.get_num_threads(), save_rng_states()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    restore_rng_states(states)


@pytest.fixture
def manager(tmp_path: Path) -> CheckpointManager:
    """A manager of an empty folder that nobody watches."""
    return CheckpointManager(tmp_path / "output", settings=Settings(url="http://127.0.0.1:1"))
