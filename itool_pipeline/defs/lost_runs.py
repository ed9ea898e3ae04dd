"""Runs whose process is gone: killed, or gone with its machine.

Such a run neither ends nor gives back its place in the pool, and whoever waits for the place waits for ever. Dagster
asks after the processes of runs in containers only. So a run in one process holds a lock file, which the kernel frees
with the process, and who starts the next run ends the lost ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from itool_pipeline.files.locks import Say, file_lock, is_held
from itool_pipeline.store.paths import storage_paths


@contextmanager
def sign_of_life(run: dg.DagsterRun | None) -> Iterator[None]:
    """Held by the process of a run as long as it works. Runs in many processes give none."""
    if run is None or not _in_one_process(run):
        yield
        return
    path = storage_paths().run_lock(run.run_id)
    with file_lock(path, f"run {run.run_id}", lambda _: None):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def end_lost_runs(instance: dg.DagsterInstance, say: Say) -> None:
    """Mark the runs whose process is gone as failed, and free their places in the pools."""
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        path = storage_paths().run_lock(run.run_id)
        # Without a lock file the run has no place in a pool yet, or its process is not ours to judge.
        if not _in_one_process(run) or not path.exists() or is_held(path):
            continue
        say(f"run {run.run_id} was killed: marked as failed; what it finished is kept")
        instance.report_run_failed(run, "The process of this run is gone.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        path.unlink(missing_ok=True)


def _in_one_process(run: dg.DagsterRun) -> bool:
    config: Any = run.run_config
    return "in_process" in config.get("execution", {}).get("config", {})
