"""What a table is: columns with types and descriptions, and what is made of them for DuckDB, Parquet and readers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

ARTIFACT = "artifact"
"""The column that says whose rows these are. The loader adds it; the artifact's own files do not have it."""


class ColumnType(StrEnum):
    """A type by its name in SQL."""

    TEXT = "VARCHAR"
    JSON = "JSON"
    INTEGER = "INTEGER"
    BIGINT = "BIGINT"
    DOUBLE = "DOUBLE"
    BOOLEAN = "BOOLEAN"
    TOKENS = "INTEGER[]"
    TIME = "TIMESTAMP"


_ARROW: Mapping[ColumnType, pa.DataType] = {
    ColumnType.TEXT: pa.string(),
    ColumnType.JSON: pa.string(),
    ColumnType.INTEGER: pa.int32(),
    ColumnType.BIGINT: pa.int64(),
    ColumnType.DOUBLE: pa.float64(),
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.TOKENS: pa.list_(pa.int32()),
    ColumnType.TIME: pa.timestamp("us"),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `required`: never NULL; the columns of a table's key are so too."""

    name: str
    type: ColumnType
    description: str
    required: bool = False

    @property
    def arrow_type(self) -> pa.DataType:
        """Its type in Parquet; JSON is text there."""
        return _ARROW[self.type]


@dataclass(frozen=True, slots=True)
class Table:
    """A table by its declaration; the Parquet file of an artifact has just these columns, in this order.

    made_by       the assets whose artifacts hold the rows; empty for what the database keeps of itself
    key           the columns that tell two rows apart: of one artifact, or without `made_by` in the whole table
    file_columns  further columns of the file, for other steps and not for people; the database leaves them out
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    made_by: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    file_columns: tuple[Column, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names in the database, in their order; `artifact` is not among them."""
        return tuple(column.name for column in self.columns)

    @property
    def arrow_schema(self) -> pa.Schema:
        """The schema of the artifact's Parquet file."""
        return pa.schema([(column.name, column.arrow_type) for column in (*self.columns, *self.file_columns)])

    def is_required(self, column: Column) -> bool:
        """Whether the column is never NULL."""
        return column.required or column.name in self.key


def column_problems(given: Iterable[str], declared: Iterable[str]) -> str:
    """How the columns of a row or a file differ from those declared; empty when they do not, in whatever order."""
    unknown, missing = sorted(set(given) - set(declared)), sorted(set(declared) - set(given))
    return f"unknown columns {unknown}, missing columns {missing}" if unknown or missing else ""


def create_statements(table: Table) -> list[str]:
    """The SQL that makes the table, its descriptions as DuckDB's comments.

    Only what is updated in place has a primary key. For artifacts' rows the loader checks the key, which is faster than
    an index.
    """
    owner = [Column(ARTIFACT, ColumnType.TEXT, f"fingerprint of the artifact of {_listed(table.made_by)}", True)]
    columns = [*(owner if table.made_by else []), *table.columns]
    lines = [f"{c.name} {c.type.value}{' NOT NULL' if table.is_required(c) else ''}" for c in columns]
    if table.key and not table.made_by:
        lines.append(f"PRIMARY KEY ({', '.join(table.key)})")
    return [
        f"CREATE TABLE {table.name} ({', '.join(lines)})",
        f"COMMENT ON TABLE {table.name} IS {_quoted(table.description)}",
        *(f"COMMENT ON COLUMN {table.name}.{c.name} IS {_quoted(c.description)}" for c in columns),
    ]


def tables_as_markdown(tables: Iterable[Table]) -> str:
    """A chapter for each table: what it holds, whose rows, its key, and its columns."""
    return "\n\n".join(_chapter(table) for table in tables) + "\n"


def _chapter(table: Table) -> str:
    facts = [f"{table.description[0].upper()}{table.description[1:]}."]
    if table.made_by:
        facts.append(f"Rows of {_listed(table.made_by)}; `{ARTIFACT}` is the artifact's fingerprint.")
    if table.key:
        facts.append(f"Key: {', '.join(f'`{name}`' for name in table.key)}.")
    head = ["| column | type | |", "| --- | --- | --- |"]
    rows = [f"| `{c.name}` | {c.type.value} | {c.description.replace('|', chr(92) + '|')} |" for c in table.columns]
    return "\n".join([f"## {table.name}", "", " ".join(facts), "", *head, *rows])


def _listed(assets: Iterable[str]) -> str:
    return ", ".join(f"`{asset}`" for asset in assets)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
