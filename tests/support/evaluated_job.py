"""A tiny Trainer job that evaluates before each save, and never removes one: `OUTPUT STEPS [CHECKPOINT]`.

What it learns is not what it is evaluated on, so that its first evaluation is its best.
"""

from __future__ import annotations

import sys
from typing import Any

import training


def main(output: str, steps: str, checkpoint: str | None = None) -> None:
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        output_dir=output,
        max_steps=int(steps),
        save_steps=5,
        eval_strategy="steps",
        eval_steps=5,
        logging_steps=5,
        learning_rate=1e-2,
        per_device_train_batch_size=2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    examples = training.examples()
    trainer = Trainer(
        model=training.model("gpt2"), args=arguments, train_dataset=examples, eval_dataset=reversed_labels(examples)
    )
    trainer.train(resume_from_checkpoint=checkpoint)


def reversed_labels(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**example, "labels": example["labels"].flip(0)} for example in examples[:2]]


if __name__ == "__main__":
    main(*sys.argv[1:])
