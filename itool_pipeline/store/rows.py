"""Rows on their way into a table: checked against its declaration, then replaced for one artifact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.store.table_files import Row, arrow_rows
from itool_pipeline.store.table_types import ARTIFACT, Table, column_problems
from itool_pipeline.store.tables import TABLES

Rows: TypeAlias = pa.Table | Sequence[Row] | Sequence[Path]
"""An arrow table or dicts with the table's columns, or Parquet files with its file's; the loader adds `artifact`."""


def count_rows(rows: Rows) -> int:
    """How many they are; of Parquet files their footers say it, and no row is read."""
    if isinstance(rows, pa.Table):
        return int(rows.num_rows)
    return sum(pq.read_metadata(row).num_rows if isinstance(row, Path) else 1 for row in rows)


def replace_rows(connection: duckdb.DuckDBPyConnection, name: str, artifact: str, rows: Rows) -> int:
    """Inside a transaction: deletes the artifact's rows of the table `name`, inserts `rows`, returns how many.

    Columns go by name. Raises StorageError for an unknown table, unknown or missing columns, a value that does not
    fit its column, and a key that occurs twice.
    """
    table = TABLES.get(name)
    if table is None or not table.made_by:
        of_artifacts = sorted(known.name for known in TABLES.values() if known.made_by)
        raise StorageError(f"no table {name!r} of artifacts' rows; there are {of_artifacts}")
    connection.execute(f"DELETE FROM {name} WHERE {ARTIFACT} = ?", [artifact])
    try:
        _insert(connection, table, artifact, rows)
    except (duckdb.DataError, duckdb.IntegrityError, duckdb.ProgrammingError, pa.ArrowException) as error:
        raise StorageError(f"table {name}, artifact {artifact}: the rows do not fit: {error}") from error
    _check_keys(connection, table, artifact)
    counted = connection.execute(f"SELECT count(*) FROM {name} WHERE {ARTIFACT} = ?", [artifact]).fetchone()
    assert counted is not None
    return int(counted[0])


def _insert(connection: duckdb.DuckDBPyConnection, table: Table, artifact: str, rows: Rows) -> None:
    into = f"INSERT INTO {table.name} BY NAME SELECT ? AS {ARTIFACT}, {', '.join(table.names)} FROM"
    if not isinstance(rows, pa.Table) and not rows:
        return
    if not isinstance(rows, pa.Table) and isinstance(rows[0], Path):
        files = [str(path) for path in rows]
        for file in files:
            _check_columns(f"{table.name}, {file}", pq.read_schema(file).names, table.arrow_schema.names)
        source = f"{into} read_parquet(?, union_by_name = true, hive_partitioning = false)"
        connection.execute(source, [artifact, files])
        return
    incoming = rows if isinstance(rows, pa.Table) else arrow_rows(table, table.columns, rows)
    _check_columns(table.name, incoming.column_names, table.names)
    connection.register("incoming_rows", incoming)
    try:
        connection.execute(f"{into} incoming_rows", [artifact])
    finally:
        connection.unregister("incoming_rows")


def _check_columns(where: str, given: Sequence[str], declared: Sequence[str]) -> None:
    if problems := column_problems(given, declared):
        raise StorageError(f"table {where}: {problems}")


def _check_keys(connection: duckdb.DuckDBPyConnection, table: Table, artifact: str) -> None:
    key = ", ".join(table.key)
    twice = connection.execute(
        f"SELECT {key} FROM {table.name} WHERE {ARTIFACT} = ? GROUP BY {key} HAVING count(*) > 1 LIMIT 1", [artifact]
    ).fetchone()
    if twice is not None:
        raise StorageError(f"table {table.name}, artifact {artifact}: two rows have the same {key}: {twice}")
