"""One checkpoint, wherever it lies: under the names and arguments that trainers call these by."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from lastgood.facts import Component, Level, Presence
from lastgood.findings import Code, Verdict
from lastgood.training import collecting, loading, ranks, saving, weights
from lastgood.training.options import SaveOptions
from lastgood.training.targets import Targets
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


# What of a component is not as it should be, although it is there.
_OF: Final = {
    Code.SHARD_MISSING: Component.WEIGHTS,
    Code.RNG_INCOMPLETE: Component.RNG,
    Code.RANKS_MISSING: Component.RNG,
}


def save_checkpoint(  # noqa: PLR0913, PLR0917 - the names that trainers call it by
    checkpoint_dir: str | os.PathLike[str],
    model: Any,
    optimizer: Any = None,
    scheduler: Any = None,
    epoch: float = 0,
    global_step: int = 0,
    best_loss: float = float("inf"),
    epoch_losses: Sequence[float] = (),
    tokenizer: Any = None,
    additional_state: Mapping[str, Any] | None = None,
    *,
    scaler: Any = None,
    dataloader: Any = None,
    metrics: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Saves everything into this folder, in place of what is there. After an error that is as it was.

    `options`: those of `SaveOptions` that concern what is saved. OSError where the disk has no room, Damaged where what
    came out is not what was to be saved, TypeError or ValueError where something could not be loaded again.
    """
    weights.require_whole(model)
    if not ranks.is_first():
        return
    parts = collecting.Parts(
        model=model,
        optimizer=optimizer,
        scheduler=scheduler,
        scaler=scaler,
        dataloader=dataloader,
        tokenizer=tokenizer,
        epoch=epoch,
        best_loss=best_loss,
        epoch_losses=epoch_losses,
        metrics=metrics,
        additional_state=additional_state,
    )
    found = collecting.collect(collecting.whole_step(global_step), SaveOptions.of(None, **options), parts)
    path = os.path.abspath(checkpoint_dir)
    saving.require_space(path, found)
    saving.write(path, found)


def load_checkpoint(  # noqa: PLR0913 - as above
    checkpoint_dir: str | os.PathLike[str],
    model: Any,
    optimizer: Any = None,
    scheduler: Any = None,
    device: Any = None,
    strict: bool = True,
    *,
    scaler: Any = None,
    dataloader: Any = None,
    level: str | None = "full",
) -> dict[str, Any]:
    """Loads everything that is given and was saved. Step, epoch, losses, metrics and additional state.

    Damaged, before anything is touched, where the checkpoint is: every byte of it is read first, or with `level`
    "quick" the headers; None trusts it, until a file of it cannot be read. NotACheckpoint where there are no weights.
    ValueError where a state does not fit, TypeError where something cannot take one: then everything is as it was.
    """
    folder = os.fspath(checkpoint_dir)
    if level is not None:
        loading.require_undamaged(verify(folder, Level(level)))
    targets = Targets(model, optimizer, scheduler, scaler, dataloader, device, strict=strict)
    return loading.load(folder, targets).progress


def verify_checkpoint(checkpoint_dir: str | os.PathLike[str]) -> dict[str, bool]:
    """By each component whether it is there and sound, every byte read. What its layout never saves is not lacking.

    `lastgood.verify.verify` says more. NotACheckpoint where there is nothing to look at.
    """
    report = verify(os.fspath(checkpoint_dir))
    where_used = (Component.SCALER, Component.DATALOADER)
    wrong = {_OF[finding.code] for finding in report.findings if finding.code in _OF}
    wrong |= {Component.WEIGHTS} if report.verdict is Verdict.UNHEALTHY else set()
    return {
        component.value: presence in (Presence.PRESENT, Presence.NOT_APPLICABLE) and component not in wrong
        for component, presence in report.components.items()
        if component not in where_used or presence is not Presence.NOT_APPLICABLE
    }
