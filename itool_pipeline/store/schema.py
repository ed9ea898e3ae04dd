"""Versions of the tables and views in the DuckDB file.

The table `meta` holds the version of the tables and a fingerprint of views.sql. Changed views are written again.
Changed tables start a new file: every row can be loaded again from the artifacts, so nothing is migrated, and the old
file is kept beside the new one.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import duckdb

from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.store.fingerprint import fingerprint_of
from itool_pipeline.store.table_types import create_statements
from itool_pipeline.store.tables import TABLES

SCHEMA_VERSION = 10
"""Raised whenever a declaration in tables.py changes."""


class State(Enum):
    EMPTY = "no tables"
    OLD_TABLES = "tables of an older version"
    OLD_VIEWS = "today's tables, other views"
    CURRENT = "today's tables and views"


def state_of(connection: duckdb.DuckDBPyConnection, path: Path) -> State:
    """Raises StorageError when the file was written by a newer version, or by another program."""
    tables = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY ALL").fetchall()]
    if not tables:
        return State.EMPTY
    meta = _meta(connection)
    if not meta.get("schema", "").isdecimal():
        raise StorageError(
            f"{path} is a database of another program, with the tables {', '.join(tables[:3])}: move it away, or set "
            "ITOOL_STORAGE to another directory"
        )
    version = int(meta["schema"])
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"{path} has tables of version {version}, newer than version {SCHEMA_VERSION} of this program: update "
            "itool_pipeline, or set ITOOL_STORAGE to another directory"
        )
    if version < SCHEMA_VERSION:
        return State.OLD_TABLES
    return State.CURRENT if meta.get("views") == _views_fingerprint() else State.OLD_VIEWS


def _meta(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """What our table `meta` holds; nothing where there is none of its columns."""
    asked = """SELECT list(column_name ORDER BY column_index) FROM duckdb_columns()
        WHERE (database_name, schema_name, table_name) = (current_database(), 'main', 'meta')"""
    ((columns,),) = connection.execute(asked).fetchall()
    if columns != ["key", "value"]:
        return {}
    return {str(key): str(value) for key, value in connection.execute("SELECT key, value FROM meta").fetchall()}


def create(connection: duckdb.DuckDBPyConnection) -> None:
    """All tables and views, in one transaction."""
    connection.execute("BEGIN TRANSACTION")
    connection.execute("CREATE TABLE meta (key VARCHAR PRIMARY KEY, value VARCHAR)")
    connection.execute("INSERT INTO meta VALUES ('schema', ?), ('views', ?)", [SCHEMA_VERSION, _views_fingerprint()])
    for table in TABLES.values():
        for statement in create_statements(table):
            connection.execute(statement)
    connection.execute(_views())
    connection.execute("COMMIT")


def write_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Today's views over the tables that are there."""
    connection.execute("BEGIN TRANSACTION")
    connection.execute(_views())
    connection.execute("UPDATE meta SET value = ? WHERE key = 'views'", [_views_fingerprint()])
    connection.execute("COMMIT")


def move_aside(connection: duckdb.DuckDBPyConnection, path: Path) -> Path:
    """Renames the file while `connection` still keeps everyone else out; returns the new place."""
    connection.execute("CHECKPOINT")
    number = 1
    while (aside := path.with_name(f"{path.stem}.old-{number}{path.suffix}")).exists():
        number += 1
    path.rename(aside)
    return aside


def _views_fingerprint() -> str:
    return fingerprint_of(views=_views())


def _views() -> str:
    return Path(__file__).with_name("views.sql").read_text(encoding="utf-8")
