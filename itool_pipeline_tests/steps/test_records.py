"""Who writes what of a step stands in the database."""

from __future__ import annotations

from pathlib import Path

import pytest

from itool_pipeline.files.durable import SCRATCH
from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.steps import prepare
from itool_pipeline.steps.records import DatabaseRecords, LeftToTheRun, rows_aside
from itool_pipeline.store.database import Database
from itool_pipeline_tests.steps.by_hand import database_of, example, put, workspace, write_train
from itool_pipeline_tests.store.by_hand import ask

COUNT = "SELECT count(*) FROM splits"


def test_a_step_on_a_worker_makes_its_artifact_and_opens_no_database(tmp_path: Path) -> None:
    ws = workspace(tmp_path, records=LeftToTheRun())
    put(ws, "examples", lambda out: write_train(out, map(example, "abcd")))
    made = prepare.splits(ws)
    assert not ws.paths.database.exists()
    assert ws.input("splits") == made.artifact
    for _ in range(2):  # doing it twice changes nothing
        DatabaseRecords(database_of(ws)).write(ws.experiment, made.artifact, run_id="run-7", reused=False)
    assert ask(database_of(ws), COUNT) == [(4,)]
    told = "SELECT experiment, asset, artifact, run_id, reused FROM materializations"
    assert ask(database_of(ws), told) == [("hand", "splits", made.artifact.fingerprint, "run-7", False)]
    assert database_of(ws).has("hand", "splits", made.artifact.fingerprint)
    assert not database_of(ws).has("hand", "examples", made.artifact.fingerprint)
    assert not database_of(ws).has("other", "splits", made.artifact.fingerprint)


def test_what_cannot_be_loaded_is_not_known_as_the_experiments(tmp_path: Path) -> None:
    ws = workspace(tmp_path, records=LeftToTheRun())
    put(ws, "splits", lambda out: (out / "splits.parquet").write_text("none"))
    artifact = ws.input("splits")
    with pytest.raises(StorageError):
        DatabaseRecords(database_of(ws)).write(ws.experiment, artifact, run_id="r", reused=False)
    assert not database_of(ws).has("hand", "splits", artifact.fingerprint)


def test_rows_aside_are_those_of_the_artifacts_alone_and_go_again(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    put(ws, "examples", lambda out: write_train(out, map(example, "abcd")))
    prepare.splits(ws)
    work = tmp_path / "work"
    work.mkdir()
    with rows_aside(ws.experiment, [ws.input("splits")], work) as aside:
        assert isinstance(aside, Database)
        assert aside.path.is_relative_to(work / SCRATCH), "which is no part of what is made"
        assert ask(aside, COUNT) == ask(database_of(ws), COUNT) == [(4,)]
        assert ask(aside, "SELECT count(*) FROM examples") == [(0,)]
    assert [path for path in work.rglob("*") if path.is_file()] == []
