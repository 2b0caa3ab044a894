"""Several processes of one job, under torch.distributed: the first one saves and asks, all of them hear the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch

from lastgood.errors import LastgoodError

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")


def is_first() -> bool:
    """Whether this is the process that saves and asks; a job of one process is its own first."""
    return not _are_several() or torch.distributed.get_rank() == 0


def count() -> int:
    """How many processes the job has."""
    return int(torch.distributed.get_world_size()) if _are_several() else 1


def any_of(claim: bool) -> bool:
    """Whether it is true in one of the processes; all of them must call it."""
    if not _are_several():
        return claim
    distributed = torch.distributed
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    found = torch.tensor([claim], dtype=torch.int32, device=device)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return bool(found.item())


def told_by_first(ask: Callable[[], Found]) -> Found:
    """What `ask` returns in the first process, in each of them; all of them must call it.

    What it raises there is raised there; in the others, LastgoodError with its words.
    """
    if not _are_several():
        return ask()
    told: list[Any] = [None]
    failure: Exception | None = None
    if is_first():
        try:
            told = [{"found": ask()}]
        except Exception as error:  # noqa: BLE001 - the others wait for an answer, whatever went wrong
            failure, told = error, [{"failure": str(error) or type(error).__name__}]
    torch.distributed.broadcast_object_list(told, src=0)
    if failure is not None:
        raise failure
    if "failure" in told[0]:
        raise LastgoodError(f"the first process could not tell: {told[0]['failure']}")
    found: Found = told[0]["found"]
    return found


def trouble_of_any(trouble: str | None) -> str | None:
    """What went wrong in the first of the processes where anything did; all of them must call it, those too."""
    if not _are_several():
        return trouble
    troubles: list[str | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(troubles, trouble)
    told = ((rank, each) for rank, each in enumerate(troubles) if each is not None)
    return next((f"process {rank}: {each}" for rank, each in told), None)


def _are_several() -> bool:
    distributed = torch.distributed
    return bool(distributed.is_available() and distributed.is_initialized())
