"""Complete checkpoints out of a training job, and back into it.

A checkpoint is the model as Hugging Face lays it out, where it has a configuration, and one `training_state.pt` with
everything else; of a model without one, the weights lie in there too. `.lastgood.json` lists the files.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from lastgood import client, durable, naming, resume
from lastgood.errors import NoCheckpointsYet
from lastgood.facts import FileDigest
from lastgood.findings import Verdict
from lastgood.formats.scan import Source, scan_file
from lastgood.inventory import take_inventory
from lastgood.manifest import file_list_as_json
from lastgood.settings import read_settings
from lastgood.settings_file import settings_text
from lastgood.training import ranks, rng, state, weights
from lastgood.training.whole_folder import put_back, whole_folder
from lastgood.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lastgood.facts import Report
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

    def __init__(self, folder: str | os.PathLike[str], *, settings: Settings | None = None) -> None:
        self.folder = os.path.abspath(folder)
        self._settings = settings if settings is not None else read_settings(os.environ, settings_text())
        durable.make_folders(self.folder)

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
        safetensors: bool = True,
    ) -> str:
        """Saves everything under this step. The folder's path; it is there whole, and on the disk."""
        folder = os.path.join(self.folder, f"checkpoint-{step}")
        self.save_checkpoint(
            checkpoint_dir=folder,
            model=model,
            optimizer=optimizer,
            scheduler=scheduler,
            epoch=epoch,
            global_step=step,
            best_loss=best_loss,
            epoch_losses=epoch_losses,
            tokenizer=tokenizer,
            additional_state=additional_state,
            scaler=scaler,
            dataloader=dataloader,
            metrics=metrics,
            safetensors=safetensors,
        )
        return folder

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
        found = ranks.told_by_first(lambda: self._last_good(wait, fetch=fetch))
        if found is None:
            return None
        for warning in found["warnings"]:
            _log.warning("%s: %s", found["name"], warning["message"])
        path = client.rebased(found, self._settings.root)
        with self._telling_how_it_goes(found):
            loaded = self.load_checkpoint(
                checkpoint_dir=path,
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
        safetensors: bool = True,
    ) -> None:
        """Saves everything into this folder, in place of what is there. After an error that is as it was."""
        if not ranks.is_first():
            return
        content = {
            "global_step": global_step,
            "epoch": epoch,
            "best_loss": best_loss,
            "epoch_losses": list(epoch_losses),
            "metrics": dict(metrics or {}),
            "additional_state": dict(additional_state or {}),
            **state.states_of(optimizer, scheduler, scaler, dataloader),
            state.RNG: rng.save_rng_states(),
        }
        with whole_folder(os.fspath(checkpoint_dir)) as folder:
            if not _write_model(folder, model, as_safetensors=safetensors):
                content[state.MODEL] = weights.weights_of(model)
            if tokenizer is not None:
                tokenizer.save_pretrained(folder)
            path = os.path.join(folder, state.FILE)
            torch.save(content, path)
            state.load_plainly(path, "meta")  # what cannot be loaded again must not pass for saved
            durable.sync_tree(folder)
            _write_list(folder, global_step)

    @staticmethod
    def load_checkpoint(
        checkpoint_dir: str | os.PathLike[str],
        model: Any,
        optimizer: Any = None,
        scheduler: Any = None,
        device: Any = None,
        strict: bool = True,
        *,
        scaler: Any = None,
        dataloader: Any = None,
    ) -> dict[str, Any]:
        """Loads everything that is given and was saved. Step, epoch, losses, metrics and additional state."""
        folder = os.fspath(checkpoint_dir)
        found = state.read_state(folder)
        if device is not None:
            model.to(device)
        inner = found.get(state.MODEL)
        saved = weights.read_weights(folder, state.load_plainly) if inner is None else inner
        weights.load_weights(model, saved, strict=strict)
        state.restore("optimizer", optimizer, found)
        state.restore("scheduler", scheduler, found)
        state.restore("scaler", scaler, found)
        state.restore_dataloader(dataloader, found)
        if ranks.is_first():
            rng.restore_rng_states(found.get(state.RNG))  # last: nothing may be drawn after it
        else:  # with those of the first, all would draw the same
            _log.warning("random states are saved of the first process alone: this one's stay as they are")
        return state.progress_of(found, folder)

    @staticmethod
    def verify_checkpoint(checkpoint_dir: str | os.PathLike[str]) -> Report:
        """What the checkpoint is worth, every byte read."""
        return verify(os.fspath(checkpoint_dir))

    save_rng_states = staticmethod(rng.save_rng_states)
    restore_rng_states = staticmethod(rng.restore_rng_states)
    set_seed = staticmethod(rng.set_seed)


def _write_model(folder: str, model: Any, *, as_safetensors: bool) -> bool:
    """Configuration and weights as Hugging Face lays them out. False, and nothing, where there is no configuration."""
    bare = weights.unwrapped(model)
    config = _as_mapping(getattr(bare, "config", None))
    if config is None:
        return False
    _write_json(os.path.join(folder, "config.json"), {"architectures": [type(bare).__name__], **config})
    generation = _as_mapping(getattr(bare, "generation_config", None))
    if generation is not None:
        _write_json(os.path.join(folder, "generation_config.json"), generation)
    weights.write_weights(folder, weights.weights_of(model), as_safetensors=as_safetensors)
    return True


def _as_mapping(config: Any) -> Mapping[str, Any] | None:
    """A configuration's fields: of Hugging Face's own classes, of a dataclass, or as they are. None: it is no such."""
    if hasattr(config, "to_json_string"):  # those of Hugging Face; it leaves out what JSON cannot hold
        parsed: dict[str, Any] = json.loads(config.to_json_string())
        return {name: value for name, value in parsed.items() if (name, value) != ("architectures", None)}
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return dataclasses.asdict(config)
    return config if isinstance(config, Mapping) else None


def _write_list(folder: str, step: int) -> None:
    """Our own list of the files: the last to be written, it says that the save is finished."""
    entries = take_inventory(folder).entries
    files = [FileDigest(entry.path, entry.size, _digest(folder, entry.path, entry.size)) for entry in entries]
    _write_json(os.path.join(folder, naming.FILE_LIST), file_list_as_json(step, files))


def _digest(folder: str, path: str, size: int) -> str:
    return scan_file(Source(os.path.join(folder, path), path, size), (), {}).digest


def _write_json(path: str, content: Mapping[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
