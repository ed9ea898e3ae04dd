"""The rows of a Parquet file as JSON would have them."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from itool_pipeline.core.types import Progress, no_progress
from itool_pipeline.data.rows import RowError, expect_that, parse_json
from itool_pipeline.data.streams import UnreadableFile

PARQUET = b"PAR1"
"""How a Parquet file begins."""

_BATCH_ROWS = 50
_READ_BYTES = 1 << 20


def parquet_rows(path: Path, progress: Progress = no_progress) -> Iterator[dict[str, Any] | RowError]:
    """Each row as a mapping from column to JSON value, a few held at a time; an error in the place of one without.

    Dates and times become ISO 8601 text, decimals numbers where a number is exactly as large, bytes text where they
    are UTF-8, maps objects, and columns of Arrow's JSON type what their text says. `progress` gets kB, by rows read.

    Raises UnreadableFile when the file is damaged.
    """
    total, read = path.stat().st_size // 1000, 0
    try:
        # Neither mapped nor read ahead: a column of one row group may be larger than what may be held.
        with pq.ParquetFile(path, buffer_size=_READ_BYTES, pre_buffer=False) as file:
            columns = list(file.schema_arrow)
            _refuse_equal_names(path, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
                read += batch.num_rows
                progress(total * read // max(read, file.metadata.num_rows), total)  # a damaged footer counts wrongly
                for number in range(batch.num_rows):
                    yield _json_row(batch.slice(number, 1), columns)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of names in a damaged footer
        raise UnreadableFile(f"{path}: is Parquet, but damaged or cut off: {error}") from error


def _refuse_equal_names(path: Path, names: list[str]) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UnreadableFile(f"{path}: has two columns of the name {twice[0]!r}; keep one, or rename it.")


def _json_row(row: pa.RecordBatch, columns: list[pa.Field]) -> dict[str, Any] | RowError:
    try:
        (values,) = row.to_pylist()
        return {column.name: _json_value(values[column.name], column.type) for column in columns}
    except RowError as error:
        return error
    except (ValueError, OverflowError, KeyError) as error:  # KeyError is what an unknown time zone is
        return RowError(f"holds a value that cannot be read: {error}")


def _json_value(value: Any, kind: pa.DataType) -> Any:
    """The value of an Arrow type. Raises RowError for one that JSON cannot hold."""
    if value is None:
        return None
    if isinstance(kind, pa.BaseExtensionType):
        is_json = kind.extension_name == "arrow.json"
        return parse_json(value, "a JSON column is not JSON") if is_json else _json_value(value, kind.storage_type)
    if pa.types.is_struct(kind):
        return {field.name: _json_value(value[field.name], field.type) for field in kind}
    if pa.types.is_map(kind):
        expect_that(not pa.types.is_nested(kind.key_type), "a map whose keys are no plain values")
        pairs = [(_json_value(key, kind.key_type), _json_value(item, kind.item_type)) for key, item in value]
        expect_that(len(dict(pairs)) == len(pairs), f"a map has a key twice: {sorted(str(key) for key, _ in pairs)}")
        return {str(key): item for key, item in pairs}
    if pa.types.is_nested(kind):
        return [_json_value(item, kind.value_type) for item in value]
    return _json_scalar(value)


def _json_scalar(value: Any) -> Any:
    match value:
        case bool() | int() | float() | str():
            return value
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case Decimal():
            number = int(value) if value == value.to_integral_value() else float(value)
            expect_that(Decimal(repr(number)) == value, f"a decimal that no JSON number equals: {value}")
            return number
        case bytes():
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError as error:
                raise RowError(f"bytes that are no text: {value[:20]!r}") from error
    raise RowError(f"holds a value that JSON does not know: {value!r}")
