"""What somebody who asks for a resume point may say. What they leave open is as the settings say of the run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from lastgood.facts import Component
from lastgood.findings import Verdict
from lastgood.records import LONGEST_LEASE, SHORTEST_LEASE
from lastgood.resume import Wishes
from lastgood_service.exception_handlers import malformed

if TYPE_CHECKING:
    from lastgood.settings import Settings

_LONGEST_WAIT: Final = 600


def is_printable(text: str) -> str:
    """For pydantic: what is shown to people and written into logs."""
    if not text.isprintable():
        raise ValueError("it holds characters that cannot be printed")
    return text


Holder = Annotated[
    str,
    Field(min_length=1, max_length=200, description="Who holds it, for people."),
    AfterValidator(is_printable),
]
Seconds = Annotated[
    float, Field(ge=SHORTEST_LEASE, le=LONGEST_LEASE, description="Default: the service's setting `lease_for`.")
]


def within_bounds(seconds: float) -> float:
    """As long as a lease may be."""
    return min(max(seconds, SHORTEST_LEASE), LONGEST_LEASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """A parsed question."""

    run: str | None = None
    accept: Verdict | None = None
    wishes: Wishes = field(default_factory=Wishes)  #: all but `accept` and `order`
    wait: float = 0.0

    def wishes_in(self, run: str, settings: Settings) -> Wishes:
        """What is wished for in this run."""
        own = settings.of_run(run)
        return replace(self.wishes, accept=self.accept or Verdict(own.accept), order=own.order)


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str | None = Field(None, description="Needed where there are several runs.", examples=["llama"])
    accept: Literal["complete", "partial"] | None = Field(
        None, description="The least verdict that will do. Default: the service's own setting for the run."
    )
    world_size: int | None = Field(None, ge=1, description="Refuse what another number of processes saved.")
    max_step: int | None = Field(None, ge=0, description="Refuse what was saved later.")
    strict: bool = Field(False, description="Refuse what carries warnings.")
    wait: float = Field(
        0, ge=0, le=_LONGEST_WAIT, description="Seconds to hold the answer while a newer one is in work."
    )

    def asked_with(self, require: frozenset[Component]) -> Asked:
        wishes = Wishes(require=require, world_size=self.world_size, max_step=self.max_step, strict=self.strict)
        return Asked(self.run, Verdict(self.accept) if self.accept else None, wishes, self.wait)


class Question(_Question):
    """In the address."""

    require: str = Field(
        "", description="Components that must be present, separated by commas.", examples=["optimizer,rng"]
    )

    @property
    def asked(self) -> Asked:
        return self.asked_with(_components(self.require))


class LeaseQuestion(_Question):
    """In a body."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"run": "llama", "holder": "trainer-0"}]})

    require: list[Component] = Field([], description="Components that must be present.")
    holder: Holder = "a job"
    seconds: Seconds | None = None

    @property
    def asked(self) -> Asked:
        return self.asked_with(frozenset(self.require))


def _components(text: str) -> frozenset[Component]:
    names = {name.strip() for name in text.split(",")} - {""}
    unknown = sorted(names - set(Component))
    if unknown:
        known = ", ".join(Component)
        message = f"{', '.join(unknown)}: no such component; there are {known}"
        raise malformed([{"where": "query.require", "message": message}])
    return frozenset(Component(name) for name in names)
