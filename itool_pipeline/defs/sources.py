"""Files that people write: experiments, and the local data that they name. Dagster observes them, each by its hash.

Both are partitioned as everything is, so a changed file tells whose experiment it is. A version is observed by the UI's
button `Observe`, or by the sensor, which tells what has changed since it looked last.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from hashlib import sha256

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from itool_pipeline.config import Experiment
from itool_pipeline.defs.partitions import experiments
from itool_pipeline.experiment_files import ConfigError, load_experiment
from itool_pipeline.files.json_text import to_json
from itool_pipeline.steps.asset_graph import step_kind
from itool_pipeline.steps.config_sections import local_content

EXPERIMENT_FILE = dg.AssetKey(["sources", "experiment_file"])
LOCAL_FILES = dg.AssetKey(["sources", "local_files"])

INTERVAL_SECONDS = 60
"""Between two looks of the sensor."""


def sources_of(asset: str) -> list[dg.AssetKey]:
    """The files that a step reads, or whose settings decide all that comes after it."""
    if asset == "base_model":
        return [EXPERIMENT_FILE]
    return [LOCAL_FILES] if step_kind(asset) in ("examples", "cases") else []


def settings_version(experiment: Experiment) -> str:
    """sha256 of all that the file says, with what it takes from others and the defaults."""
    return sha256(to_json(experiment).encode()).hexdigest()


def files_version(experiment: Experiment) -> str:
    """sha256 of what the local files hold that the experiment reads; empty where it reads none."""
    content = local_content(experiment)
    return sha256(content.encode()).hexdigest() if content else ""


_VERSIONS: Mapping[dg.AssetKey, Callable[[Experiment], str]] = {
    EXPERIMENT_FILE: settings_version,
    LOCAL_FILES: files_version,
}


def versions_of(source: dg.AssetKey, say: Callable[[str], None]) -> dict[str, str]:
    """Experiment → version. One whose file is not valid has none, which is said, and stops no other."""
    found = {}
    for name in experiments.get_partition_keys():
        try:
            found[name] = _VERSIONS[source](load_experiment(name))
        except ConfigError as error:
            say(str(error))
    return {name: version for name, version in found.items() if version}


def _by_partition(versions: Mapping[str, str]) -> dg.DataVersionsByPartition:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.DataVersionsByPartition(versions)


def _source(key: dg.AssetKey, description: str) -> dg.SourceAsset:
    with warnings.catch_warnings():
        # Dagster calls observable sources a beta.
        warnings.simplefilter("ignore", dg.BetaWarning)

        @dg.observable_source_asset(
            key=key,
            partitions_def=experiments,
            group_name="sources",
            description=description,
            tags={"itool/step": "source"},
        )
        def observed(context: dg.OpExecutionContext) -> dg.DataVersionsByPartition:
            return _by_partition(versions_of(key, context.log.error))

        return observed


sources = [
    _source(EXPERIMENT_FILE, "The experiment's file with what it extends, by the hash of all settings."),
    _source(LOCAL_FILES, "The local files that an experiment trains on or is scored on, by the hash of their content."),
]


@dg.sensor(
    minimum_interval_seconds=INTERVAL_SECONDS,
    description="Observes experiment files and local data, and tells which have changed. Starts no run.",
)
def source_files(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    before: Mapping[str, Mapping[str, str]] = json.loads(context.cursor or "{}")
    now = {source.to_user_string(): versions_of(source, context.log.error) for source in _VERSIONS}
    events = [
        dg.AssetObservation(dg.AssetKey(source.split("/")), partition=name, tags={DATA_VERSION_TAG: version})
        for source, versions in now.items()
        for name, version in versions.items()
        if before.get(source, {}).get(name) != version
    ]
    told = sorted({f"{event.asset_key.path[-1]} of {event.partition}" for event in events})
    return dg.SensorResult(
        asset_events=events,
        cursor=json.dumps(now),
        skip_reason=f"Changed: {', '.join(told)}." if told else "No file has changed.",
    )
