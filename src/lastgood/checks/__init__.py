"""Every check, and the list of them: facts in, findings out. A check asks one question."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from lastgood.checks import files, health, kept, model, optimizer, rng, steps, whole

if TYPE_CHECKING:
    from lastgood.facts import Facts
    from lastgood.findings import Finding

Check = Callable[["Facts"], Iterator["Finding"]]

CHECKS: Final[tuple[Check, ...]] = (
    files.check_everything_can_be_read,
    files.check_nothing_is_unfinished,
    files.check_files_are_sound,
    files.check_links_stay_inside,
    whole.check_required_files_are_there,
    whole.check_training_state_is_there,
    whole.check_configuration_is_still_there,
    whole.check_layout_is_known,
    whole.check_nothing_was_left_out,
    files.check_pickles_name_only_what_is_known,
    rng.check_random_states_are_whole,
    rng.check_random_states_are_of_the_save,
    model.check_index_agrees_with_shards,
    model.check_no_tensor_was_lost,
    model.check_names_bear_no_wrapper,
    model.check_config_agrees_with_weights,
    optimizer.check_moments_fit_the_weights,
    optimizer.check_moments_are_not_all_zero,
    optimizer.check_states_are_whole,
    optimizer.check_no_state_is_lost,
    optimizer.check_scaler_is_there,
    optimizer.check_rate_is_not_negative,
    optimizer.check_rate_is_not_zero,
    health.check_tensors_hold_numbers,
    health.check_numbers_are_finite,
    health.check_weights_are_not_zero,
    health.check_no_zero_pages_at_the_end,
    kept.check_bytes_are_those_of_the_manifest,
    kept.check_bytes_are_those_that_were_saved,
    kept.check_no_file_is_of_the_previous_checkpoint,
    steps.check_progress_is_told,
    steps.check_progress_is_of_the_save,
    steps.check_steps_agree,
)


def run_checks(facts: Facts) -> tuple[Finding, ...]:
    return tuple(finding for check in CHECKS for finding in check(facts))
