"""What an asset body needs to become a Workspace."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg
from pydantic import Field

from itool_pipeline.defs.errors import explained
from itool_pipeline.defs.partitions import required_experiment
from itool_pipeline.defs.records import own_records
from itool_pipeline.defs.step_processes import outlive_the_run
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.tracking.trackers import require_tracker

GPU_POOL = "gpu"
"""Ops that use the model. How many may run at a time is set for the pool, in the UI or in dagster.yaml."""


class RunOptions(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Options of one run, set in the launchpad or in the run config."""

    force: bool = Field(default=False, description="make the selected assets again even where they are there")


def workspace(context: dg.OpExecutionContext | dg.AssetExecutionContext, options: RunOptions) -> Workspace:
    """The workspace of the run's partition; its words go to Dagster's log, and its figures are observations.

    An observation is in the event log as soon as it is made, on whichever process the step is.
    """

    def observe(asset: str, figures: Mapping[str, float]) -> None:
        key = dg.AssetKey(asset.split("/"))
        context.log_event(dg.AssetObservation(key, partition=context.partition_key, metadata=dict(figures)))

    outlive_the_run()
    with explained():
        ws = Workspace.of(
            required_experiment(context.partition_key if context.has_partition_key else None),
            say=context.log.info,
            run_id=context.run_id,
            force=options.force,
            records=own_records(context.job_def),
            observe=observe,
        )
        require_tracker(ws.experiment.tracking)  # in the first step, not when hours later something is told
        return ws
