"""CheckpointManager: complete checkpoints out of a training job, and back into it."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from lastgood import client, durable, naming, resume
from lastgood.discovery import discover
from lastgood.errors import LastgoodError, NoCheckpointsYet
from lastgood.facts import Component, Level, Presence
from lastgood.findings import Verdict
from lastgood.settings import read_settings
from lastgood.settings_file import settings_text
from lastgood.training import loading, preemption, ranks, rng, saving
from lastgood.training.background import Background
from lastgood.training.options import SaveOptions
from lastgood.training.rotation import Rotation
from lastgood.training.whole_folder import put_back
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lastgood.settings import Settings

_log = logging.getLogger("lastgood")


@dataclass(frozen=True, slots=True)
class Restored:
    """Where a training job goes on."""

    step: int
    epoch: float
    path: str
    exact: bool  #: everything for a bit-for-bit continuation was there
    best_loss: float
    epoch_losses: Sequence[float]
    metrics: Mapping[str, Any]
    additional_state: Mapping[str, Any]


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
        `save_steps=100`. SettingsError where one is unknown, or wrong.
        """
        self.folder = os.path.abspath(folder)
        self.options = SaveOptions.of(options, **named)
        self._settings = settings if settings is not None else read_settings(os.environ, settings_text())
        self._background = Background()
        self._preemption: preemption.Preemption | None = None
        self._last_step: int | None = None
        limit = self.options.save_total_limit
        self._rotation = Rotation(self.folder, limit, self._settings) if limit else None
        durable.make_folders(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save(  # noqa: PLR0913 - one name for each thing that a job has
        self,
        step: int,
        *,
        model: Any,
        optimizer: Any = None,
        scheduler: Any = None,
        scaler: Any = None,
        dataloader: Any = None,
        epoch: float = 0,
        metrics: Mapping[str, Any] | None = None,
        tokenizer: Any = None,
        best_loss: float = float("inf"),
        epoch_losses: Sequence[float] = (),
        additional_state: Mapping[str, Any] | None = None,
    ) -> str:
        """Saves everything under this step. The folder's path; it is there whole, and on the disk.

        With `async_save` it is on its way there: the state is copied, and written while training goes on. The next
        call waits for it, and raises what went wrong; what is not finished never looks as if it were.
        """
        folder = os.path.join(self.folder, f"checkpoint-{step}")
        asked = self._preemption is not None and self._preemption.asks
        with suppress(Exception) if asked else nullcontext():  # it was logged; this may be the last chance to save
            self._background.wait()
        if not ranks.is_first():
            self._note_saved(step, asked=asked)
            return folder
        found = saving.collect(
            step=step,
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
            options=self.options,
        )
        saving.require_space(folder, found)
        if self.options.async_save and not asked:
            self._background.start(f"the save of {folder}", partial(self._write, folder, found.copied()))
        else:
            self._write(folder, found)
        self._note_saved(step, asked=asked)
        return folder

    def save_if_due(self, step: int, *, epoch_finished: bool = False, **parts: Any) -> str | None:
        """Saves, with the arguments of `save`, where `is_due`: to be called after every step. None: it was not."""
        return self.save(step, **parts) if self.is_due(step, epoch_finished=epoch_finished) else None

    def is_due(self, step: int, *, epoch_finished: bool = False) -> bool:
        """Whether the options ask for a save after this step, or a signal came since the last one."""
        if step == self._last_step:
            return False
        if self._preemption is not None and self._preemption.asks:
            return True
        if self.options.save_strategy == "epoch":
            return epoch_finished
        return self.options.save_strategy == "steps" and step > 0 and step % self.options.save_steps == 0

    def save_on_signals(self, *signals: int) -> None:
        """From now on SIGTERM and SIGUSR1, or those named, make a save due; afterwards `preempted` is true.

        To be called once, in the main thread. Another signal after the save does what it would have done without this.
        """
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
        if self._preemption is not None:
            self._preemption.restore()
        self._background.wait()

    def _write(self, folder: str, found: saving.Save) -> None:
        saving.write(folder, found)
        if self._rotation is None:
            return
        try:
            self._rotation.rotate(os.path.basename(folder))
        except (LastgoodError, OSError) as error:  # the save is there, whatever became of older ones
            _log.warning("nothing was removed from %s: %s", self.folder, error)

    def _note_saved(self, step: int, *, asked: bool) -> None:
        self._last_step = step
        if self._preemption is not None and asked:
            self._preemption.saved = True

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
        chosen = self.options.resume_from_checkpoint
        if chosen is False:
            ranks.told_by_first(self._require_none)
            return None
        parts: dict[str, Any] = {"optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
        parts |= {"dataloader": dataloader, "device": device, "strict": strict}
        if chosen is True:
            return self.restore_latest(model, **parts, wait=wait, fetch=fetch)
        loaded = self._load(chosen, Level.FULL, model=model, **parts)
        exact = verify(chosen, Level.QUICK).exact_resume
        return Restored(step=loaded.pop("global_step"), path=chosen, exact=exact, **loaded)

    def _require_none(self) -> None:
        found = [c for c in discover(self.folder).candidates if c.run == naming.ROOT_FOLDER and not c.copy]
        if found and not self.options.overwrite_output_dir:
            raise FileExistsError(
                f"{self.folder} holds {len(found)} checkpoints: resume_from_checkpoint=True goes on from the last good "
                "one, overwrite_output_dir=True begins anew in their place"
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
        found = ranks.told_by_first(lambda: self._last_good(wait, fetch=fetch))
        if found is None:
            return None
        for warning in found["warnings"]:
            _log.warning("%s: %s", found["name"], warning["message"])
        path = client.rebased(found, self._settings.root)
        with self._telling_how_it_goes(found):
            loaded = self._load(
                path,
                None,  # whoever named it has read every byte
                model=model,
                optimizer=optimizer,
                scheduler=scheduler,
                device=device,
                strict=strict,
                scaler=scaler,
                dataloader=dataloader,
            )
        _log.info("goes on at step %s from %s", loaded["global_step"], path)
        return Restored(step=loaded.pop("global_step"), path=path, exact=found["exact_resume"], **loaded)

    def _load(self, path: str, level: Level | None, *, optimizer: Any, scheduler: Any, **parts: Any) -> dict[str, Any]:
        """As the options have it."""
        wanted: dict[str, Any] = {
            "optimizer": optimizer if self.options.restore_optimizer_state else None,
            "scheduler": scheduler if self.options.restore_scheduler_state else None,
        }
        for name, given in (("optimizer", optimizer), ("scheduler", scheduler)):
            if given is not None and wanted[name] is None:
                _log.info("the state of the %s is not restored, as the options ask: it starts anew", name)
        return loading.load_checkpoint(path, level=level, **wanted, **parts)

    def _last_good(self, wait: float, *, fetch: bool = False) -> Mapping[str, Any] | None:
        settings = self._settings
        put_back(self.folder)
        wishes = resume.Wishes(accept=Verdict(settings.accept))
        try:
            return client.latest_held_in(
                self.folder,
                client.service_of(settings),
                wishes,
                lease=client.Lease(),
                run=naming.ROOT_FOLDER,
                wait=wait,
                root=settings.root,
                accept_as_set=client.is_default_accept(settings),
                fetch=client.Fetch(settings) if fetch else None,
            )
        except NoCheckpointsYet:
            return None

    @contextmanager
    def _telling_how_it_goes(self, found: Mapping[str, Any]) -> Iterator[None]:
        """Whoever ends the job says nothing of the checkpoint: then its lease runs out by itself."""
        try:
            yield
        except Exception as error:
            with suppress(Exception):  # a device that broke down must not hide why loading failed
                self._tell(found, f"{type(error).__name__}: {error}")
            raise
        self._tell(found, None)

    def _tell(self, found: Mapping[str, Any], trouble: str | None) -> None:
        trouble = ranks.trouble_of_any(trouble)
        if ranks.is_first():
            client.give_back(client.service_of(self._settings), found, trouble)

    @staticmethod
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

        `options`: those of `SaveOptions` that concern what is saved.
        """
        if not ranks.is_first():
            return
        found = saving.collect(
            step=global_step,
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
            options=SaveOptions.of(None, **options),
        )
        path = os.path.abspath(checkpoint_dir)
        saving.require_space(path, found)
        saving.write(path, found)

    @staticmethod
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
        "quick" the headers; None trusts it.
        """
        return loading.load_checkpoint(
            os.fspath(checkpoint_dir),
            model=model,
            optimizer=optimizer,
            scheduler=scheduler,
            scaler=scaler,
            dataloader=dataloader,
            device=device,
            strict=strict,
            level=Level(level) if level is not None else None,
        )

    @staticmethod
    def verify_checkpoint(checkpoint_dir: str | os.PathLike[str]) -> dict[str, bool]:
        """By each component whether it is there and sound, every byte read. What its layout never saves is not lacking.

        `lastgood.verify.verify` says more. NotACheckpoint where there is nothing to look at.
        """
        components = dict(verify(os.fspath(checkpoint_dir)).components)
        where_used = (Component.SCALER, Component.DATALOADER)
        return {
            component.value: presence in (Presence.PRESENT, Presence.NOT_APPLICABLE)
            for component, presence in components.items()
            if component not in where_used or presence is not Presence.NOT_APPLICABLE
        }

    save_rng_states = staticmethod(rng.save_rng_states)
    restore_rng_states = staticmethod(rng.restore_rng_states)
    set_seed = staticmethod(rng.set_seed)
