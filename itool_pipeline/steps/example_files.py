"""Examples in Parquet: written in row groups as they come, and read back a few at a time.

The columns are those of the table `examples`, so that the file loads into DuckDB as it is.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from itool_pipeline.core.difficulty import ExampleSize, measure_size
from itool_pipeline.core.types import Example

ROW_GROUP = 500
"""Examples that are held at a time."""

EXAMPLE_SCHEMA = pa.schema(
    [
        ("example_id", pa.string()),
        ("source", pa.string()),
        ("category", pa.string()),
        ("group_id", pa.string()),
        ("language", pa.string()),
        ("expects", pa.string()),
        ("question", pa.string()),
        ("tools", pa.string()),
        ("messages", pa.string()),
        ("response", pa.string()),
        ("gold", pa.string()),
        ("tool_count", pa.int32()),
        ("tool_chars", pa.int32()),
        ("call_count", pa.int32()),
    ]
)


def write_examples(
    path: Path, examples: Iterable[tuple[Example, Mapping[str, Any]]], own: pa.Schema | None = None
) -> int:
    """Writes each example with its columns of the schema `own`; returns how many. Holds one row group at a time."""
    schema = pa.schema([*EXAMPLE_SCHEMA, *(own or [])])
    rows = ({**_row(example), **more} for example, more in examples)
    written = 0
    with pq.ParquetWriter(path, schema) as writer:
        while batch := list(islice(rows, ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(batch, schema))
            written += len(batch)
    return written


def read_examples(path: Path, ids: Collection[str] | None = None, part: str | None = None) -> Iterator[Example]:
    """The examples in the file's order: all, those with an id in `ids`, or those whose column `part` says so."""
    columns = [*EXAMPLE_SCHEMA.names, *(["part"] if part is not None else [])]
    for row in read_rows(path, columns):
        if (ids is None or row["example_id"] in ids) and (part is None or row["part"] == part):
            yield _example(row)


def read_rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Rows of some columns; one row group is held at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROW_GROUP, columns=columns):
            yield from batch.to_pylist()


def size_of(row: Mapping[str, Any]) -> ExampleSize:
    """What the difficulty of the row's example is read from."""
    return ExampleSize(row["tool_count"], row["tool_chars"], row["call_count"])


def _row(example: Example) -> dict[str, Any]:
    measured = measure_size(example)
    return {
        "example_id": example.id,
        "source": example.source,
        "category": example.category,
        "group_id": example.group,
        "language": example.language,
        "expects": str(example.expects),
        "question": example.question,
        "tools": _json(list(example.tools)),
        "messages": _json([asdict(message) for message in example.messages]),
        "response": example.response,
        "gold": _json([asdict(call) for call in example.gold]),
        "tool_count": measured.tools,
        "tool_chars": measured.chars,
        "call_count": measured.calls,
    }


def _example(row: Mapping[str, Any]) -> Example:
    return Example.from_dict(
        {
            "id": row["example_id"],
            "source": row["source"],
            "category": row["category"],
            "messages": json.loads(row["messages"]),
            "tools": json.loads(row["tools"]),
            "response": row["response"],
            "gold": json.loads(row["gold"]),
            "group": row["group_id"],
            "language": row["language"],
            "expects": row["expects"],
        }
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
