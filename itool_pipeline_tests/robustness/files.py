"""Files of rows as a bad disk, a broken download or the wrong program leaves them."""

from __future__ import annotations

import gzip
import io
import json
import random
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from itool_pipeline.data.first_look import look_at
from itool_pipeline.data.layouts import read_any_layout
from itool_pipeline.errors import ActionableError
from itool_pipeline_tests.data.rows_in_layouts import ROWS
from itool_pipeline_tests.robustness.outcome import Outcome, survives
from itool_pipeline_tests.robustness.scene import folder

COMPRESSIONS = ("none", "snappy", "gzip", "zstd")
BESIDE: dict[str, tuple[Any, Any]] = {
    "price": (Decimal("1.50"), pa.decimal128(9, 2)),
    "seen": (datetime(2026, 1, 1), pa.timestamp("us", "UTC")),
    "day": (datetime(2026, 1, 1).date(), pa.date32()),
    "counts": ([("a", 1)], pa.map_(pa.string(), pa.int64())),
    "raw": (b"text", pa.binary()),
    "kind": ("chat", pa.dictionary(pa.int8(), pa.string())),
    "sizes": ([1.5, None], pa.list_(pa.float32())),
    "more": ('{"a": 1}', pa.json_()),
}
"""Columns that a table of rows may have beside them: name → value, type."""


def damaged_files(outcome: Outcome, tries: int, draw: random.Random) -> None:
    """Each damaged file of each container is read, its rows quarantined, or it is refused in a sentence."""
    whole = list(_whole_files().items())
    with folder() as root:
        path = root / "rows"

        def read() -> None:
            look_at(path)
            for _ in read_any_layout(path):
                pass

        for _, content in whole:  # what is whole must be taken
            path.write_bytes(content)
            read()
        while outcome.tries < tries:
            name, content = draw.choice(whole)
            path.write_bytes(damaged(content, draw))
            problems = survives(read, ActionableError)
            outcome.tried([f"{name}: {problem} for {path.read_bytes().hex()}" for problem in problems])


def _whole_files() -> dict[str, bytes]:
    """Name → content of a good file, in every container."""
    files = {}
    for layout, row in ROWS.items():
        lines = "".join(json.dumps(row) + "\n" for _ in range(3)).encode()
        files |= {
            f"{layout}, lines": lines,
            f"{layout}, an array": json.dumps([row] * 3).encode(),
            f"{layout}, documents": (json.dumps(row, indent=1) + "\n").encode() * 3,
            f"{layout}, gzip": gzip.compress(lines, mtime=0),
        }
        for compression in COMPRESSIONS:
            files[f"{layout}, Parquet, {compression}"] = _parquet(row, compression)
    return files


def _parquet(row: dict[str, Any], compression: str) -> bytes:
    """Three rows beside columns of many types. What is no row of columns is in one, as JSON."""
    try:
        table = pa.Table.from_pylist([row] * 3)
    except pa.ArrowInvalid:
        table = pa.table({key: [json.dumps(value)] * 3 for key, value in row.items()})
    for name, (value, kind) in BESIDE.items():
        table = table.append_column(f"beside_{name}", pa.array([value] * 3, kind))
    written = io.BytesIO()
    pq.write_table(table, written, compression=compression)
    return written.getvalue()


def damaged(content: bytes, draw: random.Random) -> bytes:
    """With one to three pieces changed, set to nought, cut out, doubled or put in; or the file cut off.

    Of half of the files the size stays, as it does on a bad disk.
    """
    kinds = draw.choice([2, 6])
    for _ in range(draw.randint(1, 3)):
        place, length = draw.randrange(len(content) + 1), draw.choice([1, 1, 2, 8, 64, 512])
        before, piece, after = content[:place], content[place : place + length], content[place + length :]
        match draw.randrange(kinds):
            case 0:
                piece = bytes(byte ^ 1 << draw.randrange(8) for byte in piece)
            case 1:
                piece = bytes(len(piece))
            case 2:
                piece = b""
            case 3:
                piece += piece
            case 4:
                piece += draw.randbytes(length)
            case _:
                after = b""
        content = before + piece + after
    return content
