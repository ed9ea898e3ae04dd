"""What a step that uses the model asks a cluster for: GPUs, cores and memory of its experiment's section `compute`.

The executors for Ray and Kubernetes read that from a step's tags, which stand in the definitions, while the experiment
is known by the run's partition. So the tags are set when a step is launched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.step import ExecutionStep
from dagster._core.executor.step_delegating import StepDelegatingExecutor, StepHandlerContext

from itool_pipeline.config import ComputeConfig
from itool_pipeline.defs.errors import explained
from itool_pipeline.defs.partitions import PARTITION_TAG, required_experiment
from itool_pipeline.defs.resources import GPU_POOL
from itool_pipeline.experiment_files import load_experiment

_GIB = 2**30


def cluster_tags(compute: ComputeConfig) -> dict[str, str]:
    """Tags that ask for what `compute` says, in the words of both executors. What is unset is not asked for."""
    gpus, cpus, memory = compute.asked_gpus(), compute.cpus, compute.memory_gib
    ray = {"num_gpus": gpus, "num_cpus": cpus, "memory": None if memory is None else round(memory * _GIB)}
    requests = {"cpu": cpus and str(cpus), "memory": memory and f"{memory:g}Gi"}
    # Kubernetes has no half GPUs: what is asked for and what is allowed are one number, named as the limit.
    resources = {"requests": _set(requests), "limits": _set({"nvidia.com/gpu": str(gpus) if gpus else None})}
    return {
        "dagster-ray/config": json.dumps(_set(ray)),
        "dagster-k8s/config": json.dumps({"container_config": {"resources": _set(resources)}}),
    }


def ask_for_compute(executor: Any) -> dg.Executor:
    """Have every step that `executor` launches ask for its experiment's share. Changes the executor, and returns it."""
    assert isinstance(executor, StepDelegatingExecutor)
    context_of = executor._get_step_handler_context

    def asking(
        plan_context: PlanOrchestrationContext, steps: Sequence[ExecutionStep], active_execution: ActiveExecution
    ) -> StepHandlerContext:
        with explained():
            asked = [_asking(step, plan_context.dagster_run.tags) for step in steps]
        return context_of(plan_context, asked, active_execution)

    executor._get_step_handler_context = asking  # type: ignore[method-assign]
    return executor


def _asking(step: ExecutionStep, run_tags: Mapping[str, str]) -> ExecutionStep:
    if step.pool != GPU_POOL:
        return step
    compute = load_experiment(required_experiment(run_tags.get(PARTITION_TAG))).compute
    return step._replace(tags={**step.tags, **cluster_tags(compute)})


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, {})}
