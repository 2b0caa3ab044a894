"""What `lastgood inspect` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from lastgood.facts import Level
from lastgood.findings import SOUND
from lastgood.rendering import aligned, coloured, meaning_of, size, warnings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastgood.facts import Place, Report
    from lastgood.inspection import Inspection

_LOSSES_SHOWN: Final = 5


def inspection(found: Inspection) -> str:
    """Where it stands, where a resume begins, what that will be like, and what lies in which file."""
    return "\n".join(
        (
            click.style(found.report.path, bold=True),
            f"  {_verdict(found.report)}; layout {found.report.layout}",
            "",
            *(f"  {line}" for line in aligned(list(_rows(found)))),
            "",
            "  going on from it",
            *(f"  · {sentence}" for sentence in found.outlook),
            *warnings(found.report),
            "",
            *(f"  {line}" for line in aligned(list(_file_rows(found)))),
        )
    )


def _verdict(found: Report) -> str:
    if found.level is Level.QUICK and found.verdict in SOUND:
        return f"{coloured(found.verdict)} as far as headers tell; `lastgood verify` reads every byte"
    return f"{coloured(found.verdict)}: {meaning_of(found)}"


def where_it_stands(place: Place) -> str:
    if place.done is None:
        return f"epoch {place.epoch} is finished"
    if place.finished:
        return f"epoch {place.epoch} is finished: all {place.batches} batches done"
    if place.batches is None:
        return f"epoch {place.epoch}: {place.done} batches done"
    return f"epoch {place.epoch}: {place.done} of {place.batches} batches done ({place.done / place.batches:.1%})"


def where_it_goes_on(place: Place) -> str:
    """What a resume skips, and what it trains on. Batches are counted from 0."""
    if place.done is None or place.finished:
        return f"begins epoch {place.epoch + 1}; no batch is skipped or trained on twice"
    if place.done == 0:
        return f"begins epoch {place.epoch}; no batch is skipped"
    rest = f"{place.done} to {place.batches - 1} are trained on" if place.batches else "those after them are trained on"
    return f"goes on in epoch {place.epoch}: batches 0 to {place.done - 1} are skipped, {rest}"


def _rows(found: Inspection) -> Iterator[tuple[str, str]]:
    yield "step", str(found.step) if found.step is not None else "it does not say"
    if found.place is not None:
        yield "progress", where_it_stands(found.place)
        yield "a resume", where_it_goes_on(found.place)
    elif found.report.epoch is not None:
        yield "progress", f"epoch {found.report.epoch:g}; how many batches of it are done, it does not say"
    if found.optimizer_steps is not None:
        yield "optimizer", _optimizer(found)
    if found.rates:
        yield "learning rate", ", ".join(f"{rate:.4g}" for rate in dict.fromkeys(found.rates))
    if found.best_loss is not None:
        yield "best loss", f"{found.best_loss:.4f}"
    if found.losses:
        earlier = "… " if len(found.losses) > _LOSSES_SHOWN else ""
        yield "losses", earlier + ", ".join(f"{loss:.4f}" for loss in found.losses[-_LOSSES_SHOWN:])
    if found.metrics:
        yield "metrics", ", ".join(f"{name} {value:.4g}" for name, value in sorted(found.metrics.items()))
    yield "random states", ", ".join(found.rng) or "none"


def _optimizer(found: Inspection) -> str:
    counted, off = f"{found.optimizer_steps} steps", found.difference
    if off is None:
        return counted
    who = "state" if found.report.step is not None else "name"
    if not off:
        return f"{counted}, as its {who} says"
    more = f"{abs(off)} {'more' if off > 0 else 'fewer'} than the {found.step} of its {who}"
    return f"{counted}, {more}: {_why_off(found)}"


def _why_off(found: Inspection) -> str:
    if found.batches_a_step is None:
        return "a usual difference" if found.optimizer_agrees else "look into it"
    accumulates = f"one step for every {found.batches_a_step} batches (gradient accumulation)"
    return accumulates if found.optimizer_agrees else f"look into it, unless it is {accumulates}"


def _file_rows(found: Inspection) -> Iterator[tuple[str, str, str]]:
    for file in sorted(found.report.files, key=lambda file: -file.bytes):
        yield f"{size(file.bytes):>9}", file.path, ", ".join(found.homes.get(file.path, ()))
    yield f"{size(found.report.bytes):>9}", "in all", ""
