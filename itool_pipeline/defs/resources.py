"""What an asset body needs to become a Workspace."""

from __future__ import annotations

import dagster as dg
from pydantic import Field

from itool_pipeline.defs.errors import explained
from itool_pipeline.defs.records import own_records
from itool_pipeline.steps.workspace import Workspace

GPU_POOL = "gpu"
"""Ops that use the model. How many may run at a time is set for the pool, in the UI or in dagster.yaml."""


class RunOptions(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Options of one run, set in the launchpad or in the run config."""

    force: bool = Field(default=False, description="make the selected assets again even where they are there")


def workspace(context: dg.OpExecutionContext | dg.AssetExecutionContext, options: RunOptions) -> Workspace:
    """The workspace of the run's partition; its words go to Dagster's log."""
    with explained():
        return Workspace.of(
            context.partition_key,
            say=context.log.info,
            run_id=context.run_id,
            force=options.force,
            records=own_records(context.job_def),
        )
