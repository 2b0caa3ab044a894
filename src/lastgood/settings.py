"""Every setting, read once, frozen, handed down. The table in docs/settings.md is made from this class."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from lastgood.addresses import asked_at, url_of
from lastgood.errors import SettingsError
from lastgood.settings_values import Best, Duration, UploadWhich, Which, checked_endpoint, checked_place, checked_tags
from lastgood.wording import within_a_sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENT_PREFIX: Final = "LASTGOOD_"
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_SMALLEST_PART: Final = 5 << 20  # S3's own limits
_LARGEST_PART: Final = 5 << 30


class RunSettings(BaseModel):
    """What may be chosen otherwise for one run. What is left out is as for all the others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accept: Literal["complete", "partial"] | None = None
    keep_last: int | None = Field(None, ge=0)
    keep_best: Best = None
    keep_every: int | None = Field(None, ge=0)
    keep_within: Duration | None = None
    upload: Literal["off", "on", "required"] | None = None
    upload_which: Which | None = None


class Settings(BaseModel):
    """What a person may choose. Durations are in seconds; the long ones may carry a unit, as in `36h`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    roots: tuple[str, ...] = Field(
        (), description="Folders to watch. In the environment: separated by `:`, as in PATH."
    )
    state_dir: str = Field(
        "",
        description="Where the catalog, the token and the lock lie; a local disk. "
        "Default: `$XDG_STATE_HOME/lastgood`, or `~/.local/state/lastgood`.",
    )
    host: str = Field("127.0.0.1", description="Address on which the service listens.")
    port: int = Field(8484, ge=0, le=65535, description="Port on which the service listens.")
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Names besides localhost by which the service may be called. Separated by `:`."
    )
    open_reads: bool = Field(
        False, description="Answer reads without a token although the service listens beyond loopback."
    )
    accept: Literal["complete", "partial"] = Field(
        "complete", description="The least verdict that is handed out when the caller does not say."
    )
    events: bool = Field(True, description="Use file events to look sooner. The timed scan runs in any case.")
    scan_landing_seconds: float = Field(0.5, gt=0, description="Time between scans while something lands.")
    scan_idle_seconds: float = Field(5.0, gt=0, description="Time between scans while nothing does.")
    scan_blind_seconds: float = Field(
        1.0, gt=0, description="The same where file events do not come, so that a save is seen early."
    )
    scan_network_seconds: float = Field(30.0, gt=0, description="The same on a network filesystem.")
    sweep_seconds: float = Field(
        120.0, gt=0, description="Time within which every known checkpoint is looked at again, file by file."
    )
    quiet_seconds: float = Field(3.0, gt=0, description="How long nothing may change before a save counts as finished.")
    quiet_network_seconds: float = Field(65.0, gt=0, description="The same on a network filesystem.")
    quiet_sure_seconds: float = Field(
        0.5,
        gt=0,
        description="The same where the save's last file is there, or the job said that it is finished.",
    )
    settle_timeout_seconds: float = Field(
        1800.0, gt=0, description="After this long without becoming whole, a save counts as incomplete."
    )
    verify_stall_seconds: float = Field(
        120.0,
        gt=0,
        description="A verification that reads nothing for this long is ended and tried once more.",
    )
    verify_threads: int = Field(2, ge=1, le=64, description="How many threads read and check a checkpoint.")
    verify_max_rate: int = Field(
        0, ge=0, description="Bytes per second that verification reads at most; 0 sets no limit."
    )
    digest: Literal["crc64nvme", "sha256"] = Field(
        "crc64nvme",
        description="The digest that is kept of every file. `crc64nvme` is fast, and S3 keeps the same one; "
        "`sha256` also tells of deliberate changes.",
    )
    order: Literal["landed", "mtime", "step"] = Field(
        "landed",
        description="Which save of a run is the newest: the one that landed last, the one whose files are newest, or "
        "the one with the highest step.",
    )
    keep_last: int = Field(0, ge=0, description="Keep the last so many good checkpoints of a run. 0: no such rule.")
    keep_best: Best = Field(
        None, description="Keep the best ones by a metric that the trainer recorded, such as `1 by eval_loss min`."
    )
    keep_every: int = Field(
        0, ge=0, description="Keep one good checkpoint in each interval of so many steps. 0: no such rule."
    )
    keep_within: Duration = Field(
        0.0,
        description="Keep what was saved within this time before the newest one, such as `36h`. 0: no such rule. "
        "Without any of the four rules nothing is removed.",
    )
    observe_for: Duration = Field(
        86_400.0, description="How long the worker only shows what it would remove, below a folder that is new to it."
    )
    trash_for: Duration = Field(86_400.0, description="How long a removed checkpoint can be restored.")
    trash_damaged_for: Duration = Field(604_800.0, description="The same for damaged ones.")
    min_free_space: int = Field(
        0,
        ge=0,
        description="Bytes that are to stay free: below them the trash is emptied early, and an event warns. "
        "0: room for two saves.",
    )
    lease_for: Duration = Field(
        3600.0, description="How long a checkpoint that a job was handed is not removed, unless the job says otherwise."
    )
    scrub_every: Duration = Field(
        604_800.0, description="How often everything that is kept is read again, to find rotten bits. 0: never."
    )
    remote: Annotated[str, AfterValidator(checked_place)] = Field(
        "", description="Where copies go: `s3://BUCKET/PREFIX`. Empty: nothing leaves this machine."
    )
    remote_endpoint: Annotated[str, AfterValidator(checked_endpoint)] = Field(
        "",
        description="The store's address, such as `https://s3.example.com`. Default: as boto3 finds it, which is AWS "
        "unless `AWS_ENDPOINT_URL_S3` says otherwise. Credentials are always found by boto3.",
    )
    remote_region: str = Field("", description="The store's region. Default: as boto3 finds it, or `us-east-1`.")
    remote_addressing: Literal["auto", "path", "virtual"] = Field(
        "auto", description="Whether the bucket stands in the path or in the host name."
    )
    remote_ca: str = Field("", description="File with the CA certificates by which the store's own is checked.")
    remote_sse: Literal["", "AES256", "aws:kms"] = Field(
        "", description="Encryption at rest by the store: `AES256` with its own keys, `aws:kms` with those of KMS."
    )
    remote_kms_key: str = Field("", description="The KMS key, where it is not the bucket's own.")
    remote_storage_class: str = Field("", description="Storage class of what is sent, such as `STANDARD_IA`.")
    remote_tags: Annotated[str, AfterValidator(checked_tags)] = Field(
        "", description="Tags of what is sent: `key=value`, joined by `&`."
    )
    remote_keep_last: int = Field(
        0, ge=0, description="Keep the last so many copies of a run in the cloud. 0: no such rule."
    )
    remote_keep_best: Best = Field(None, description="As `keep_best`, of the copies.")
    remote_keep_every: int = Field(0, ge=0, description="As `keep_every`, of the copies.")
    remote_keep_within: Duration = Field(
        0.0, description="As `keep_within`, of the copies. Without any of the four rules no copy is removed."
    )
    upload: Literal["off", "on", "required"] = Field(
        "on",
        description="Whether checkpoints are copied to `remote`. `required`: none that is to have a copy is removed "
        "before that is proven.",
    )
    upload_which: Which = Field(
        UploadWhich(),
        description="Which checkpoints are copied: `all`, or some of `every STEPS` (the last good one up to each "
        "multiple, as `keep_every` keeps it), `best` (by `keep_best`, or by the trainer's own word) and `pinned`.",
    )
    upload_accept: Literal["complete", "partial"] = Field("complete", description="The least verdict that is copied.")
    upload_part_size: int = Field(
        16 << 20,
        ge=_SMALLEST_PART,
        le=_LARGEST_PART,
        description="Bytes in each part of a large file: so much is sent again after a crash, for each that was under "
        "way, and so much memory is used for each.",
    )
    upload_parallel: int = Field(4, ge=1, le=64, description="How many files and parts are under way at once.")
    upload_max_rate: int = Field(0, ge=0, description="Bytes per second that are sent at most; 0 sets no limit.")
    upload_abandon_after: Duration = Field(
        172_800.0, description="What an upload left behind is cleared away when it is this old."
    )
    drill_every: Duration = Field(
        604_800.0, description="How often one copy is fetched to see that copies come back. 0: never."
    )
    runs: dict[str, RunSettings] = Field(
        {},
        description="What is chosen otherwise for single runs: `accept`, the four rules, `upload` and "
        "`upload_which`, in `lastgood.toml` as "
        '`[runs."NAME"]`; in the environment as JSON.',
    )
    url: str = Field("", description="Where clients find the service. Default: `http://127.0.0.1:8484`.")
    token_file: str = Field("", description="File that holds the token. Default: `token` in the state folder.")
    root: str = Field(
        "", description="Where a client sees the watched folder, if at another path than the worker does."
    )

    def of_run(self, run: str) -> Settings:
        """As they are for this run."""
        chosen = self.runs.get(run)
        if chosen is None:
            return self
        return self.model_copy(update={name: getattr(chosen, name) for name in chosen.model_fields_set})

    @property
    def service_url(self) -> str:
        return self.url.rstrip("/") or url_of(asked_at(self.host), self.port)

    @property
    def token_path(self) -> str:
        return self.token_file or f"{self.state_dir}/token"

    @property
    def reads_need_token(self) -> bool:
        return not self.open_reads and self.host not in LOOPBACK


_LISTS: Final = frozenset({"roots", "allowed_hosts"})
_TABLES: Final = frozenset({"runs"})


def read_settings(environ: Mapping[str, str], toml_text: str = "", flags: Mapping[str, Any] | None = None) -> Settings:
    """Settings from `lastgood.toml`, then the environment, then flags; the later one wins.

    SettingsError names each unknown name and wrong value, and where it stands.
    """
    values: dict[str, Any] = {"state_dir": _default_state_dir(environ)}
    sources = dict.fromkeys(values, "by default")
    for source, found in (
        ("in lastgood.toml", _from_toml(toml_text)),
        ("in the environment", _from_environment(environ)),
        ("on the command line", flags or {}),
    ):
        values.update(found)
        sources.update(dict.fromkeys(found, source))
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError("; ".join(_complaint(e, sources) for e in error.errors())) from None


def setting_as_environment(name: str, value: Any) -> tuple[str, str]:
    """The environment variable that hands a setting on to a child process."""
    if name in _TABLES:
        text = json.dumps({key: part.model_dump(exclude_unset=True) for key, part in value.items()})
    else:
        text = ":".join(value) if name in _LISTS else str("" if value is None else value)
    return ENVIRONMENT_PREFIX + name.upper(), text


def _default_state_dir(environ: Mapping[str, str]) -> str:
    if state_home := environ.get("XDG_STATE_HOME"):
        return f"{state_home}/lastgood"
    return f"{environ.get('HOME', '/tmp')}/.local/state/lastgood"  # noqa: S108 - only where there is no home


def _from_toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"lastgood.toml cannot be read: {error}") from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        found[name] = _table(text) if name in _TABLES else _listed(text) if name in _LISTS else text
    return found


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(":") if part)


def _table(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # refused as what it is: no table


def _complaint(error: Any, sources: Mapping[str, str]) -> str:
    name = str(error["loc"][0])
    where = sources.get(name, "in the settings")
    shown = ENVIRONMENT_PREFIX + name.upper() if where == "in the environment" else name
    shown += "".join(f".{part}" for part in error["loc"][1:])
    if error["type"] == "extra_forbidden":
        return f"{shown} {where} is not a setting; docs/settings.md lists them all"
    return f"{shown} {where} is {error['input']!r}: {within_a_sentence(error['msg'])}"
