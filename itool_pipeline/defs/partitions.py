"""Every experiment file is one partition, as soon as it is there.

Dagster keeps dynamic partitions in its instance. Web server and daemon, which load no code, look them up there; so the
instance is told of the files when the definitions are loaded, and of new and removed ones by a sensor, which is on by
default. Where the code is loaded the files themselves are asked: a run by command line needs no sensor before it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence, Set
from typing import Any

import dagster as dg
from dagster._core.definitions.partitions.utils.base import INVALID_PARTITION_SUBSTRINGS

from itool_pipeline.errors import ActionableError
from itool_pipeline.experiment_files import experiment_names

PARTITION_TAG = "dagster/partition"
"""Of a run: the experiment that it is for."""

INTERVAL_SECONDS = 15
"""Between two looks of the sensor."""


class NoExperiment(ActionableError):
    """A run names no experiment, or several. The message says how to name one."""


def required_experiment(partition: str | None) -> str:
    """The experiment that a run is for, which its only partition names. Raises NoExperiment where it has none."""
    if partition is None:
        tag = f'{{"{PARTITION_TAG}": "NAME"}}'
        raise NoExperiment(
            "The run is for no single experiment: name one with `dg launch --job … --partition NAME`, in older ones "
            f"`--tags '{tag}'`; there are {', '.join(experiments.get_partition_keys()) or 'none'}."
        )
    return partition


class Experiments(dg.DynamicPartitionsDefinition):
    """The experiment files that are there now, sorted; what the instance has been told is not asked."""

    def get_partition_keys(self, *_: Any, **__: Any) -> Sequence[str]:
        return [name for name in experiment_names() if _can_be_a_key(name)]

    def has_partition_key(self, partition_key: str, *_: Any, **__: Any) -> bool:
        return partition_key in self.get_partition_keys()

    def filter_valid_partition_keys(self, partition_keys: set[str]) -> Set[str]:
        return partition_keys & set(self.get_partition_keys())


experiments = Experiments(name="experiments")


def _can_be_a_key(name: str) -> bool:
    return not any(text in name for text in INVALID_PARTITION_SUBSTRINGS)


def tell_the_instance() -> None:
    """Add the experiments that `DAGSTER_HOME` does not know of, where there is one. Doing it twice changes nothing.

    A code server may be up before its database is: that is said and stops nothing, as the sensor comes to it later.
    """
    if not os.environ.get("DAGSTER_HOME"):
        return
    try:
        with dg.DagsterInstance.get() as instance:
            instance.add_dynamic_partitions(str(experiments.name), experiments.get_partition_keys())
    except Exception as error:  # each database has classes of its own for it
        logging.getLogger(__name__).warning("The sensor experiment_files will make the partitions, not now: %s", error)


@dg.sensor(
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Makes a partition of every new experiment file, and none any more of one that was removed. What was "
    "made of it is kept.",
)
def experiment_files(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    there = experiments.get_partition_keys()
    known = context.instance.get_dynamic_partitions(str(experiments.name))
    new = [name for name in there if name not in known]
    # Without any file a folder is not reached, rather than emptied.
    gone = [name for name in known if name not in there] if there else []
    for name in experiment_names():
        if not _can_be_a_key(name):
            context.log.warning(
                f"{name}.yaml is no partition: Dagster takes no ... and no control characters in its name"
            )
    requests: list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest] = []
    requests += [experiments.build_add_request(new)] if new else []
    requests += [experiments.build_delete_request(gone)] if gone else []
    told = [f"{word}: {', '.join(names)}" for word, names in (("new", new), ("gone", gone)) if names]
    return dg.SensorResult(
        dynamic_partitions_requests=requests, skip_reason="; ".join(told) or f"{len(there)} experiments, as before."
    )
