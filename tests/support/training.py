"""Real saves by transformers' Trainer: tiny models trained in this process, one run after the other.

Run as a program with a folder as its argument. transformers takes seconds to import, so one process does all of them.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

STEPS: Final = 2
BETWEEN: Final = 0.6  # seconds from save to save: else the first ones are superseded before anybody can look
WORDS: Final = ("<pad>", "</s>", "the", "last", "good", "one")


@dataclass(frozen=True)
class Run:
    """How one run trains and saves."""

    name: str
    model: str = "gpt2"
    tokenizer: bool = False
    save_only_model: bool = False
    save_total_limit: int | None = None
    pause: float = 0.0  #: seconds that it takes between the parts of a save


RUNS: Final = (
    Run("gpt2"),
    Run("gpt2-tokenizer", tokenizer=True),
    Run("t5", model="t5"),
    Run("t5-tokenizer", model="t5", tokenizer=True),
    Run("gpt2-weights-only", save_only_model=True),
    Run("gpt2-slow", pause=0.9),
    Run("gpt2-rotating", save_total_limit=1),
)


def train(run: Run, output: Path) -> None:
    """Trains for a few steps, with a save after each."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class TimeToTrain(TrainerCallback):  # type: ignore[misc]  # the package has no types
        def on_save(self, *_: Any, **__: Any) -> None:
            threading.Event().wait(BETWEEN)

    class SlowTrainer(Trainer):  # type: ignore[misc]
        def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
            threading.Event().wait(run.pause)
            super()._save_optimizer_and_scheduler(output_dir)
            threading.Event().wait(run.pause)

        def _save_rng_state(self, output_dir: str) -> None:
            super()._save_rng_state(output_dir)
            threading.Event().wait(run.pause)

    arguments = TrainingArguments(
        output_dir=str(output),
        max_steps=STEPS,
        save_steps=1,
        save_total_limit=run.save_total_limit,
        save_only_model=run.save_only_model,
        per_device_train_batch_size=2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        logging_steps=1,
    )
    trainer = (SlowTrainer if run.pause else Trainer)(
        model=model(run.model),
        args=arguments,
        train_dataset=examples(),
        processing_class=_tokenizer() if run.tokenizer else None,
        callbacks=[TimeToTrain()],
    )
    trainer.train()


def model(kind: str) -> Any:
    import transformers

    if kind == "t5":
        config = transformers.T5Config(
            vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0
        )
        return transformers.T5ForConditionalGeneration(config)
    ids = {"bos_token_id": 1, "eos_token_id": 1}
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=16, **ids)
    )


def examples() -> list[dict[str, Any]]:
    import torch

    tokens = torch.tensor([2, 3, 4, 5, 1])
    return [{"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens}] * 16


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>")


def main() -> None:
    for run in RUNS:
        train(run, Path(sys.argv[1]) / run.name)


if __name__ == "__main__":
    main()
