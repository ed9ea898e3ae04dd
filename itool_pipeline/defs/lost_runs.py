"""Runs whose process is gone: killed, or gone with its machine.

Such a run neither ends nor gives back its places, among the runs and in the pool, and whoever waits for one waits for
ever. So the process of a run holds a lock file, which the kernel frees with the process, and the lost ones are ended by
a sensor twice a minute, and by every run before it begins. That is the process that hands out the steps: one that
computes a single step is no sign that its run lives.

A run that ends takes its lock file away, and then says how it ended. Where it cannot say so, on a full disk, it is told
by its process, which it has named in a tag. Between the event that a run has started and this tag there is a moment:
who is killed in it is told by the process that this event names and which is gone, a minute later, before any step.

A lock tells of processes of this machine. Where the instance's launcher starts runs on others, in Kubernetes or Ray, it
can be asked after them, which Dagster's run monitoring does, and nothing is judged here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import dagster as dg
import psutil

from itool_pipeline.files.locks import Say, file_lock, is_held
from itool_pipeline.files.process_identity import ProcessIdentity
from itool_pipeline.store.paths import storage_paths

INTERVAL_SECONDS = 30
"""Between two looks of the sensor."""
SIGNED_WITHIN_SECONDS = 60.0
"""A run that has started holds its lock, or has begun a step, in far less."""
PROCESS_TAG = ".dagster/itool_process"
"""Of a run: its own id and its process. The UI hides tags that begin like this, and a retried run has its parent's."""


@contextmanager
def sign_of_life(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Held by the process of a run as long as it works."""
    path = storage_paths().run_lock(run_id)
    instance.add_run_tags(run_id, {PROCESS_TAG: json.dumps([run_id, asdict(ProcessIdentity.own())])})
    with file_lock(path, f"run {run_id}", lambda _: None):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def end_lost_runs(instance: dg.DagsterInstance, say: Say) -> list[str]:
    """Mark the runs whose process is gone as failed, and free their places in the pools. Returns their ids."""
    if instance.run_launcher.supports_check_run_worker_health:
        return []
    ended = []
    for record in instance.get_run_records(filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        run, path = record.dagster_run, storage_paths().run_lock(record.dagster_run.run_id)
        if not _is_lost(instance, record, path):
            continue
        if not _counts_as_started(instance, run.run_id):  # it has ended since it was listed
            continue
        say(f"run {run.run_id} was killed: marked as failed; what it finished is kept")
        instance.report_run_failed(run, "The process of this run is gone.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        path.unlink(missing_ok=True)
        ended.append(run.run_id)
    return ended


def _counts_as_started(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and run.status is dg.DagsterRunStatus.STARTED


def _is_lost(instance: dg.DagsterInstance, record: dg.RunRecord, lock: Path) -> bool:
    """Whether the process of the run is known to be gone."""
    if is_held(lock):
        return False
    process = _signed(record.dagster_run)
    alive = None if process is None else process.is_alive()
    if alive is not None:
        return not alive  # who lives is about to take its lock, or to say how it ended
    if lock.exists():
        return True
    # Without a lock file and a tag the run is about to begin, or is none of ours, or was killed before it signed.
    return process is None and _gone_before_it_signed(instance, record)


def _signed(run: dg.DagsterRun) -> ProcessIdentity | None:
    """The process that its tag names; None where that is another run's, or in a form that is not known here."""
    try:
        signed_by, process = json.loads(run.tags[PROCESS_TAG])
        return ProcessIdentity(**process) if signed_by == run.run_id else None
    except (KeyError, ValueError, TypeError):
        return None


def _gone_before_it_signed(instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    """Whether the process that started the run is gone, and has begun nothing for a minute."""
    run = record.dagster_run
    if record.start_time is None or time.time() - record.start_time < SIGNED_WITHIN_SECONDS:
        return False
    started = [entry.get_dagster_event() for entry in instance.all_logs(run.run_id, dg.DagsterEventType.RUN_START)]
    pids = [event.pid for event in started if event.pid is not None]
    if not pids or _lives_since(pids[-1], record.start_time):
        return False
    return not instance.all_logs(run.run_id, dg.DagsterEventType.STEP_START)


def _lives_since(pid: int, seconds: float) -> bool:
    """Whether that process of this machine began before; a later one has only come by the same number."""
    try:
        began: float = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return False
    return began <= seconds


@dg.sensor(
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends the runs whose process is gone, so that what waits for their places goes on.",
)
def lost_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    ended = end_lost_runs(context.instance, context.log.info)
    return dg.SkipReason(f"Ended, as their process is gone: {', '.join(ended)}." if ended else "No run is lost.")
