"""Which checkpoints are to have a copy by `every STEPS`, and that they are those which `keep_every` keeps."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood import retention
from lastgood.cloud import Choice, CloudCopy, CopyState, Proof, Upload, plan_of_copies, to_upload
from lastgood.findings import Verdict
from lastgood.retention import Policy, Why
from lastgood.settings_values import UploadWhich
from recording import NOON, record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastgood.records import Record


def copied_of(saved: Record) -> Upload:
    copy = CloudCopy(
        run=saved.run,
        name=saved.name,
        step=saved.step,
        digest="0" * 64,
        key=f"llama/{saved.name}",
        bytes=1,
        files=1,
        verdict=Verdict.COMPLETE,
        saved_at=saved.saved_at,
        proof=Proof.READ_BACK,
    )
    return Upload(saved.id, copy, CopyState.PROVEN, checkpoint_id=saved.id)


def chosen(records: Sequence[Record], every: int, copied: Sequence[Record] = ()) -> list[int]:
    choice = Choice(UploadWhich(all=False, every=every), Verdict.COMPLETE)
    return sorted(found.step for found in to_upload(records, choice, [copied_of(saved) for saved in copied]))


@pytest.mark.parametrize(
    ("steps", "copied"),
    [
        pytest.param([500, 1000], [1000], id="the multiple at once"),
        pytest.param([500, 900], [], id="not before it is known to be the last one"),
        pytest.param([500, 900, 1200], [900], id="the last one before the multiple"),
        pytest.param([938, 1876, 2814, 3752], [938, 1876, 2814], id="saves at the ends of epochs"),
        pytest.param([500, 3500], [500], id="a wide gap"),
    ],
)
def test_the_last_one_up_to_each_multiple_is_copied(steps: list[int], copied: list[int]) -> None:
    assert chosen([record(step, place) for place, step in enumerate(steps)], 1000) == copied


def test_the_one_before_a_damaged_multiple_is_copied() -> None:
    saved = [record(900), record(1000, 1, verdict=Verdict.CORRUPT), record(1100, 2)]
    assert chosen(saved, 1000) == [900]


def test_what_was_copied_and_is_gone_from_the_disk_is_not_replaced_by_an_earlier_one() -> None:
    saved = [record(800), record(900, 1), record(1100, 2)]
    assert chosen([saved[0], saved[2]], 1000, [saved[1]]) == [800]  # nobody remembers it here
    assert chosen(saved, 1000, [saved[1]]) == []


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 12))
def test_what_is_kept_for_good_is_copied_and_its_copy_is_kept(gaps: list[int], every: int) -> None:
    saved: list[Record] = []
    copied: dict[int, Record] = {}
    for place, gap in enumerate(gaps):
        saved.append(record((saved[-1].step if saved else 0) + gap, place))
        wanted = chosen(saved, every, list(copied.values()))
        copied |= {found.step: found for found in saved if found.step in wanted}
    decisions = retention.plan(saved, Policy(keep_every=every), {}).decisions
    kept = [d.record for d in decisions if any(reason.why is Why.EVERY for reason in d.reasons)]
    for_good = {found.step for found in kept if found.step % every == 0 or found is not kept[-1]}
    assert for_good == copied.keys()
    later = NOON + timedelta(days=1)
    uploads = [copied_of(found) for found in copied.values()]
    assert plan_of_copies(uploads, Policy(keep_every=every), {}, now=later, carried_out=None).doomed == []
