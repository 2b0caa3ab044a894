"""CheckpointManager: complete checkpoints out of a training job, and back into it."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self, Unpack

from lastgood import client, durable, naming
from lastgood.discovery import discover
from lastgood.errors import LastgoodError, NotACheckpoint
from lastgood.remarks import remarks_on
from lastgood.settings import read_settings
from lastgood.settings_file import settings_text
from lastgood.training import collecting, loading, one_checkpoint, preemption, ranks, rng, saving, weights
from lastgood.training.asking import Asking
from lastgood.training.background import Background
from lastgood.training.options import SaveOptions
from lastgood.training.rotation import Rotation
from lastgood.training.targets import Targets
from lastgood.verify import verify
from lastgood.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastgood.settings import Settings

_log = logging.getLogger("lastgood")


@dataclass(frozen=True, slots=True)
class Restored:
    """Where a training job goes on."""

    step: int
    epoch: float  #: how many are done
    path: str
    exact: bool  #: everything for a bit-for-bit continuation was there, and was restored
    best_loss: float
    epoch_losses: Sequence[float]
    metrics: Mapping[str, Any]
    additional_state: Mapping[str, Any]
    batches_done: int | None = None  #: of the epoch that was in work, where the writer counts batches: to be skipped


class CheckpointManager:
    """Saves into `folder/checkpoint-<step>`, and goes on from the last good one there."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        settings: Settings | None = None,
        options: SaveOptions | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        **named: Any,
    ) -> None:
        """`options`: as they are, as a mapping, or the path of a YAML file; single ones by their names, as
        `save_steps=100`. SettingsError where one is unknown, or wrong; NotACheckpoint where the folder is one, not one
        of checkpoints.
        """
        self.folder = os.path.abspath(folder)
        if naming.step_in_name(os.path.basename(self.folder)) is not None:
            raise NotACheckpoint(
                f"{self.folder} has the name of a checkpoint: give the folder that holds the checkpoints, or is "
                "to hold them"
            )
        self.options = SaveOptions.of(options, **named)
        self._chosen = self.options.resume_from_checkpoint
        if isinstance(self._chosen, str):
            self._chosen = os.path.abspath(self._chosen)  # wherever the job may go
        self._settings = settings if settings is not None else read_settings(os.environ, settings_text())
        self._asking = Asking(self.folder, self._settings, self.options.accept)
        self._background = Background()
        self._preemption: preemption.Preemption | None = None
        self._last_step: int | None = None
        self._asked = False  # by a signal, as all processes agreed when they last asked whether a save is due
        limit = self.options.save_total_limit
        self._rotation = Rotation(self.folder, limit, self._settings) if limit else None
        durable.make_folders(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with suppress(Exception) if kind is not None else nullcontext():  # it was logged, and why we leave counts
            self.close()

    def save(self, step: int, **parts: Unpack[collecting.Parts]) -> str:
        """Saves everything under this step. The folder's path; it is there whole, and on the disk.

        `parts`: `model`, and what else there is: `optimizer`, `scheduler`, `scaler`, `dataloader`, `tokenizer`, `epoch`
        (how many are done), `best_loss`, `epoch_losses`, `metrics`, `additional_state`. OSError where the disk has no
        room, Damaged where what came out is not what was to be saved, TypeError or ValueError where the step is not a
        whole number of 0 or more, or something could not be loaded again.

        With `async_save` it is on its way there: the state is copied, and written while training goes on. The next
        call waits for it, and raises what went wrong; what is not finished never looks as if it were. Under
        torch.distributed every process calls it, and the first one saves.
        """
        step = collecting.whole_step(step)
        weights.require_whole(parts.get("model"))
        folder = os.path.join(self.folder, f"checkpoint-{step}")
        asked, self._asked = self._asked or self._was_signalled(), False
        with suppress(Exception) if asked else nullcontext():  # it was logged; this may be the last chance to save
            self._background.wait()
        if asked and self._preemption is not None:
            ranks.told_by_first(partial(self._save, folder, step, parts, beside=False))
            self._preemption.saved = True
        elif ranks.is_first():
            self._save(folder, step, parts, beside=self.options.async_save)
        self._last_step = step
        return folder

    def _save(self, folder: str, step: int, parts: collecting.Parts, *, beside: bool) -> None:
        found = collecting.collect(step, self.options, parts)
        saving.require_space(folder, found)
        if beside:
            self._background.start(f"the save of {folder}", partial(self._write, folder, found.copied()))
        else:
            self._write(folder, found)

    def save_if_due(self, step: int, *, epoch_finished: bool = False, **parts: Unpack[collecting.Parts]) -> str | None:
        """Saves, with the arguments of `save`, where `is_due`: to be called after every step. None: it was not."""
        return self.save(step, **parts) if self.is_due(step, epoch_finished=epoch_finished) else None

    def is_due(self, step: int, *, epoch_finished: bool = False) -> bool:
        """Whether the options ask for a save after this step, or a signal came since the last one.

        With `save_on_signals`, under torch.distributed, every process calls it after every step: a signal that came to
        one of them counts for all.
        """
        asked = self._preemption is not None and self._preemption.asks()  # of all ranks: every one has to ask
        if step == self._last_step:
            return False
        self._asked = asked
        if self._asked:
            return True
        if self.options.save_strategy == "epoch":
            return epoch_finished
        return self.options.save_strategy == "steps" and step > 0 and step % self.options.save_steps == 0

    def _was_signalled(self) -> bool:
        """Of several processes only those that ask `is_due` know it: it may be that the first one saves alone."""
        return self._preemption is not None and ranks.count() == 1 and self._preemption.asks()

    def save_on_signals(self, *signals: int) -> None:
        """From now on SIGTERM and SIGUSR1, or those named, make a save due; afterwards `preempted` is true.

        To be called once, in the main thread. Another signal after the save does what it would have done without this.
        """
        if self._preemption is not None:
            self._preemption.restore()
        self._preemption = preemption.Preemption(signals or preemption.USUAL)

    @property
    def preempted(self) -> bool:
        """A signal came, and everything was saved since: the job can end."""
        return self._preemption is not None and self._preemption.saved

    def wait(self) -> None:
        """Until what is being saved is on the disk. Raises what went wrong with it."""
        self._background.wait()

    def close(self) -> None:
        """As `wait`, and signals do what they did before."""
        try:
            self._background.wait()
        finally:
            if self._preemption is not None:
                self._preemption.restore()

    def _write(self, folder: str, found: collecting.Save) -> None:
        saving.write(folder, found)
        if self._rotation is None:
            return
        self._rotation.protect(os.path.basename(folder))
        try:
            self._rotation.rotate()
        except (LastgoodError, OSError) as error:  # the save is there, whatever became of older ones
            _log.warning("nothing was removed from %s: %s", self.folder, error)

    def resume(  # noqa: PLR0913 - one name for each thing that a job has, and each wish
        self,
        model: Any,
        optimizer: Any = None,
        scheduler: Any = None,
        scaler: Any = None,
        dataloader: Any = None,
        *,
        device: Any = None,
        strict: bool = True,
        wait: float = 60.0,
        fetch: bool = False,
    ) -> Restored | None:
        """As the option `resume_from_checkpoint` says: from the last good one, from the one it names, or not at all.

        None: training begins with its first step. FileExistsError where it is to begin anew, and the folder holds
        checkpoints that it would write over, unless `overwrite_output_dir` allows it.
        """
        self._background.wait()
        if self._chosen is False:
            ranks.told_by_first(self._require_none)
            return None
        targets = Targets(model, optimizer, scheduler, scaler, dataloader, device, strict=strict)
        if self._chosen is True:
            return self._restored_latest(targets, wait, fetch=fetch)
        path, exact = ranks.told_by_first(partial(_undamaged, self._chosen))
        return self._restored(path, targets, exact=exact)

    def _require_none(self) -> None:
        found = discover(self.folder).saves
        if found and not self.options.overwrite_output_dir:
            raise FileExistsError(
                f"{self.folder} holds {counted(len(found), 'checkpoint')}: resume_from_checkpoint=True goes on from "
                "the last good one, overwrite_output_dir=True begins anew in their place"
            )

    def restore_latest(  # noqa: PLR0913 - one name for each thing that a job has, and each wish
        self,
        model: Any,
        optimizer: Any = None,
        scheduler: Any = None,
        scaler: Any = None,
        dataloader: Any = None,
        *,
        device: Any = None,
        strict: bool = True,
        wait: float = 60.0,
        fetch: bool = False,
    ) -> Restored | None:
        """Loads the last good checkpoint, as the service, its file or our own look names it. None: none was saved yet.

        A newer one that is just being judged is waited for, so many seconds at most. It is leased until it is loaded,
        and the service hears how that went: one that fails twice is not handed out a third time. `fetch`: where
        nothing there will do, the last good copy is brought from the cloud (setting `remote`). A refusal is raised:
        that none of those that are there can be handed out is no reason to start from scratch, and neither is a store
        that does not answer. Under torch.distributed every process calls it, and the first one asks, and fetches.
        """
        self._background.wait()
        targets = Targets(model, optimizer, scheduler, scaler, dataloader, device, strict=strict)
        return self._restored_latest(targets, wait, fetch=fetch)

    def _restored_latest(self, targets: Targets, wait: float, *, fetch: bool) -> Restored | None:
        found = self._asking.last_good(wait, fetch=fetch)
        if found is None:
            return None
        for remark in remarks_on(found):
            _log.warning("%s", remark)
        with self._asking.telling_how_it_goes(found):  # whoever named it has read every byte
            return self._restored(client.rebased(found, self._settings.root), targets, exact=found["exact_resume"])

    def _restored(self, path: str, targets: Targets, *, exact: bool) -> Restored:
        """As the options have it."""
        left = "the state of the %s is not restored, as the options ask: it starts anew"
        if targets.optimizer is not None and not self.options.restore_optimizer_state:
            _log.info(left, "optimizer")
            targets = replace(targets, optimizer=None)
        if targets.scheduler is not None and not self.options.restore_scheduler_state:
            _log.info(left, "scheduler")
            targets = replace(targets, scheduler=None, schedule_anew=True)
        loaded = loading.load(path, targets)
        progress = loaded.progress
        _log.info("goes on at step %s from %s", progress["global_step"], path)
        if self._rotation is not None and os.path.dirname(path) == self.folder:
            self._rotation.protect(os.path.basename(path))
        return Restored(step=progress.pop("global_step"), path=path, exact=exact and loaded.whole, **progress)

    save_checkpoint = staticmethod(one_checkpoint.save_checkpoint)
    load_checkpoint = staticmethod(one_checkpoint.load_checkpoint)
    verify_checkpoint = staticmethod(one_checkpoint.verify_checkpoint)
    save_rng_states = staticmethod(rng.save_rng_states)
    restore_rng_states = staticmethod(rng.restore_rng_states)
    set_seed = staticmethod(rng.set_seed)


def _undamaged(path: str) -> tuple[str, bool]:
    """The checkpoint's place, and whether everything for an exact continuation is there. Damaged where it is."""
    report = verify(path)
    loading.require_undamaged(report)
    return report.path, report.exact_resume
