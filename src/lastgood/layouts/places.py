"""How far into which epoch a checkpoint was saved, as the different writers tell it. Pure."""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING, Any, Final

from lastgood.facts import Place
from lastgood.layouts import counts

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALMOST: Final = 1e-6  # what is left of an epoch by rounding
_MOST: Final = 1e12  # batches: of more, the fraction tells nothing


def by_batches(epoch: float | None, done: int | None, batches: int | None) -> Place | None:
    """Of a writer that counts batches within the epoch, and epochs, from 1, and says 0 for all of them."""
    if epoch is None or done is None or not batches or not 0 <= done <= batches:
        return None
    if epoch < 1:
        return None if done else Place(1, 0, batches)
    return Place(int(epoch), done or batches, batches)


def by_batches_of_untold_epochs(epoch: float | None, done: int | None) -> Place | None:
    """Of the same writer, where it did not say how many batches an epoch has."""
    if epoch is None or done is None or epoch < 1:
        return None
    return Place(int(epoch), done or None, None)


def by_fraction(step: int | None, epoch: float | None, accumulated: int = 1) -> Place | None:
    """Of a writer whose epoch is a fraction: 2.4 is four tenths of the third. `accumulated`: batches in one step."""
    if not step or not epoch or step < 0 or epoch < 0:
        return None
    whole = floor(epoch + _ALMOST)
    part = epoch - whole
    if whole and part < _ALMOST:
        batches = step // whole if accumulated == 1 and step % whole == 0 else None
        return Place(whole, batches, batches) if batches else Place(whole, None, None)
    done = (step - whole * round(step / epoch)) * accumulated if whole else step * accumulated
    if done <= 0:
        return None
    return Place(whole + 1, done, max(done, round(done / part)) if done < part * _MOST else None)


def by_loader(state: Any, epoch: float | None, batches: int | None) -> Place | None:
    """Of the state of a data loader: our own, or torchdata's StatefulDataLoader. `epoch`: how many are done."""
    if not isinstance(state, dict):
        return None
    size, position, length = (counts.count(state.get(key)) for key in ("batch_size", "position", "length"))
    if position is not None and length is not None and size:
        whole = counts.count(state.get("batches")) or ceil(length / size)  # fewer where the last one is dropped
        return _of_ours(counts.count(state.get("epoch")) or 0, min(ceil(position / size), whole), whole)
    done = _given_out(state)
    if done is None or epoch is None:
        return None
    if state.get("_iterator_finished") is True:
        return Place(max(int(epoch), 1), done, done)
    return _of_ours(int(epoch), done, batches)


def _of_ours(epochs_done: int, done: int, batches: int | None) -> Place:
    """Between two epochs the one before is the one that is finished."""
    if done == 0 and epochs_done:
        return Place(epochs_done, batches, batches)
    return Place(epochs_done + 1, done, batches)


def _given_out(state: Mapping[Any, Any]) -> int | None:
    """torchdata 0.11: with loader workers the count lies in a snapshot, and some batches may have followed it."""
    count = counts.count(state.get("_num_yielded"))
    snapshot = state.get("_snapshot")
    if count is not None or not isinstance(snapshot, dict):
        return count
    counted, since = counts.count(snapshot.get("_snapshot_step")), state.get("_steps_since_snapshot")
    return None if counted is None else counted + (counts.count(since) or 0)
