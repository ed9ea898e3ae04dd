"""Everything that Dagster loads: `dagster dev -m itool_pipeline.definitions`."""

from __future__ import annotations

import dagster as dg

from itool_pipeline.defs import automation, data_changes
from itool_pipeline.defs.annotations import annotated
from itool_pipeline.defs.assets import all_step_assets
from itool_pipeline.defs.checks import all_checks
from itool_pipeline.defs.comparison import comparison
from itool_pipeline.defs.data_changes import automated
from itool_pipeline.defs.executors import chosen_executor
from itool_pipeline.defs.graphs import all_graph_assets
from itool_pipeline.defs.logs import console
from itool_pipeline.defs.lost_runs import lost_runs
from itool_pipeline.defs.partitions import experiment_files, tell_the_instance
from itool_pipeline.defs.resources import RunOptions
from itool_pipeline.defs.sources import source_files, sources

defs = dg.Definitions(
    assets=[*annotated(automated([*all_step_assets(), *all_graph_assets(), comparison])), *sources],
    asset_checks=all_checks(),
    jobs=[automation.itool, automation.evaluate, automation.report, automation.export, automation.compare],
    schedules=[automation.weekly],
    sensors=[automation.local_data, data_changes.automation, experiment_files, lost_runs, source_files],
    resources={"options": RunOptions()},
    loggers={"console": console},
    executor=chosen_executor(),
)
tell_the_instance()


def itool_job() -> dg.JobDefinition:
    """The job `itool`, where every process that works for a run of it can find it."""
    return defs.resolve_job_def("itool")
