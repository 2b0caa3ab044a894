"""Two processes of one training job, for as long as one call takes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from lastgood.errors import LastgoodError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def in_two_processes(store: Path, act: Callable[[int], Any]) -> list[str]:
    """What `act(rank)` returned, or raised, in each of two processes of one group, as text."""
    readers = []
    for rank in range(2):
        reader, writer = os.pipe()
        if os.fork() == 0:
            try:
                os.close(reader)
                torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
                try:
                    told = str(act(rank))
                except LastgoodError as error:
                    told = f"{type(error).__name__}: {error}"
                os.write(writer, told.encode())
                torch.distributed.barrier()
            finally:
                os._exit(0)
        os.close(writer)
        readers.append(reader)
    found = []
    for reader in readers:
        with open(reader, encoding="utf-8") as pipe:
            found.append(pipe.read())
        os.wait()
    return found
