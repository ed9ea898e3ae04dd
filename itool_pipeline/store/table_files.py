"""Rows as Parquet files with the columns of a declared table: what does not fit is refused when it is written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from itool_pipeline.files.json_text import to_json
from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.store.table_types import Column, ColumnType, Table, column_problems

Row: TypeAlias = Mapping[str, Any]

ROW_GROUP = 500
"""Rows that are held at a time where a file is written as its rows are made, or read row by row."""


def arrow_rows(table: Table, columns: Sequence[Column], rows: Sequence[Row], first: int = 0) -> pa.Table:
    """The rows in Arrow, `columns` being all that they have. A JSON column takes JSON text, or a value to become it.

    Raises StorageError for an unknown or missing column, naming the row (counted from `first`), and for a value that
    does not fit its column.
    """
    names = {column.name for column in columns}
    for number, row in enumerate(rows, first):
        if row.keys() != names:
            raise StorageError(f"table {table.name}, row {number}: {column_problems(row, names)}")
    return pa.table({column.name: _column_values(table, column, rows) for column in columns})


def write_table_file(path: Path, table: Table, rows: Iterable[Row], row_group: int = ROW_GROUP) -> int:
    """Writes the rows as they are made, one row group held at a time; returns how many.

    Raises StorageError for rows that do not fit, as `arrow_rows` does.
    """
    columns = (*table.columns, *table.file_columns)
    remaining, written = iter(rows), 0
    with pq.ParquetWriter(path, table.arrow_schema) as writer:
        while batch := list(islice(remaining, row_group)):
            writer.write_table(arrow_rows(table, columns, batch, written))
            written += len(batch)
    return written


def read_table_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows with all columns or some, in the file's order; few are held at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROW_GROUP, columns=None if columns is None else list(columns)):
            yield from batch.to_pylist()


def read_table_values(path: Path, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The same as tuples of the values of these columns, in half of the time: for tables of many rows."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROW_GROUP, columns=list(columns)):
            yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)


def read_rows_by_key(path: Path, key: str, wanted: Collection[str], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows whose column `key`, of text, is among `wanted`, with some columns, in the file's order.

    The key is read of every row; of the other columns, only the row groups that hold a wanted one, one at a time.
    """
    keys = pa.array(sorted(wanted), pa.string())
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            found = pc.is_in(file.read_row_group(group, columns=[key]).column(key), value_set=keys)
            if pc.any(found).as_py():
                yield from file.read_row_group(group, columns=list(columns)).filter(found).to_pylist()


def _column_values(table: Table, column: Column, rows: Sequence[Row]) -> pa.Array:
    is_json = column.type is ColumnType.JSON
    values = [_json_text(row[column.name]) if is_json else row[column.name] for row in rows]
    try:
        return pa.array(values, type=column.arrow_type)
    except (pa.ArrowException, OverflowError) as error:
        raise StorageError(f"table {table.name}, column {column.name} ({column.type.value}): {error}") from error


def _json_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else to_json(value)
