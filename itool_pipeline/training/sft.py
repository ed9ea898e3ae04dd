"""Supervised fine-tuning on gold responses (Eq. 2): the warm-up trains one stage after another with it.

-log P(y | q, T) is summed over the response tokens only. A step's loss is the mean over all response tokens of the
step, so that each token weighs the same whatever the length of its response; Eq. 2's mean over examples would let
short responses dominate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itool_pipeline.config import OptimizerConfig
from itool_pipeline.core.token_trie import pack_row
from itool_pipeline.core.types import Progress, no_progress
from itool_pipeline.training.log_probs import prepare_for_training, token_log_probs
from itool_pipeline.training.trainer import Loss, Objective, TrainingData, TrainingResult, train


@dataclass(frozen=True, slots=True)
class SftItem:
    """One example in token ids; `response` ends with the token that ends a turn. Neither part may be empty."""

    name: str
    prompt: tuple[int, ...]
    response: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.prompt or not self.response:
            raise ValueError(f"{self.name}: an example needs a prompt and a response")

    @property
    def length(self) -> int:
        """Tokens of the whole sequence."""
        return len(self.prompt) + len(self.response)


def sft_loss(model: Any, items: Sequence[SftItem]) -> Loss:
    """Negative log-likelihood of the items' responses, counted in response tokens."""
    rows = [pack_row(item.prompt, [item.response]) for item in items]
    log_probs = token_log_probs(model, rows, [row.spans[0] for row in rows])
    return Loss(-log_probs.sum(), len(log_probs))


def sft_objective(model: Any) -> Objective[SftItem]:
    """Each step takes the next `batch_size` examples."""
    return Objective(
        loss=lambda items: sft_loss(model, items),
        length=lambda item: item.length,
        steps=lambda items, size: [list(items[i : i + size]) for i in range(0, len(items), size)],
    )


def train_sft(
    model: Any,
    data: TrainingData[SftItem],
    config: OptimizerConfig,
    seed: int,
    parts: Path,
    out: Path,
    progress: Progress = no_progress,
) -> TrainingResult:
    """Train the adapter of peft's `model` on gold responses; see `trainer.train` for the rest."""
    prepare_for_training(model)
    return train(model, data, sft_objective(model), config, seed, parts, out, progress)
