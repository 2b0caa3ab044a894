"""What a person should know beside an answer, or beside a refusal."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from lastgood.errors import NoneAcceptable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_log = logging.getLogger("lastgood")
_MOST_SKIPPED: Final = 10
_DISPUTED: Final = "{mtime} is the newest by time, {step} by step: the setting `order` says which of the two counts"


@contextmanager
def telling_what_was_refused() -> Iterator[None]:
    """Where none can be handed out, why not each is logged: a job's traceback shows the message alone."""
    try:
        yield
    except NoneAcceptable as refusal:
        for each in refusal.details.get("refused", ())[:_MOST_SKIPPED]:
            _log.warning("%s is not handed out: %s", each["name"], each["message"])
        raise


def remarks_on(answer: Mapping[str, Any]) -> list[str]:
    """What a person should know of the answer: which newer ones were passed over and why, its warnings, a doubt."""
    skipped, disputed = answer.get("skipped", ()), answer.get("order_disputed")
    more = len(skipped) - _MOST_SKIPPED
    return [
        *(f"{each['name']} is newer, but was passed over: {each['message']}" for each in skipped[:_MOST_SKIPPED]),
        *([f"and so {'is' if more == 1 else 'are'} {more} more"] if more > 0 else []),
        *(f"{answer['name']}: {warning['message']}" for warning in answer["warnings"]),
        *([_DISPUTED.format(**disputed)] if disputed else []),
    ]
