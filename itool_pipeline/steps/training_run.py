"""How a step trains: a job and its data are written into its parts, and run in this process or in several others.

`python -m itool_pipeline.training` would do the same with the file. Torch is imported where it is used: it takes
seconds, and Dagster loads the steps' modules to draw the graph.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

from itool_pipeline.config import OptimizerConfig
from itool_pipeline.core.seeds import derive_seed
from itool_pipeline.engines.factory import release_engines
from itool_pipeline.steps.candidates import answered, most_right
from itool_pipeline.steps.computing import settled
from itool_pipeline.steps.live import Live, live
from itool_pipeline.steps.models import ADAPTER, adapter_dir, weights_dir
from itool_pipeline.steps.trained import Trained
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.training.job import (
    ContinuedAdapter,
    FreshAdapter,
    Objectives,
    TrainingJob,
    TrainingResult,
    candidate_path,
    candidate_steps,
)
from itool_pipeline.training.launching import train_in_processes

JOB, JOB_DATA, JOB_RESULT, CANDIDATES = "job.json", "training_data.parquet", "result.json", "candidates"
"""In the parts, as the job holds paths of this machine; what decides the training is in the manifest's config."""


def settled_for_training(ws: Workspace, step: Step) -> Workspace:
    """The workspace with `compute.dtype` by name, to be settled before the training's data is written."""
    return settled(ws, step.parts, elsewhere=ws.experiment.compute.processes > 1)


def train(
    ws: Workspace,
    step: Step,
    before: str,
    objective: Objectives,
    optimizer: OptimizerConfig,
    quantization: Literal["nf4", "none"] = "none",
) -> Trained:
    """Train on what is written as JOB_DATA, from the checkpoint `before`.

    What it leaves as the adapter has the lowest validation loss or, where the config says so, the most right answers.
    """
    parts = step.parts
    job = TrainingJob(
        base_model=weights_dir(ws).absolute(),
        compute=ws.experiment.compute,
        quantization=quantization,
        adapter=first_adapter(ws, before),
        data=parts.path(JOB_DATA).absolute(),
        objective=objective,
        optimizer=optimizer,
        seed=training_seed(ws, step.asset),
        parts=parts.directory.absolute(),
        out=(step.work / ADAPTER).absolute(),
        candidates=parts.path(CANDIDATES).absolute() if _chosen_by_answers(ws, step.asset) else None,
        result=parts.path(JOB_RESULT).absolute(),
    )
    file = parts.write_json(JOB, job)
    ws.say(f"training from {before} by the job {file}")
    release_engines()
    with live(ws, step.asset, parts) as told:
        result = _run(ws, job, file, told)
        return Trained(result) if job.candidates is None else _keep_most_right(ws, step, before, result, told)


def _run(ws: Workspace, job: TrainingJob, file: Path, told: Live) -> TrainingResult:
    progress = told.learning_total(ws.progress("optimizer steps"))
    if job.compute.processes > 1:
        return train_in_processes(file, progress, ws.say, told.metrics)
    from itool_pipeline.training.runner import run_training_job

    return run_training_job(job, progress, say=ws.say, metrics=told.metrics)


def first_adapter(ws: Workspace, before: str) -> FreshAdapter | ContinuedAdapter:
    """What a training from the checkpoint `before` begins with: its adapter, or a new one where it has none."""
    e, start = ws.experiment, adapter_dir(ws, before)
    if start is None:
        return FreshAdapter(lora=e.warmup.lora, seed=derive_seed(e.seed, "adapter") % 2**32)
    return ContinuedAdapter(directory=start.absolute())


def training_seed(ws: Workspace, asset: str) -> int:
    """The seed of the training that makes the asset, in the 32 bits that all libraries take."""
    return derive_seed(ws.experiment.seed, asset) % 2**32


def _chosen_by_answers(ws: Workspace, asset: str) -> bool:
    return ws.experiment.preference.keep == "most_right" and not asset.startswith("warmup/")


def _keep_most_right(ws: Workspace, step: Step, before: str, result: TrainingResult, told: Live) -> Trained:
    """Leave as the adapter what answers most validation examples right: one that was validated, or the one before."""
    out, candidates = step.work / ADAPTER, step.parts.path(CANDIDATES)
    adapters = {
        0: adapter_dir(ws, before),
        **{steps: candidate_path(candidates, steps) for steps in candidate_steps(candidates)},
    }
    release_engines()
    policies = answered(ws, adapters, step.asset, step.parts, told.metrics)
    best = most_right(policies)
    found = ", ".join(f"{policy.right} after {policy.step} steps" for policy in policies)
    ws.say(f"{step.asset}: right of {best.examples} validation examples: {found}; those after {best.step} are kept")
    kept = adapters[best.step]
    shutil.rmtree(out)
    if kept is not None:
        shutil.copytree(kept, out)
    return Trained(replace(result, best_step=best.step), tuple(policies))
