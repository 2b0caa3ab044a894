"""A real Trainer's checkpoint is broken, mended, and gone on from. As a program: the folder; told.json in it says how.

transformers takes seconds to import, so one process does all of it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import safetensors.torch

from lastgood.mending import carry_out, neighbours_of, plan_repairs
from lastgood.mending.making import maker
from lastgood.verify import examine, verify
from training import examples, model


def break_it(checkpoint: Path) -> None:
    """As a compiled model is saved, without its configuration, by a job that kept no random states."""
    file = checkpoint / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    safetensors.torch.save_file({f"_orig_mod.{name}": value for name, value in tensors.items()}, file, {"format": "pt"})
    for name in ("config.json", "rng_state.pth"):
        (checkpoint / name).unlink()


def mend(checkpoint: Path) -> None:
    facts, report = examine(str(checkpoint))
    plan = plan_repairs(facts, report, neighbours_of(facts, report))
    carry_out(plan, maker(plan))


def trainer_of(output: Path, steps: int) -> Any:
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(output), max_steps=steps, save_steps=2, report_to=[], disable_tqdm=True, use_cpu=True
    )
    return Trainer(model=model("gpt2"), args=arguments, train_dataset=examples())


def main() -> None:
    output = Path(sys.argv[1])
    trainer_of(output, 4).train()
    checkpoint = output / "checkpoint-4"
    before = safetensors.torch.load_file(checkpoint / "model.safetensors")
    break_it(checkpoint)
    broken = verify(str(checkpoint)).verdict
    mend(checkpoint)
    mended = verify(str(checkpoint)).verdict
    after = safetensors.torch.load_file(checkpoint / "model.safetensors")
    same = before.keys() == after.keys() and all(before[name].equal(after[name]) for name in before)
    trainer = trainer_of(output, 6)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    told = {"broken": broken, "mended": mended, "same": same, "step": trainer.state.global_step}
    (output / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
