"""Who has which artifact, and its rows: what of a step stands in the database, and who writes it there.

Artifacts are folders, which many machines make side by side. The database is one file, which one process at a time may
write and none may open over a network. So one process of a run writes to it, its own: a step in that process as soon as
its artifact is there, and for a step on a worker the process that handed it out, when it hears of the artifact.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from itool_pipeline.config import Experiment
from itool_pipeline.files.durable import SCRATCH
from itool_pipeline.steps.asset_graph import ON_REQUEST, Shape, assets_of
from itool_pipeline.steps.asset_tables import rows_of
from itool_pipeline.store.database import Database
from itool_pipeline.store.manifest import Artifact


class Records(Protocol):
    """Where a step tells that its artifact is there."""

    def write(self, experiment: Experiment, artifact: Artifact, *, run_id: str, reused: bool) -> None:
        """Say that the experiment has the artifact, made or reused by the run. Doing it twice changes nothing."""


@dataclass(frozen=True, slots=True)
class DatabaseRecords:
    """Written into the database at once."""

    database: Database

    def write(self, experiment: Experiment, artifact: Artifact, *, run_id: str, reused: bool) -> None:
        """The rows first: what is known as an experiment's has them. Raises DatabaseLocked and other StorageErrors."""
        e, database = experiment, self.database
        if rows := rows_of(artifact):
            database.replace_many(rows, artifact.fingerprint)
        database.record_experiment(e.name, e.description, e, (*assets_of(Shape.of(e)), *ON_REQUEST))
        database.record_materialization(e.name, artifact, run_id=run_id, reused=reused)


@dataclass(frozen=True, slots=True)
class LeftToTheRun:
    """Nothing is written here: the process of the run hears of the artifact and writes."""

    def write(self, experiment: Experiment, artifact: Artifact, *, run_id: str, reused: bool) -> None: ...


@contextmanager
def rows_aside(experiment: Experiment, artifacts: Iterable[Artifact], work: Path) -> Iterator[Database]:
    """A database of these artifacts alone, in a step's folder `work`, for what the step asks of views. It goes again.

    So the step reads what is in its inputs, whoever has loaded them where, and no file that others write.
    """
    scratch = work / SCRATCH
    scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="rows.") as folder:
        database = Database(Path(folder) / "rows.duckdb")
        for artifact in artifacts:
            DatabaseRecords(database).write(experiment, artifact, run_id="", reused=True)
        yield database
