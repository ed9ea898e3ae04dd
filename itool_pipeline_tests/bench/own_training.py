"""The product's training loop as a contender: nothing of it is left out but checkpoints and validations."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from itool_pipeline.config import OptimizerConfig
from itool_pipeline.training.items import T, TrainingData
from itool_pipeline.training.log_probs import LogProbs
from itool_pipeline.training.trainer import Execution, Folders, Loss, Objective, train_adapter
from itool_pipeline_tests.bench.worker import Turns
from itool_pipeline_tests.bench.workload import without_checkpoints


def play_training(
    model: Any, items: Sequence[T], objective: Objective[T], optimizer: OptimizerConfig, steps: int, turns: Turns
) -> None:
    """Rounds of one epoch, which is `steps` optimizer steps; it goes on until no more are wanted."""
    sums: list[tuple[float, int]] = []

    def loss(log_probs: LogProbs, group: Sequence[T]) -> Loss:
        found = objective.loss(log_probs, group)
        sums.append((float(found.total.detach()), found.count))
        return found

    def progress(done: int, total: int) -> None:
        if done % steps == 0:
            turns.report(loss=sum(total for total, _ in sums) / sum(count for _, count in sums))
            sums.clear()
            turns.await_turn()

    endless = without_checkpoints(optimizer).model_copy(update={"epochs": 10**6, "warmup_ratio": 0.0})
    with tempfile.TemporaryDirectory() as folder:
        turns.await_turn()
        train_adapter(
            model,
            TrainingData(items),
            replace(objective, loss=loss),
            endless,
            0,
            Folders(Path(folder) / "parts", Path(folder) / "adapter"),
            Execution(progress=progress),
        )
