"""Rows in the database that are not those of the artifacts are found, whatever they are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline import __main__ as command_line
from itool_pipeline.commands import verify as verify_command
from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.steps.asset_tables import rows_of
from itool_pipeline.store.artifacts import ArtifactStore, Step, reuse_or_make
from itool_pipeline.store.database import Database
from itool_pipeline.store.manifest import Artifact, Origin
from itool_pipeline.store.row_verification import RowVerification, verify_rows
from itool_pipeline.store.rows import Rows
from itool_pipeline.store.table_files import write_table_file
from itool_pipeline.store.tables import SPLITS, TREES
from itool_pipeline_tests.robustness.databases import HOLDER
from itool_pipeline_tests.store.by_hand import A, B, artifact

SPLIT = [{"example_id": f"e{n}", "group_id": "g", "split": "train", "difficulty": "easy"} for n in range(3)]
Verify = Callable[[], int]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def splits(store: ArtifactStore) -> Artifact:
    """A finished artifact of three rows."""
    return put(store, A, SPLIT)


@pytest.fixture
def database(tmp_path: Path, splits: Artifact) -> Database:
    """In which these rows are, with those of another artifact."""
    made = Database(tmp_path / "itool.duckdb", wait_seconds=0.1)
    made.replace_many(rows_of(splits), A)
    made.replace_many({"splits": SPLIT[:1]}, B)
    made.record_materialization("small", splits, run_id="1", reused=False)
    return made


@pytest.fixture
def verify(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """The command, deep."""
    monkeypatch.setenv("ITOOL_STORAGE", str(store.root.parent))
    monkeypatch.setattr("sys.argv", ["itool_pipeline", "verify", "--deep"])
    monkeypatch.setattr(verify_command, "DATABASE_WAIT_SECONDS", 0.1)
    return command_line.main


def put(store: ArtifactStore, fingerprint: str, rows: list[dict[str, str]]) -> Artifact:
    def make(step: Step) -> dict[str, Any]:
        write_table_file(step.work / "splits.parquet", SPLITS, rows)
        return {}

    return reuse_or_make(store, "splits", fingerprint, make, origin=Origin())[0]


def change(database: Database, sql: str) -> None:
    with database.transaction() as connection:
        connection.execute(sql)


def test_equal_rows_are_counted(database: Database, verify: Verify, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify() == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == f"Rows in {database.path}: those of 1 artifacts compared, 0 differ"


@pytest.mark.parametrize(
    ("sql", "lacking", "other"),
    [
        (f"DELETE FROM splits WHERE artifact = '{A}' AND example_id = 'e1'", 1, 0),
        (f"UPDATE splits SET difficulty = 'hard' WHERE artifact = '{A}' AND example_id = 'e1'", 1, 1),
        (f"UPDATE splits SET group_id = NULL WHERE artifact = '{A}'", 3, 3),
        (f"INSERT INTO splits SELECT * FROM splits WHERE artifact = '{A}' AND example_id = 'e1'", 0, 1),
        (f"DELETE FROM splits WHERE artifact = '{A}'", 3, 0),
    ],
    ids=["a row deleted", "a row changed", "a column emptied", "a row doubled", "all rows deleted"],
)
def test_other_rows_are_named_with_the_remedy(
    database: Database, verify: Verify, capsys: pytest.CaptureFixture[str], sql: str, lacking: int, other: int
) -> None:
    change(database, sql)
    assert verify() == 1
    shown = capsys.readouterr().out.splitlines()
    assert "those of 1 artifacts compared, 1 differ" in shown[-3]
    assert shown[-2] == f"splits {A}: splits lacks {lacking} of its rows and has {other} that it has not"
    assert shown[-1].startswith(f"Delete {database.path} and run the experiments again")


def test_rows_of_a_table_that_is_not_the_artifacts_are_found(database: Database, splits: Artifact) -> None:
    change(database, f"INSERT INTO quarantine VALUES ('{A}', 'bfcl', '1', 'r', 'x')")
    assert verify_rows(database, [splits], rows_of) == RowVerification(1, 0, {f"splits {A}": {"quarantine": (0, 1)}})


def test_after_the_remedy_all_is_well(database: Database, splits: Artifact) -> None:
    change(database, "DELETE FROM splits")
    database.path.unlink()
    assert verify_rows(database, [splits], rows_of) is None
    assert not database.path.exists(), "nothing is made"
    database.replace_many(rows_of(splits), A)
    assert verify_rows(database, [splits], rows_of) == RowVerification(1, 0, {})


def test_an_artifact_that_the_database_does_not_know_is_no_damage(store: ArtifactStore, database: Database) -> None:
    other = put(store, "f" * 16, SPLIT)

    def refused(_: Artifact) -> Mapping[str, Rows]:
        raise AssertionError("its rows are not loaded")

    assert verify_rows(database, [other], refused) == RowVerification(0, 1, {})


def test_values_that_are_no_numbers_are_equal_to_themselves(tmp_path: Path) -> None:
    row = {**dict.fromkeys(TREES.names), "tree_id": "t", "example_id": "e", "root_outcome": float("nan")}
    database = Database(tmp_path / "it's one.duckdb")
    database.replace_many({"trees": [row]}, A)
    trees = artifact("iteration_1/trees", A)
    assert verify_rows(database, [trees], lambda _: {"trees": [row]}) == RowVerification(1, 0, {})
    changed = {**row, "root_outcome": None}
    found = verify_rows(database, [trees], lambda _: {"trees": [changed]})
    assert found == RowVerification(1, 0, {f"iteration_1/trees {A}": {"trees": (1, 1)}})


def test_a_database_that_another_process_holds_is_not_green(
    database: Database, verify: Verify, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-c", HOLDER, str(database.path), "600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert verify() == 2
        holder.kill()
    said = capsys.readouterr().err
    assert f"{database.path} is still open in process {holder.pid}" in said
    assert verify() == 0


def test_a_damaged_database_is_told_in_words(database: Database, splits: Artifact) -> None:
    content = bytearray(database.path.read_bytes())
    for place in range(4096 * 3, len(content)):
        content[place] ^= 0xFF
    database.path.write_bytes(content)
    with pytest.raises(StorageError, match="if it is damaged, move it away and run again"):
        verify_rows(database, [splits], rows_of)
