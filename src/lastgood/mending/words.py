"""What can be done to a checkpoint, and the plan that says it. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lastgood import naming

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastgood.facts import Facts, FileDigest
    from lastgood.findings import Verdict


@dataclass(frozen=True, slots=True)
class State:
    """A `training_state.pt`: a new one, or the old one with more entries."""

    entries: Mapping[str, Any]  #: those that are added
    random: bool = False  #: the random states that are not there, as they are now
    names: Mapping[str, str] = field(default_factory=dict)  #: of weights inside: by their old names


@dataclass(frozen=True, slots=True)
class RandomStates:
    """Trainer's `rng_state.pth`: what is not there, as it is now."""

    anew: bool = False  #: what lies there is worth nothing


@dataclass(frozen=True, slots=True)
class Renamed:
    """A file of weights with other names. `names`: by their old names."""

    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Text:
    """A small file of JSON."""

    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FromNeighbour:
    """The same file of another checkpoint of the run."""

    source: str  #: its path


@dataclass(frozen=True, slots=True)
class FromCopy:
    """The very file, from a proven copy in the cloud."""

    digest: FileDigest
    mtime_ns: int | None


Work = State | RandomStates | Renamed | Text | FromNeighbour | FromCopy


@dataclass(frozen=True, slots=True)
class Repair:
    """One file that is written: in place of what bears its name, or anew."""

    file: str
    work: Work
    does: tuple[str, ...]  #: what for, as a person reads it


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to one checkpoint, and what that makes of it."""

    path: str
    fingerprint: str  #: of its files as they were looked at
    repairs: tuple[Repair, ...]
    promised: Verdict
    refused: tuple[str, ...] = ()  #: what stays as it is, and why


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another checkpoint of the run, as far as headers tell."""

    path: str
    layout: str
    step: int | None
    epoch: float | None
    world_size: int | None
    weights: Mapping[str, tuple[int, ...]]  #: shapes, by bare names; empty where they are not all there
    sound: frozenset[str]  #: its files in which nothing is wrong
    digests: Mapping[str, str] = field(default_factory=dict)  #: of those of them that the broken one lacks

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def shapes_of(facts: Facts) -> dict[str, tuple[int, ...]]:
    """The model, as far as its weights tell: the shape of each, by the name without a wrapper's prefix."""
    bare = naming.bare_names(facts.weights)
    return {bare[name]: tensor.shape for name, tensor in facts.weights.items()}


def plan_as_json(plan: Plan) -> dict[str, Any]:
    return {
        "path": plan.path,
        "files": [repair.file for repair in plan.repairs],
        "repairs": [{"file": repair.file, "does": list(repair.does)} for repair in plan.repairs],
        "promised": plan.promised.value,
        "refused": list(plan.refused),
    }
