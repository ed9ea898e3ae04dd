"""Trainings of the tiny model in one process or in several, through the launcher that a step uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itool_pipeline.config import ComputeConfig, DpoLoss, LoraConfig, OptimizerConfig
from itool_pipeline.core.types import Progress, no_progress
from itool_pipeline.training.data_file import write_preference_data, write_sft_data
from itool_pipeline.training.items import PreferenceRow, SftItem, TokenPair, TrainingData
from itool_pipeline.training.job import FreshAdapter, PreferenceObjective, SftObjective, TrainingJob, TrainingResult
from itool_pipeline.training.launching import train_in_processes
from itool_pipeline.training.runner import run_training_job

ROWS = tuple(
    PreferenceRow(f"tree{i}", (5, 6 + i), (TokenPair((7,), (8 + i,), (9, 10)), TokenPair((), (7, 3), (4,))))
    for i in range(5)
)
ITEMS = tuple(SftItem(f"item{i}", tuple(range(5, 8 + i)), (100 + i, 200 + i, 2)) for i in range(7))
OPTIMIZER = OptimizerConfig(learning_rate=0.005, epochs=4, batch_size=3, micro_batch_tokens=12, checkpoint_every=1)


@dataclass
class Trainings:
    """Trainings of the tiny model, each in a folder of its own; those that are asked for again are kept."""

    root: Path
    model: Path
    results: dict[tuple[str, int, str], TrainingResult] = field(default_factory=dict)

    def job(self, kind: str, processes: int, sharding: Any = "none", *, name: str = "") -> TrainingJob:
        """A job, and its file."""
        folder = self.root / (name or f"{kind}_{processes}_{sharding}")
        folder.mkdir(exist_ok=True)
        objective: Any = SftObjective()
        if kind == "sft":
            write_sft_data(folder / "data.parquet", TrainingData(ITEMS[:5], ITEMS[5:]))
        else:
            write_preference_data(folder / "data.parquet", TrainingData(ROWS[:4], ROWS[4:]))
            objective = PreferenceObjective(loss=DpoLoss(type="dpo", beta=0.5, reference="base"))
        job = TrainingJob(
            base_model=self.model,
            compute=ComputeConfig(device="cpu", dtype="float32", processes=processes, sharding=sharding),
            adapter=FreshAdapter(lora=LoraConfig(rank=4, dropout=0.0)),
            data=folder / "data.parquet",
            objective=objective,
            optimizer=OPTIMIZER,
            parts=folder / "parts",
            out=folder / "adapter",
            candidates=folder / "candidates",
            result=folder / "result.json",
        )
        file_of(job).write_text(job.model_dump_json())
        return job

    def trained(self, kind: str, processes: int, sharding: str = "none") -> TrainingResult:
        """The result of an undisturbed training."""
        key = (kind, processes, sharding)
        if key not in self.results:
            job = self.job(kind, processes, sharding)
            self.results[key] = launched(job) if processes > 1 else run_training_job(job)
        return self.results[key]


def file_of(job: TrainingJob) -> Path:
    return job.out.parent / "job.json"


def launched(job: TrainingJob, progress: Progress = no_progress) -> TrainingResult:
    return train_in_processes(file_of(job), progress, print)


def adapter(job: TrainingJob) -> dict[str, bytes]:
    """File → content."""
    return {path.name: path.read_bytes() for path in job.out.iterdir()}
