"""One SQL question to the database, read-only: handed on as rows, or as a text table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import duckdb

from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.store.database import Database

WAIT_SECONDS = 60.0
"""How long a person is kept waiting for the database while a run writes to it."""

Answer = TypeVar("Answer")
Cursor: TypeAlias = duckdb.DuckDBPyConnection
"""An answer that is still to be fetched."""


def ask_database(
    database: Path,
    sql: str,
    take: Callable[[Cursor], Answer],
    *,
    parameters: Mapping[str, object] | None = None,
    variables: Mapping[str, object] | None = None,
    wait_seconds: float = WAIT_SECONDS,
) -> Answer:
    """What `take` makes of the cursor that answers `sql`. The file is open for no longer than that, for reading only.

    parameters  `$name` in the question stands for the one of that name
    variables   `getvariable('name')` does, also in a PIVOT, which takes no parameters

    Raises StorageError for an empty question, when there is no database yet, when another process keeps it, or when
    DuckDB refuses `sql`.
    """
    if not database.exists():
        raise StorageError(f"{database}: no database yet; run an experiment first, for example `make demo`")
    with Database(database, wait_seconds=wait_seconds).read() as connection:
        try:
            for name, value in (variables or {}).items():
                connection.execute(f"SET VARIABLE {name} = $value", {"value": value})
            cursor = connection.execute(sql, dict(parameters) if parameters else None)
            if cursor is None:  # of spaces and comments
                raise StorageError("Nothing is asked: give a query, for example `FROM leaderboard`")
            return take(cursor)
        except (duckdb.Error, UnicodeEncodeError) as error:  # the latter is a query that is no text
            raise StorageError(str(error)) from error


def run_sql(
    database: Path,
    sql: str,
    *,
    variables: Mapping[str, object] | None = None,
    cell_width: int = 80,
    wait_seconds: float = WAIT_SECONDS,
) -> str:
    """The answer to `sql` as a text table; cells wider than `cell_width` characters are cut (0: never).

    Raises StorageError as `ask_database` does.
    """
    names, rows = ask_database(
        database,
        sql,
        lambda cursor: ([column[0] for column in cursor.description or ()], cursor.fetchall()),
        variables=variables,
        wait_seconds=wait_seconds,
    )
    return text_table(names, rows, cell_width)


def text_table(names: list[str], rows: list[tuple[Any, ...]], cell_width: int = 80) -> str:
    """Columns aligned (numbers to the right), a rule under the names, the number of rows at the end."""
    cells = [[_cell(value, cell_width) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [names, *cells]) for i in range(len(names))]
    to_right = [any(_is_number(row[i]) for row in rows) for i in range(len(names))]
    lines = [names, ["-" * width for width in widths], *cells]
    body = [
        "  ".join(
            text.rjust(w) if right else text.ljust(w) for text, w, right in zip(line, widths, to_right, strict=True)
        )
        for line in lines
    ]
    count = f"({len(rows)} row{'' if len(rows) == 1 else 's'})"
    return "\n".join([*(line.rstrip() for line in body), count])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any, width: int) -> str:
    if value is None:
        text = "NULL"
    elif isinstance(value, float):
        text = f"{value:.6g}"
    else:
        text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    text = text.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")
    return text[: width - 1] + "…" if 0 < width < len(text) else text
