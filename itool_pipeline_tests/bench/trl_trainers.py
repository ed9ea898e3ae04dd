"""TRL's trainers as contenders: the same adapter, batch and tokens, and nothing but training steps.

Their defaults are kept but for what would only slow them down on a CPU: gradient checkpointing, logs, and bf16 autocast
of an fp32 model are off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer

from itool_pipeline.config import SimpoLoss
from itool_pipeline.training.items import PreferenceRow, SftItem
from itool_pipeline_tests.bench.worker import Turns

IGNORED = -100
"""The label of a token that no loss is computed of."""


class StepTurns(TrainerCallback):  # type: ignore[misc]
    """A round is `steps` optimizer steps, from the beginning of the first to the end of the last."""

    def __init__(self, turns: Turns, steps: int, losses: list[float]) -> None:
        self._turns, self._steps, self._losses = turns, steps, losses
        self._done = 0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        if self._done % self._steps == 0:
            self._losses.clear()
            self._turns.await_turn()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._done += 1
        if self._done % self._steps == 0:
            self._turns.report(loss=sum(self._losses) / self._steps)


def play_simpo(
    model: Any,
    tokenizer: Any,
    rows: Sequence[PreferenceRow],
    loss: SimpoLoss,
    learning_rate: float,
    pass_tokens: int,
    folder: str,
    turns: Turns,
) -> None:
    """Rounds of one optimizer step of TRL's CPOTrainer over all pairs, on peft's `model`.

    pass_tokens  bound on the padded tokens of a forward and backward pass
    """
    pairs = simpo_columns(rows)
    longest = max(max(len(pair["chosen_input_ids"]), len(pair["rejected_input_ids"])) for pair in pairs)
    fitting = max(1, pass_tokens // (2 * longest))
    together = max(size for size in range(1, len(pairs) + 1) if len(pairs) % size == 0 and size <= fitting)
    config = CPOConfig(
        **_common(model, folder, learning_rate, together, len(pairs) // together),
        loss_type="simpo",
        beta=loss.beta,
        simpo_gamma=loss.gamma,
        cpo_alpha=loss.nll_weight,
        max_length=longest,
    )
    losses: list[float] = []

    class Trainer(CPOTrainer):  # type: ignore[misc]
        def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
            return _noted(super().training_step(*arguments, **named), losses)

    # It tokenises texts; the columns that it would make of them take the place of a text that stands in for them.
    disable_progress_bars()
    text = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    trainer = Trainer(model, config, train_dataset=text, processing_class=tokenizer)
    trainer.train_dataset = Dataset.from_list(pairs)
    trainer.add_callback(StepTurns(turns, 1, losses))
    trainer.train()


def simpo_columns(rows: Sequence[PreferenceRow]) -> list[dict[str, list[int]]]:
    """The rows' pairs as CPOTrainer's `tokenize_row` makes them of texts."""
    found = []
    for row in rows:
        for pair in row.pairs:
            prompt = [*row.prompt, *pair.path]
            columns = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
            for name, branch in (("chosen", pair.chosen), ("rejected", pair.rejected)):
                columns[f"{name}_input_ids"] = [*prompt, *branch]
                columns[f"{name}_attention_mask"] = [1] * (len(prompt) + len(branch))
                columns[f"{name}_labels"] = [IGNORED] * len(prompt) + list(branch)
            found.append(columns)
    return found


def play_sft(
    model: Any, tokenizer: Any, items: Sequence[SftItem], learning_rate: float, batch: int, folder: str, turns: Turns
) -> None:
    """Rounds of one epoch of TRL's SFTTrainer over the items, on peft's `model`."""
    config = SFTConfig(**_common(model, folder, learning_rate, batch, 1), max_length=None)
    losses: list[float] = []

    class Trainer(SFTTrainer):  # type: ignore[misc]
        def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
            return _noted(super().training_step(*arguments, **named), losses)

    disable_progress_bars()
    rows = [
        {
            "input_ids": [*item.prompt, *item.response],
            "labels": [IGNORED] * len(item.prompt) + list(item.response),
        }
        for item in items
    ]
    trainer = Trainer(model, config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    trainer.add_callback(StepTurns(turns, len(items) // batch, losses))
    trainer.train()


def _common(model: Any, folder: str, learning_rate: float, batch: int, accumulated: int) -> Mapping[str, Any]:
    """Settings of both trainers. It goes on until no more rounds are wanted."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulated,
        "learning_rate": learning_rate,
        "max_steps": 10**6,
        "use_cpu": True,
        "bf16": model.dtype == torch.bfloat16,
        "gradient_checkpointing": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def _noted(loss: torch.Tensor, losses: list[float]) -> torch.Tensor:
    losses.append(float(loss))
    return loss
