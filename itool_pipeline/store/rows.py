"""Rows on their way into a table: checked against its columns, then replaced for one artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from itool_pipeline.files.durable import StorageError
from itool_pipeline.files.json_text import to_json

Rows: TypeAlias = pa.Table | Sequence[Mapping[str, Any]] | Sequence[Path]
"""An arrow table, dicts, or Parquet files; without the column `artifact`, which the loader adds."""

KEYS: dict[str, tuple[str, ...]] = {
    "examples": ("example_id",),
    "quarantine": ("source", "position"),
    "buffer": ("example_id",),
    "trees": ("tree_id",),
    "nodes": ("tree_id", "node_id"),
    "pairs": ("pair_id",),
    "checkpoints": ("artifact",),
    "scores": ("checkpoint", "benchmark", "category"),
    "cases": ("checkpoint", "benchmark", "case_id"),
    "aggregate_scores": ("checkpoint", "benchmark", "rule", "part"),
    "comparisons": ("benchmark", "first_checkpoint", "second_checkpoint"),
}
"""The tables whose rows belong to an artifact, and what tells two rows of one artifact apart."""

_ARROW_TYPES = {
    "VARCHAR": pa.string(),
    "JSON": pa.string(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "INTEGER[]": pa.list_(pa.int32()),
}


def replace_rows(connection: duckdb.DuckDBPyConnection, table: str, artifact: str, rows: Rows) -> int:
    """Inside a transaction: deletes the artifact's rows of `table`, inserts `rows`, returns how many.

    Columns go by name. Raises StorageError for an unknown table, unknown or missing columns, a value that does not
    fit its column, and a key that occurs twice.
    """
    if table not in KEYS:
        raise StorageError(f"no table {table!r} of artifacts' rows; there are {sorted(KEYS)}")
    columns = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {table}").fetchall()}
    del columns["artifact"]
    connection.execute(f"DELETE FROM {table} WHERE artifact = ?", [artifact])
    try:
        _insert(connection, table, artifact, columns, rows)
    except (duckdb.DataError, duckdb.IntegrityError, duckdb.ProgrammingError, pa.ArrowException) as error:
        raise StorageError(f"table {table}, artifact {artifact}: the rows do not fit: {error}") from error
    _check_keys(connection, table, artifact)
    counted = connection.execute(f"SELECT count(*) FROM {table} WHERE artifact = ?", [artifact]).fetchone()
    assert counted is not None
    return int(counted[0])


def _insert(
    connection: duckdb.DuckDBPyConnection, table: str, artifact: str, columns: Mapping[str, str], rows: Rows
) -> None:
    into = f"INSERT INTO {table} BY NAME SELECT ? AS artifact, * FROM"
    if not isinstance(rows, pa.Table) and not rows:
        return
    if not isinstance(rows, pa.Table) and isinstance(rows[0], Path):
        files = [str(path) for path in rows]
        for file in files:
            _check_columns(f"{table}, {file}", columns, pq.read_schema(file).names)
        source = f"{into} read_parquet(?, union_by_name = true, hive_partitioning = false)"
        connection.execute(source, [artifact, files])
        return
    incoming = rows if isinstance(rows, pa.Table) else _to_arrow(table, columns, rows)
    _check_columns(table, columns, incoming.column_names)
    connection.register("incoming_rows", incoming)
    try:
        connection.execute(f"{into} incoming_rows", [artifact])
    finally:
        connection.unregister("incoming_rows")


def _to_arrow(table: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    for index, row in enumerate(rows):
        _check_columns(f"{table}, row {index}", columns, row)
    arrays = {}
    for name, kind in columns.items():
        values = [_json_text(row[name]) if kind == "JSON" else row[name] for row in rows]
        try:
            arrays[name] = pa.array(values, type=_ARROW_TYPES[kind])
        except (pa.ArrowException, OverflowError) as error:
            raise StorageError(f"table {table}, column {name} ({kind}): {error}") from error
    return pa.table(arrays)


def _json_text(value: Any) -> str | None:
    """JSON text as it is; anything else is put into JSON."""
    return value if value is None or isinstance(value, str) else to_json(value)


def _check_columns(where: str, columns: Mapping[str, str], given: Any) -> None:
    unknown, missing = sorted(set(given) - set(columns)), sorted(set(columns) - set(given))
    if unknown or missing:
        raise StorageError(f"table {where}: unknown columns {unknown}, missing columns {missing}")


def _check_keys(connection: duckdb.DuckDBPyConnection, table: str, artifact: str) -> None:
    key = ", ".join(KEYS[table])
    twice = connection.execute(
        f"SELECT {key} FROM {table} WHERE artifact = ? GROUP BY {key} HAVING count(*) > 1 LIMIT 1", [artifact]
    ).fetchone()
    if twice is not None:
        raise StorageError(f"table {table}, artifact {artifact}: two rows have the same {key}: {twice}")
