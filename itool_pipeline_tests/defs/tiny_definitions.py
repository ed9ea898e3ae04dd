"""Three small assets in place of the pipeline's: for processes of their own, which notes in a file tell about.

Each step notes its name and its process in the file `TINY_NOTES`; the last waits for ever while `TINY_WAITS` is set.
While `TINY_TICKS` is set, a schedule and a sensor ask for a run each.
With `TINY_KILLED_BEFORE_ITS_LOCK` the process of a run is killed when it would take its lock.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import dagster as dg

from itool_pipeline.defs import executors
from itool_pipeline.defs.executors import chosen_executor
from itool_pipeline.defs.lost_runs import lost_runs
from itool_pipeline.defs.partitions import experiments, tell_the_instance
from itool_pipeline.defs.resources import GPU_POOL

if os.environ.get("TINY_KILLED_BEFORE_ITS_LOCK"):
    executors.sign_of_life = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore


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


tiny = dg.define_asset_job("tiny", selection=dg.AssetSelection.all())
TICKS = dg.DefaultScheduleStatus.RUNNING if os.environ.get("TINY_TICKS") else dg.DefaultScheduleStatus.STOPPED
LOOKS = dg.DefaultSensorStatus.RUNNING if os.environ.get("TINY_TICKS") else dg.DefaultSensorStatus.STOPPED


@dg.schedule(job=tiny, cron_schedule="* * * * *", default_status=TICKS)
def by_the_clock() -> dg.RunRequest:
    return dg.RunRequest(run_key="once", partition_key="demo")


@dg.sensor(job=tiny, default_status=LOOKS)
def by_a_look() -> dg.RunRequest:
    return dg.RunRequest(run_key="once", partition_key="demo")


defs = dg.Definitions(
    assets=[first, second, third],
    jobs=[tiny],
    schedules=[by_the_clock],
    sensors=[lost_runs, by_a_look],
    executor=chosen_executor(),
)
tell_the_instance()


def tiny_job() -> dg.JobDefinition:
    """By a name that other processes can find it by."""
    return defs.resolve_job_def("tiny")
