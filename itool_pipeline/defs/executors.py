"""Where the steps of a run are computed. One setting for every way to start one: UI, schedule, backfill, command line.

`ITOOL_EXECUTOR` names the executor that the definitions hand to Dagster, which gives it to every job and to assets that
are materialized by themselves. Nothing else decides it, and its own options are in a run's `execution: {config: …}`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import dagster as dg
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig

from itool_pipeline.defs.errors import explained
from itool_pipeline.defs.lost_runs import end_lost_runs, sign_of_life
from itool_pipeline.defs.records import WORKERS, RunRecords
from itool_pipeline.defs.step_compute import ask_for_compute
from itool_pipeline.errors import ActionableError

VARIABLE = "ITOOL_EXECUTOR"
DEFAULT = "in_process"
"""The model's libraries are loaded once for a run."""

_PASSED_ON = (VARIABLE, "ITOOL_STORAGE", "ITOOL_EXPERIMENTS")
"""Variables that a step on another machine needs as the run has them. Without the first it would read the run's options
as those of the default executor, and refuse them."""


class ExecutorError(ActionableError):
    """The executor that is asked for is not known, or not installed."""


def chosen_executor() -> dg.ExecutorDefinition:
    """The executor that `ITOOL_EXECUTOR` names, whose runs give a sign of life. Raises ExecutorError."""
    name = os.environ.get(VARIABLE) or DEFAULT
    if name not in _EXECUTORS:
        raise ExecutorError(
            f"{VARIABLE} is {name}, and there is no such executor. Set it to one of {', '.join(_EXECUTORS)}, or unset "
            f"it for {DEFAULT} (docs/scaling.md)."
        )
    try:
        definition = _EXECUTORS[name]()
    except ImportError as error:
        raise ExecutorError(
            f"{VARIABLE} is {name}, and what that needs is not installed here ({error}). Install the extra with "
            f"`pip install -e '.[{name}]'`, or unset {VARIABLE} for {DEFAULT} (docs/scaling.md)."
        ) from None
    return _watched(definition)


def in_the_run() -> dg.ExecutorDefinition:
    """The executor of jobs whose steps read the database, which steps on workers never open."""
    return _watched(_EXECUTORS[DEFAULT]())


def _watched(definition: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    schema: Any = definition.config_schema
    return dg.ExecutorDefinition(
        name=definition.name,
        config_schema=schema,
        requirements=definition.get_requirements,
        executor_creation_fn=lambda context: Watched(_create(definition, context), workers=definition.name in WORKERS),
        description=f"chosen by {VARIABLE}",
    )


class Watched(dg.Executor):
    """An executor whose run ends the lost ones before it begins, and holds its lock file while it works.

    What steps on `workers` have made is recorded here.
    """

    def __init__(self, inner: dg.Executor, *, workers: bool) -> None:
        self.inner, self.workers = inner, workers

    @property
    def retries(self) -> RetryMode:
        return self.inner.retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        return self.inner.step_dependency_config

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        """In the process of the run alone: those of single steps do not come here."""
        with ExitStack() as held:
            with explained():
                end_lost_runs(plan_context.instance, plan_context.log.info)
                held.enter_context(sign_of_life(plan_context.instance, plan_context.run_id))
                records = RunRecords(plan_context.dagster_run, plan_context.instance, plan_context.log.info)
                records.of_the_run_before()
            events: Any = self.inner.execute(plan_context, execution_plan)
            yield from records.of_steps(events) if self.workers else events


def _ray() -> dg.ExecutorDefinition:
    from dagster_ray import ray_executor

    definition: dg.ExecutorDefinition = ray_executor
    return definition


def _k8s() -> dg.ExecutorDefinition:
    from dagster_k8s import k8s_job_executor

    definition: dg.ExecutorDefinition = k8s_job_executor
    return definition


_ON_A_CLUSTER = {
    "ray": "the cluster cannot be reached: set RAY_ADDRESS to its dashboard, as http://head:8265",
    "k8s": "the cluster cannot be reached: start the run in it, or configure load_incluster_config: false",
}
"""What is said where no steps can be handed to it."""
_EXECUTORS: dict[str, Callable[[], dg.ExecutorDefinition]] = {
    "in_process": lambda: dg.in_process_executor,
    "multiprocess": lambda: dg.multiprocess_executor,
    "ray": _ray,
    "k8s": _k8s,
}


PRELOADED = ("itool_pipeline.definitions", "dagster._core.storage.sqlite_storage")
"""Imported once for all steps of a run. Nothing of it imports torch: what has looked for a GPU cannot be forked."""
_FORKS: dict[str, Any] = {"start_method": {"forkserver": {"preload_modules": list(PRELOADED)}}}
"""How the processes of steps begin on Linux where the run's options do not say. Elsewhere Dagster's default holds."""


def _create(definition: dg.ExecutorDefinition, context: dg.InitExecutorContext) -> dg.Executor:
    """Dagster's own executor; of one on a cluster, each step asks for what it needs and is given our variables.

    Raises ExecutorError when the cluster does not answer.
    """
    make: Any = definition.executor_creation_fn
    name, config = definition.name, dict(context.executor_config)
    if name not in _ON_A_CLUSTER:
        if name == "multiprocess" and sys.platform == "linux":
            config = {**_FORKS, **config}
        here: dg.Executor = make(context._replace(executor_config=config))
        return here
    config |= {"ray": _passing_on(config["ray"])} if name == "ray" else _passing_on(config)
    try:
        there = make(context._replace(executor_config=config))
    except Exception as error:  # each client has classes of its own for it
        raise ExecutorError(f"{VARIABLE} is {name}, and {_ON_A_CLUSTER[name]} ({error})") from error
    return ask_for_compute(there)


def _passing_on(options: Any) -> dict[str, Any]:
    """Options by which steps are given this process's variables, before those that a person names there."""
    passed = [f"{name}={value}" for name in _PASSED_ON if (value := os.environ.get(name))]
    return {**options, "env_vars": [*passed, *(options.get("env_vars") or [])]}
