"""Jobs, the weekly schedule, and the sensor on local data. Schedule and sensor are off until someone turns them on."""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from itool_pipeline.config import Experiment
from itool_pipeline.defs.assets import asset_key
from itool_pipeline.defs.comparison import comparison
from itool_pipeline.defs.executors import in_the_run
from itool_pipeline.defs.partitions import experiments
from itool_pipeline.experiment_files import ConfigError, experiment_names, load_experiment
from itool_pipeline.steps.asset_graph import ALL, ON_REQUEST, cases_asset, scores_of
from itool_pipeline.steps.config_sections import local_content

SHORT_LOG: dict[str, Any] = {"loggers": {"console": {"config": {}}}}
"""What the terminal shows ends with why the run failed; Dagster's own log with its traces."""

_SCORES = dg.AssetSelection.assets(*(asset_key(name) for name in (*map(cases_asset, ALL), *scores_of())))
_COMPARISON = dg.AssetSelection.assets(comparison)
_EXPORT = dg.AssetSelection.assets(*(asset_key(name) for name in ON_REQUEST))
_REPORT = dg.AssetSelection.assets(asset_key("report"))
_CHAMPION = dg.AssetSelection.assets(asset_key("champion"))


def _job(name: str, selection: dg.AssetSelection, description: str) -> Any:
    return dg.define_asset_job(
        name,
        selection=selection,
        partitions_def=experiments,
        description=description,
        config=SHORT_LOG,
    )


itool = _job("itool", dg.AssetSelection.all() - _COMPARISON - _EXPORT, "One experiment from data to report.")
evaluate = _job(
    "evaluate",
    _SCORES | _CHAMPION | _REPORT,
    "Score the checkpoints of an experiment, choose its champion and write its report.",
)
report = _job("report", _REPORT, "Write an experiment's report again.")
export = _job("export", _EXPORT, "The last checkpoint as a folder to load and to serve, and whether it serves.")
compare = dg.define_asset_job(
    "compare",
    selection=_COMPARISON,
    executor_def=in_the_run(),
    description="Experiments on the same cases, as one page; name them in the run's config.",
)


def _valid_experiments(say: Callable[[str], None]) -> Iterator[Experiment]:
    """Every experiment whose file is valid; one that is not must not stop the others."""
    for name in experiment_names():
        try:
            yield load_experiment(name)
        except ConfigError as error:
            say(str(error))


@dg.schedule(job=itool, cron_schedule="0 3 * * 0", description="Sundays: every experiment that says `scheduled: true`.")
def weekly(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
    when = context.scheduled_execution_time.isoformat()
    for experiment in _valid_experiments(context.log.error):
        if experiment.scheduled:
            yield dg.RunRequest(run_key=f"{experiment.name}/{when}", partition_key=experiment.name)


@dg.sensor(
    job=itool, minimum_interval_seconds=60, description="Runs an experiment when the content of its local data changes."
)
def local_data(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    watched = {e.name: local_content(e) for e in _valid_experiments(context.log.error)}
    found = {name: content for name, content in watched.items() if content}
    if not found:
        yield dg.SkipReason("No experiment has a local data file.")
    for name, content in found.items():
        yield dg.RunRequest(run_key=f"{name}/{content}", partition_key=name)
