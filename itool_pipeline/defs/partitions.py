"""Every experiment file is one partition."""

from __future__ import annotations

import dagster as dg

from itool_pipeline.experiment_files import experiment_names

experiments = dg.StaticPartitionsDefinition(experiment_names())
