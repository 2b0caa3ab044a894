"""What can be chosen, from Python or from YAML, and how a wrong choice is answered."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import torch

from builders import make_hf_checkpoint, make_plain_checkpoint
from injuries import cut_in_half
from lastgood.errors import Damaged, NoneAcceptable, SettingsError
from lastgood.facts import Component, Presence
from lastgood.findings import Verdict
from lastgood.settings import Settings
from lastgood.training import CheckpointManager, SaveOptions, ranks
from lastgood.verify import verify
from small_job import Recipe, SmallJob

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = Settings(url="http://127.0.0.1:1")


def manager_of(folder: Path, **options: Any) -> CheckpointManager:
    return CheckpointManager(folder / "output", settings=NOBODY, **options)


def trained(steps: int = 3) -> SmallJob:
    job = SmallJob(Recipe())
    job.train(steps)
    return job


def test_options_come_from_a_file_of_yaml_and_named_ones_go_first(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("save_strategy: no\nsave_steps: 100\nresume_from_checkpoint: false\nsave_total_limit: 3\n")
    options = manager_of(tmp_path, options=file, save_steps=7).options
    assert (options.save_strategy, options.save_steps, options.save_total_limit) == ("no", 7, 3)
    assert options.resume_from_checkpoint is False
    assert manager_of(tmp_path, options={"async_save": True}).options.async_save
    assert manager_of(tmp_path, options=SaveOptions(save_steps=5), async_save=True).options.save_steps == 5


def test_one_section_of_a_larger_file_is_enough(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("lr: 0.1\ntrainer_args:\n  save_strategy: epoch\n  resume_from_checkpoint: /data/checkpoint-9\n")
    options = SaveOptions.from_yaml(file, "trainer_args")
    assert (options.save_strategy, options.resume_from_checkpoint) == ("epoch", "/data/checkpoint-9")


def test_what_a_section_says_of_other_things_than_saving_is_the_trainers_own(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("trainer_args:\n  output_dir: ./output\n  max_steps: 2000\n  save_steps: 50\n  fp16: true\n")
    assert SaveOptions.from_yaml(file, "trainer_args").save_steps == 50
    for name in ("save_step", "save_everything", "resume_from", "overwrite_output_dirs", "async_saves"):
        file.write_text(f"trainer_args:\n  {name}: true\n")
        with pytest.raises(SettingsError, match=f"there is no option {name}"):
            SaveOptions.from_yaml(file, "trainer_args")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("save_step: 5", "there is no option save_step; is save_steps meant?", id="a misspelt name"),
        pytest.param("save_steps: 0", "save_steps: input should be greater than or equal to 1, not 0", id="too small"),
        pytest.param("save_steps: true", "save_steps: a whole number is expected, not True", id="yes for a number"),
        pytest.param("save_total_limit: yes", "save_total_limit: a whole number is expected", id="yes for a limit"),
        pytest.param("save_strategy: often", "save_strategy: input should be 'steps', 'epoch' or 'no'", id="no choice"),
        pytest.param("- save_steps", "names and values are expected", id="a list"),
        pytest.param("a: [", "is not YAML", id="no YAML"),
        pytest.param(None, "cannot be read: No such file or directory", id="no file"),
    ],
)
def test_a_wrong_choice_is_named(tmp_path: Path, text: str | None, complaint: str) -> None:
    file = tmp_path / "train.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError) as told:
        manager_of(tmp_path, options=str(file))
    assert str(file) in str(told.value)
    assert complaint in str(told.value)


def test_whoever_gives_a_file_of_sections_is_told_how_to_name_one(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("trainer_args:\n  save_steps: 5\n")
    with pytest.raises(SettingsError, match=r"SaveOptions\.from_yaml\(PATH, 'trainer_args'\)"):
        manager_of(tmp_path, options=str(tmp_path / "train.yaml"))


def test_a_section_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("trainer_args: {}\n")
    with pytest.raises(SettingsError, match="has no section checkpoints; it has trainer_args"):
        SaveOptions.from_yaml(tmp_path / "train.yaml", "checkpoints")
    (tmp_path / "train.yaml").write_text("1: {}\n2: {}\n")
    with pytest.raises(SettingsError, match="has no section checkpoints; it has 1, 2"):
        SaveOptions.from_yaml(tmp_path / "train.yaml", "checkpoints")


@pytest.mark.parametrize(
    ("options", "due"),
    [
        pytest.param({"save_steps": 3}, [3, 6, 9], id="every so many steps"),
        pytest.param({"save_strategy": "epoch"}, [5, 10], id="at the end of each epoch"),
        pytest.param({"save_strategy": "no"}, [], id="never"),
    ],
)
def test_the_strategy_says_when_a_save_is_due(tmp_path: Path, options: dict[str, Any], due: list[int]) -> None:
    manager = manager_of(tmp_path, **options)
    model = torch.nn.Linear(2, 2)
    saves = [manager.save_if_due(step, epoch_finished=step % 5 == 0, model=model) for step in range(1, 11)]
    assert [step for step, saved in enumerate(saves, 1) if saved] == due
    assert sorted(os.listdir(manager.folder)) == sorted(f"checkpoint-{step}" for step in due)


@pytest.mark.parametrize("what", ["optimizer", "scheduler"])
def test_a_state_that_is_switched_off_is_not_missing_and_promises_nothing(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {f"save_{what}_state": False}
    path = trained().save(manager_of(tmp_path, **options))
    report = verify(path)
    assert (report.verdict, report.exact_resume) == ("complete", False)
    assert report.components[Component(what)] is Presence.NOT_APPLICABLE
    start = SmallJob(Recipe()).restore(manager_of(tmp_path))
    assert start is not None
    assert (start.step, start.exact) == (3, False)
    assert f"no state of the {what} was saved: it starts anew" in caplog.text


@pytest.mark.parametrize("what", ["optimizer", "scheduler"])
def test_a_state_that_is_not_to_be_restored_stays_as_it_is(tmp_path: Path, what: str) -> None:
    job = trained()
    job.save(manager_of(tmp_path))
    fresh, resumed = SmallJob(Recipe()), SmallJob(Recipe())
    resumed.restore(manager_of(tmp_path, **{f"restore_{what}_state": False}))
    everything = resumed.everything()
    if what == "optimizer":
        assert resumed.optimizer.state_dict()["state"] == {}
        assert everything["scheduler"] == job.everything()["scheduler"]
    else:
        assert everything["scheduler"] == fresh.everything()["scheduler"]
        assert everything["optimizer"]["state"] == job.everything()["optimizer"]["state"]
        assert everything["optimizer"]["param_groups"] == fresh.everything()["optimizer"]["param_groups"]


def test_a_packed_state_is_smaller_and_comes_back_the_same(tmp_path: Path) -> None:
    job = trained()
    job.model.append(torch.nn.Linear(200, 200))
    torch.nn.init.zeros_(job.model[-1].weight)
    sizes = []
    for packed in (False, True):
        folder = tmp_path / str(packed)
        path = job.save(manager_of(folder, compress_state=packed))
        sizes.append(os.path.getsize(os.path.join(path, "training_state.pt")))
        report = verify(path)
        assert (report.verdict, report.exact_resume) == ("complete", True)
    assert sizes[1] < sizes[0] / 5
    assert verify(path, "deep").verdict == "complete"  # type: ignore[arg-type]
    resumed = SmallJob(Recipe(), seed=3)
    resumed.model.append(torch.nn.Linear(200, 200))
    resumed.restore(manager_of(tmp_path / "True"))
    assert resumed.everything() == job.everything()


def test_true_goes_on_from_the_last_good_one_and_begins_where_there_is_none(tmp_path: Path) -> None:
    manager = manager_of(tmp_path)
    assert manager.resume(SmallJob(Recipe()).model) is None
    job = trained()
    job.save(manager)
    resumed = SmallJob(Recipe(), seed=2)
    for path in (tmp_path / "output" / "checkpoint-3", str(tmp_path / "output" / "checkpoint-3")):
        named = manager_of(tmp_path, resume_from_checkpoint=path).resume(resumed.model)
        assert named is not None
        assert named.step == 3
    start = manager.resume(resumed.model, resumed.optimizer, resumed.scheduler, None, resumed.loader)
    assert start is not None
    assert (start.step, start.exact) == (3, True)
    assert resumed.everything() | {"losses": None, "step": None} == job.everything() | {"losses": None, "step": None}


def test_what_was_saved_and_not_restored_is_no_exact_continuation(tmp_path: Path) -> None:
    trained().save(manager_of(tmp_path))
    job = SmallJob(Recipe())
    for manager, targets in (
        (manager_of(tmp_path), (job.model,)),
        (manager_of(tmp_path), (job.model, job.optimizer, job.scheduler)),
        (
            manager_of(tmp_path, restore_optimizer_state=False),
            (job.model, job.optimizer, job.scheduler, None, job.loader),
        ),
    ):
        start = manager.resume(*targets)
        assert start is not None
        assert not start.exact


def test_what_is_to_go_on_and_was_not_saved_is_no_exact_continuation(tmp_path: Path) -> None:
    job = trained()
    manager_of(tmp_path).save(3, model=job.model, optimizer=job.optimizer, scheduler=job.scheduler)
    start = manager_of(tmp_path).resume(job.model, job.optimizer, job.scheduler, None, job.loader)
    assert start is not None
    assert not start.exact


def test_other_pieces_of_data_and_weights_without_a_place_are_no_exact_continuation(tmp_path: Path) -> None:
    job = trained()
    job.save(manager_of(tmp_path))
    other = SmallJob(Recipe())
    other.loader.batch_size = 5
    start = manager_of(tmp_path).resume(other.model, other.optimizer, other.scheduler, None, other.loader)
    assert start is not None
    assert not start.exact
    other = SmallJob(Recipe())
    for changed in (
        (SmallJob(Recipe()).model.to(torch.bfloat16), None),
        (None, torch.optim.lr_scheduler.CosineAnnealingLR(SmallJob(Recipe()).optimizer, 5)),
    ):
        model, scheduler = changed
        start = manager_of(tmp_path).resume(
            model or other.model, other.optimizer, scheduler or other.scheduler, None, SmallJob(Recipe()).loader
        )
        assert start is not None
        assert not start.exact
    larger = torch.nn.Sequential(*job.model, torch.nn.Linear(1, 1))
    start = manager_of(tmp_path).resume(larger, job.optimizer, job.scheduler, None, job.loader, strict=False)
    assert start is not None
    assert not start.exact


def test_the_weights_alone_of_another_trainer_s_save_are_no_exact_continuation(tmp_path: Path) -> None:
    make_hf_checkpoint(tmp_path / "output" / "checkpoint-5", 5)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    with pytest.raises(ValueError, match=r"groups of \[2\]: restore_optimizer_state=False goes on without it"):
        manager_of(tmp_path).resume(model, optimizer, strict=False)
    start = manager_of(tmp_path, restore_optimizer_state=False).resume(model, optimizer, strict=False)
    assert start is not None
    assert (start.step, start.exact) == (5, False)


def test_random_states_of_one_process_of_several_are_no_exact_continuation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = trained()
    with monkeypatch.context() as patch:
        patch.setattr(ranks, "count", lambda: 2)
        job.save(manager_of(tmp_path))
    start = manager_of(tmp_path).resume(job.model, job.optimizer, job.scheduler, None, job.loader)
    assert start is not None
    assert not start.exact


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        pytest.param(5.5, "a whole number, not 5.5", id="half a step"),
        pytest.param(5.0, "a whole number, not 5.0", id="a float"),
        pytest.param(True, "a whole number, not True", id="a flag"),
        pytest.param("5", "a whole number, not '5'", id="a text"),
        pytest.param(None, "a whole number, not None", id="nothing"),
        pytest.param(-5, "0 or above, not -5", id="below nothing"),
    ],
)
def test_a_step_under_which_nothing_would_be_found_again_is_refused(tmp_path: Path, step: Any, complaint: str) -> None:
    manager = manager_of(tmp_path)
    with pytest.raises((TypeError, ValueError), match=complaint):
        manager.save(step, model=SmallJob(Recipe()).model)
    with pytest.raises((TypeError, ValueError), match=complaint):
        manager.save_checkpoint(tmp_path / "output" / "final", SmallJob(Recipe()).model, global_step=step)
    assert not os.path.exists(tmp_path / "output") or os.listdir(tmp_path / "output") == []


@pytest.mark.parametrize("epoch", [-1, float("nan"), "1", True, None])
def test_what_is_no_epoch_is_refused(tmp_path: Path, epoch: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="an epoch is"):
        manager_of(tmp_path).save(1, model=torch.nn.Linear(2, 2), epoch=epoch)
    assert os.listdir(tmp_path / "output") == []


@pytest.mark.parametrize("wrong", ["", 1, 0.5])
def test_what_is_neither_a_word_nor_a_path_is_no_place_to_go_on_from(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(SettingsError, match="true, false or a path is expected"):
        manager_of(tmp_path, resume_from_checkpoint=wrong)


def test_a_step_and_losses_in_tensors_are_numbers(tmp_path: Path) -> None:
    job, inf = trained(), torch.tensor(float("inf"))
    path = manager_of(tmp_path).save(
        torch.tensor(7),
        model=job.model,
        optimizer=job.optimizer,
        scheduler=job.scheduler,
        best_loss=inf,
        epoch_losses=[inf],
        metrics={"loss": inf},
    )
    assert path.endswith("checkpoint-7")
    assert verify(path).verdict is Verdict.COMPLETE


def test_wrong_numbers_are_no_exact_continuation_and_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = trained()
    job.model[0].weight.data[0, 0] = float("nan")
    path = job.save(manager_of(tmp_path))
    start = manager_of(tmp_path, resume_from_checkpoint=path).resume(job.model, job.optimizer, job.scheduler)
    assert start is not None
    assert not start.exact
    assert "NaN in" in caplog.text


def test_a_path_goes_on_from_that_one_and_not_from_a_damaged_one(tmp_path: Path) -> None:
    path = trained().save(manager_of(tmp_path))
    trained(4).save(manager_of(tmp_path))
    job = SmallJob(Recipe(), seed=2)
    manager = manager_of(tmp_path, resume_from_checkpoint=path)
    start = manager.resume(job.model, job.optimizer, job.scheduler, None, job.loader)
    assert start is not None
    assert (start.step, start.path, start.exact) == (3, path, True)
    cut_in_half(tmp_path / "output" / "checkpoint-3" / "training_state.pt")
    with pytest.raises(Damaged, match=r"is corrupt and is not loaded: training_state\.pt"):
        manager.resume(job.model)


def test_beginning_anew_over_checkpoints_must_be_meant(tmp_path: Path) -> None:
    manager = manager_of(tmp_path, resume_from_checkpoint=False)
    model = SmallJob(Recipe()).model
    assert manager.resume(model) is None
    trained().save(manager)
    with pytest.raises(FileExistsError, match="holds 1 checkpoint: resume_from_checkpoint=True goes on"):
        manager.resume(model)
    assert manager_of(tmp_path, resume_from_checkpoint=False, overwrite_output_dir=True).resume(model) is None


def test_a_refusal_is_no_reason_to_begin_anew(tmp_path: Path) -> None:
    cut_in_half(make_plain_checkpoint(tmp_path / "output" / "checkpoint-5", 5) / "training_state.pt")
    with pytest.raises(NoneAcceptable):
        manager_of(tmp_path).resume(SmallJob(Recipe()).model)
