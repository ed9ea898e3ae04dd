"""Three small assets in place of the pipeline's: for processes of their own, which notes in a file tell about.

Each step notes its name and its process in the file `TINY_NOTES`; the last waits for ever while `TINY_WAITS` is set.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import dagster as dg

from itool_pipeline.defs.executors import chosen_executor
from itool_pipeline.defs.lost_runs import lost_runs
from itool_pipeline.defs.partitions import experiments
from itool_pipeline.defs.resources import GPU_POOL


def note(step: str) -> None:
    with Path(os.environ["TINY_NOTES"]).open("a") as notes:
        notes.write(f"{step} {os.getpid()}\n")


@dg.asset(partitions_def=experiments)
def first() -> None:
    note("first")


@dg.asset(partitions_def=experiments, deps=[first], pool=GPU_POOL)
def second() -> None:
    note("second")


@dg.asset(partitions_def=experiments, deps=[second], pool=GPU_POOL)
def third() -> None:
    note("third")
    while os.environ.get("TINY_WAITS"):
        time.sleep(1)


defs = dg.Definitions(
    assets=[first, second, third],
    jobs=[dg.define_asset_job("tiny", selection=dg.AssetSelection.all())],
    sensors=[lost_runs],
    executor=chosen_executor(),
)


def tiny_job() -> dg.JobDefinition:
    """By a name that other processes can find it by."""
    return defs.resolve_job_def("tiny")
