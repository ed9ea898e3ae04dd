"""Runs a training job: the one way in which adapters are trained, from a step or from outside."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from itool_pipeline.core.types import Metrics, Progress, no_metrics, no_progress
from itool_pipeline.engines.model import load_model, resolve_device
from itool_pipeline.engines.settled_compute import settled_compute
from itool_pipeline.files.durable import write_json
from itool_pipeline.files.locks import Say
from itool_pipeline.files.parts import Parts
from itool_pipeline.training.checkpoint import put_damaged_aside
from itool_pipeline.training.data_file import read_preference_data, read_sft_data
from itool_pipeline.training.job import FreshAdapter, GrpoJob, PreferenceObjective, TrainingJob, TrainingResult
from itool_pipeline.training.lora import continued_adapter, fresh_adapter
from itool_pipeline.training.model_probe import require_exact_training
from itool_pipeline.training.preference import gold_token_weight, preference_objective
from itool_pipeline.training.processes import TrainingProcesses
from itool_pipeline.training.sft import SFT
from itool_pipeline.training.sharding import shard_layers
from itool_pipeline.training.trainer import Execution, Folders, train_adapter

logger = logging.getLogger(__name__)


def run_training_job(
    job: TrainingJob, progress: Progress = no_progress, say: Say = logger.info, metrics: Metrics = no_metrics
) -> TrainingResult:
    """Train, write the adapter to `job.out`, and last the result to `job.result`.

    A job that was killed goes on where its `parts` end, in the dtype that was settled for them, and ends with the same
    bytes. `progress` is called with (optimizer steps done, total); `say` hears of the dtype where it is `auto`, and of
    damaged parts; `metrics` is told as `trainer.Execution` says. Raises TrainingError or ModelError, with what to do.
    """
    processes = TrainingProcesses()  # of several, each takes its own GPU now, before anything is loaded
    main = processes.rank == 0
    tell = say if main else logger.debug
    parts = Parts(job.parts)
    with processes.main_first():
        put_damaged_aside(job.parts, job.candidates, tell)
        compute = settled_compute(
            job.compute, job.base_model, parts, made="step_*", findings=None, say=tell, processes=processes.count
        )
    job = job.model_copy(update={"compute": compute})
    execution = Execution(
        kernels=job.kernels,
        gradient_checkpointing=job.compute.gradient_checkpointing,
        progress=progress if main else no_progress,
        metrics=metrics if main else no_metrics,
        sharded=_is_sharded(job),
    )
    how = (job.optimizer, job.seed, Folders(job.parts, job.out, job.candidates), execution)
    if isinstance(job.objective, PreferenceObjective):
        pairs = read_preference_data(job.data)
        token_weight = gold_token_weight(job.objective.gold_weight, pairs.train)
        objective = preference_objective(job.objective.loss, token_weight)
        result = train_adapter(start_model(job), pairs, objective, *how)
    else:
        result = train_adapter(start_model(job), read_sft_data(job.data), SFT, *how)
    if main:
        write_json(job.result, asdict(result))
    return result


def start_model(job: TrainingJob | GrpoJob) -> Any:
    """peft's model: the base model frozen, with the adapter to be trained. Raises ModelError or TrainingError."""
    require_exact_training(job.base_model)
    # What is to be sharded may be more than fits on the device.
    compute = job.compute.model_copy(update={"device": "cpu"}) if _is_sharded(job) else job.compute
    base = load_model(job.base_model, compute, quantization=job.quantization).model
    if isinstance(job.adapter, FreshAdapter):
        model = fresh_adapter(base, job.adapter.lora, job.adapter.seed)
    else:
        model = continued_adapter(base, job.adapter.directory)
    if _is_sharded(job):
        shard_layers(model, resolve_device(job.compute))
    return model


def _is_sharded(job: TrainingJob | GrpoJob) -> bool:
    return job.compute.sharding == "fsdp"
