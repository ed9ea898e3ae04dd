"""What an asset body needs to become a Workspace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import dagster as dg
from pydantic import Field

from itool_pipeline.defs.errors import explained
from itool_pipeline.defs.lost_runs import end_lost_runs, sign_of_life
from itool_pipeline.steps.workspace import Workspace

GPU_POOL = "gpu"
"""Ops that use the model. How many may run at a time is set for the pool, in the UI or in dagster.yaml."""

GPU_TAGS = {
    "dagster-k8s/config": {"container_config": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}},
    "dagster-ray/config": {"num_gpus": 1},
}
"""Read by the k8s and the Ray executor; others ignore them."""


class RunOptions(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Options of one run, set in the launchpad or in the run config."""

    force: bool = Field(default=False, description="make the selected assets again even where they are there")

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[RunOptions]:
        """Once for each process of a run, before any of its steps takes a place in the pool."""
        with ExitStack() as held:
            with explained():
                if context.instance is not None:
                    end_lost_runs(context.instance, context.log.info if context.log else print)
                held.enter_context(sign_of_life(context.dagster_run))
            yield self


def workspace(context: dg.OpExecutionContext | dg.AssetExecutionContext, options: RunOptions) -> Workspace:
    """The workspace of the run's partition; its words go to Dagster's log."""
    with explained():
        return Workspace.of(context.partition_key, say=context.log.info, run_id=context.run_id, force=options.force)
