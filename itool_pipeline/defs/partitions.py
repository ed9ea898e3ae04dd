"""Every experiment file is one partition."""

from __future__ import annotations

import dagster as dg

from itool_pipeline.experiment_files import experiment_names

PARTITION_TAG = "dagster/partition"
"""Of a run: the experiment that it is for."""

experiments = dg.StaticPartitionsDefinition(experiment_names())
