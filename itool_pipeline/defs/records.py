"""Who writes a step's records. A step in the run's own process does it itself, and one on a worker does not open the
database: the process of the run reads in the event of its materialization what was made, and writes that.

Executors hand on an event before they act on it, so what is downstream of a step begins when the step's rows are there.
A run that was killed in between is made up for by the next run of the experiment, which reuses the artifact and so
records it; and by one that goes on from the run's failure, which looks through what the failed one had made.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import dagster as dg

from itool_pipeline.defs.errors import explained
from itool_pipeline.defs.metadata import FINGERPRINT, REUSED
from itool_pipeline.experiment_files import load_experiment
from itool_pipeline.files.locks import Say
from itool_pipeline.steps.plan import plan
from itool_pipeline.steps.records import DatabaseRecords, LeftToTheRun
from itool_pipeline.steps.workspace import MissingInput
from itool_pipeline.store.artifacts import ArtifactStore
from itool_pipeline.store.database import Database
from itool_pipeline.store.paths import storage_paths

WORKERS = frozenset({"multiprocess", "ray", "k8s"})
"""The executors that compute a step in a process that is not the run's."""

Events = Generator[dg.DagsterEvent, None, None]


def on_worker(job: dg.JobDefinition) -> bool:
    """Whether steps of the job, as it is loaded here, are on workers."""
    return job.executor_def.name in WORKERS


def own_records(job: dg.JobDefinition) -> LeftToTheRun | None:
    """What a step of the job writes its records with, where that is not the database."""
    return LeftToTheRun() if on_worker(job) else None


class RunRecords:
    """Writes the records of a run's steps, in the process of the run."""

    def __init__(self, run: dg.DagsterRun, instance: dg.DagsterInstance, say: Say) -> None:
        self.run, self.instance = run, instance
        paths = storage_paths()
        self._store, self._database = ArtifactStore(paths.artifacts, say), Database(paths.database, say=say)

    def of_steps(self, events: Events) -> Iterator[dg.DagsterEvent]:
        """The events of the run as they come, each when what it tells of is written.

        What cannot be written ends the run with its own words; the executor hears of it and ends the steps under way.
        """
        for event in events:
            try:
                with explained():
                    self.write(event)
            except Exception as error:
                yield event
                yield events.throw(error)
            else:
                yield event

    def write(self, event: dg.DagsterEvent) -> None:
        """Record the artifact of which the event tells, if it does. Doing it twice changes nothing."""
        told = _told(event)
        if told is None:
            return
        name, asset, fingerprint, reused = told
        artifact = self._store.find(asset, fingerprint)
        if artifact is None:
            raise MissingInput(
                f"{asset} {fingerprint} was made by its step and is not whole in {self._store.root}, as this process "
                "sees it; see that ITOOL_STORAGE is the same folder for the run and its steps (docs/scaling.md), and "
                "run again"
            )
        DatabaseRecords(self._database).write(load_experiment(name), artifact, run_id=self.run.run_id, reused=reused)

    def of_the_run_before(self) -> None:
        """Record what the run that this one goes on from had made and not recorded, as its steps are not run again."""
        before, kept = self.run.parent_run_id, dict[str, dg.DagsterEvent]()
        while before is not None:
            for entry in self.instance.all_logs(before, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
                event = entry.get_dagster_event()
                if told := _told(event):
                    kept.setdefault(told[1], event)
            run = self.instance.get_run_by_id(before)
            before = run.parent_run_id if run else None
        for event in kept.values():
            self._make_up_for(event)

    def _make_up_for(self, event: dg.DagsterEvent) -> None:
        told = _told(event)
        assert told is not None
        name, asset, fingerprint, _ = told
        planned = plan(load_experiment(name)).get(asset)
        # The experiment may have changed since, and its newer artifact be recorded.
        if planned and planned.fingerprint == fingerprint and not self._database.has(name, asset, fingerprint):
            self.write(event)


def _told(event: dg.DagsterEvent) -> tuple[str, str, str, bool] | None:
    """Experiment, asset, fingerprint, and whether the artifact was reused; None of what is no artifact of ours."""
    if not event.is_step_materialization:
        return None
    made = event.step_materialization_data.materialization
    if FINGERPRINT not in made.metadata or made.partition is None:
        return None
    values: dict[str, Any] = {key: made.metadata[key].value for key in (FINGERPRINT, REUSED)}
    return made.partition, "/".join(made.asset_key.path), values[FINGERPRINT], values[REUSED]
