"""Whatever no layout recognises. It is read and listed; without training state it can never count as finished."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lastgood import naming
from lastgood.facts import Component, Presence, Progress
from lastgood.findings import Code, Finding
from lastgood.layouts import base

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lastgood.facts import FileFacts


_TRAINING: Final = (Component.TRAINING_STATE, Component.OPTIMIZER, Component.SCHEDULER, Component.RNG)


class Unknown:
    """A bare model looks exactly like a save that was killed after its weights."""

    name = naming.UNKNOWN_LAYOUT

    def recognises(self, names: frozenset[str]) -> bool:  # noqa: ARG002 - the last resort takes all
        return True

    def last_file(self, names: frozenset[str]) -> str | None:  # noqa: ARG002 - nothing is known of it
        return None

    def missing(self, names: frozenset[str], files: Mapping[str, FileFacts]) -> Iterator[Finding]:
        yield from base.missing_weights(names, files)
        yield Finding(
            Code.TRAINING_STATE_MISSING,
            None,
            "no training state that lastgood knows: neither trainer_state.json nor training_state.pt",
            "it is a save that was cut off, a model alone, or of a trainer whose layout lastgood does not know; "
            "where training_state.pt alone is missing, `lastgood fix` makes one",
        )

    def still_expected(self, names: frozenset[str]) -> Iterator[str]:  # noqa: ARG002 - nothing is known of it
        yield "a training state"

    def read(self, names: frozenset[str], files: Mapping[str, FileFacts]) -> base.Reading:
        homes: base.Homes = {
            Component.CONFIG: tuple(name for name in ("config.json",) if name in names),
            Component.WEIGHTS: base.weight_files(names),
            Component.TOKENIZER: tuple(name for name in base.TOKENIZER_FILES if name in names),
        }
        components = {component: base.presence_of(found, Presence.MISSING) for component, found in homes.items()}
        components |= dict.fromkeys(_TRAINING, Presence.MISSING)
        weights = base.weights_of(homes[Component.WEIGHTS], files)
        return base.Reading(homes, components, Progress(), tuple(base.misshapen(files)), weights)


LAYOUT: Final = Unknown()
