"""How a job saves and goes on: as keyword arguments, or from a YAML file, under the names that trainers have for it."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from lastgood.errors import SettingsError
from lastgood.wording import within_a_sentence

if TYPE_CHECKING:
    from collections.abc import Mapping


class SaveOptions(BaseModel):
    """Frozen; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    save_strategy: Literal["steps", "epoch", "no"] = Field(
        "steps", description="When `save_if_due` saves: every `save_steps` steps, at the end of each epoch, or never."
    )
    save_steps: int = Field(500, ge=1, description="Steps from one save to the next.")
    save_total_limit: int | None = Field(
        None,
        ge=1,
        description="Good checkpoints that are kept, the newest ones; damaged ones do not count. Never fewer than two.",
    )
    save_optimizer_state: bool = Field(True, description="Save the state of the optimizer.")
    save_scheduler_state: bool = Field(True, description="Save the state of the scheduler.")
    save_safetensors: bool = Field(True, description="Save weights as safetensors, not as pytorch_model.bin.")
    compress_state: bool = Field(
        False, description="Pack training_state.pt: smaller, slower to save and to verify, and never mapped."
    )
    async_save: bool = Field(False, description="Copy the state and return; write it in the background.")
    overwrite_output_dir: bool = Field(
        False,
        description="Let `resume` begin anew in a folder that holds checkpoints; saves replace those of the same step.",
    )
    resume_from_checkpoint: bool | str = Field(
        True, description="What `resume` does: go on from the last good one, from the one at this path, or begin anew."
    )
    accept: Literal["complete", "partial"] | None = Field(
        None, description="The least verdict that `resume` goes on from. Left out: as the setting `accept` says."
    )
    restore_optimizer_state: bool = Field(True, description="Load the state of the optimizer.")
    restore_scheduler_state: bool = Field(
        True, description="Load the state of the scheduler; otherwise it begins with the rates set here."
    )

    @field_validator("save_steps", "save_total_limit", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("a whole number is expected")  # noqa: TRY004 - pydantic makes a complaint of it
        return value

    @field_validator("resume_from_checkpoint", mode="before")
    @classmethod
    def _path_is_text(cls, value: object) -> object:
        found = os.fspath(value) if isinstance(value, os.PathLike) else value
        if not isinstance(found, bool | str) or found == "":
            raise ValueError("true, false or a path is expected")
        return found

    @field_validator("save_strategy", mode="before")
    @classmethod
    def _no_is_a_word(cls, value: object) -> object:
        """In YAML a bare `no` is false."""
        return "no" if value is False else value

    @classmethod
    def of(cls, given: SaveOptions | Mapping[str, Any] | str | os.PathLike[str] | None, **named: Any) -> SaveOptions:
        """Those that are given, as they are, as a mapping or as the path of a YAML file; those that are named go first.

        SettingsError says which is unknown, or wrong.
        """
        if isinstance(given, str | os.PathLike):
            return cls.from_yaml(given, **named)
        known = given.model_dump(exclude_unset=True) if isinstance(given, SaveOptions) else dict(given or {})
        return cls._read({**known, **named}, "the options")

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str], section: str | None = None, **named: Any) -> SaveOptions:
        """Those in a YAML file, or in one section of it. SettingsError where it cannot be read, or is wrong.

        What a section says of other things than saving, as `output_dir`, is the trainer's own.
        """
        where = f"{os.fspath(path)}, section {section}" if section else os.fspath(path)
        found = _mapping_in(path)
        if section is not None and section not in found:
            raise SettingsError(
                f"{os.fspath(path)} has no section {section}; it has {', '.join(map(str, found)) or 'nothing'}"
            )
        chosen = found if section is None else found[section]
        if not isinstance(chosen, dict):
            raise SettingsError(f"{where}: names and values are expected")
        if section is not None:
            chosen = {name: value for name, value in chosen.items() if _is_of_saving(str(name))}
        return cls._read({**chosen, **named}, where)

    @classmethod
    def _read(cls, values: Mapping[str, Any], where: str) -> SaveOptions:
        try:
            return cls(**{str(name): value for name, value in values.items()})
        except ValidationError as error:
            raise SettingsError(f"{where}: {'; '.join(map(_complaint, error.errors()))}") from None


def _is_of_saving(name: str) -> bool:
    """Whether it is one of ours, or may be meant to be."""
    near = difflib.get_close_matches(name, SaveOptions.model_fields, 1, cutoff=0.8)
    return bool(near) or name.startswith(("save_", "restore_", "resume_"))


def _complaint(error: Any) -> str:
    name = str(error["loc"][0])
    if error["type"] != "extra_forbidden":
        return f"{name}: {within_a_sentence(error['msg'])}, not {error['input']!r}"
    if isinstance(error["input"], dict):
        return f"there is no option {name}; the options in a section are read by SaveOptions.from_yaml(PATH, {name!r})"
    near = difflib.get_close_matches(name, SaveOptions.model_fields, 1)
    return f"there is no option {name}" + (f"; is {near[0]} meant?" if near else "")


def _mapping_in(path: str | os.PathLike[str]) -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - who names the options in Python does not need it

    try:
        with open(path, encoding="utf-8") as file:
            found = yaml.safe_load(file)
    except OSError as error:
        raise SettingsError(f"{os.fspath(path)} cannot be read: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{os.fspath(path)} is not YAML: {' '.join(str(error).split())}") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise SettingsError(f"{os.fspath(path)}: names and values are expected")
    return found
