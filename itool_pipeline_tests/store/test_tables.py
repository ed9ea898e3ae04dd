"""The declaration of the tables: what DuckDB, Parquet and readers are given is what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.steps.tree_rows import NodeRow
from itool_pipeline.store.database import Database
from itool_pipeline.store.fingerprint import fingerprint_of
from itool_pipeline.store.schema import SCHEMA_VERSION
from itool_pipeline.store.table_files import read_table_rows, write_table_file
from itool_pipeline.store.table_types import Column, ColumnType, Table, create_statements, tables_as_markdown
from itool_pipeline.store.tables import BUFFER, NODES, PAIRS, TABLES
from itool_pipeline_tests.store.by_hand import A, ask, load

UNASKED = dict.fromkeys(("right_share", "mistakes", "mistake"))
ROW = {**UNASKED, "example_id": "e", "perplexity": 1.5, "response_tokens": 3, "rank": 0, "selected": True}
ODD = Table(
    "odd",
    "one column of each type",
    tuple(Column(kind.name.lower(), kind, f"it's {kind.name}") for kind in ColumnType),
    made_by=("report",),
    key=("text",),
    file_columns=(Column("more", ColumnType.TOKENS, "for other steps"),),
)


@pytest.mark.parametrize("table", TABLES.values(), ids=str)
def test_every_table_and_column_is_described(table: Table) -> None:
    columns = [*table.columns, *table.file_columns]
    assert table.description
    assert all(column.description for column in columns)
    assert not any(column.description.endswith(".") for column in columns)
    assert len({column.name for column in columns}) == len(columns)
    assert set(table.key) <= {*table.names, "artifact"}
    assert table.key or not table.made_by, "the loader tells an artifact's rows apart"


def test_the_database_has_what_is_declared(tmp_path: Path) -> None:
    database = Database(tmp_path / "itool.duckdb")
    found = ask(database, "SELECT table_name, comment FROM duckdb_tables() WHERE table_name <> 'meta'")
    assert sorted(found) == sorted((table.name, table.description) for table in TABLES.values())
    columns = ask(
        database,
        """SELECT table_name, column_name, data_type, NOT is_nullable, comment FROM duckdb_columns()
        WHERE table_name IN (SELECT table_name FROM duckdb_tables()) AND table_name <> 'meta'
        AND (column_name <> 'artifact' OR table_name IN ('materializations', 'lineage'))""",
    )
    assert sorted(columns) == sorted(
        (table.name, column.name, column.type.value, table.is_required(column), column.description)
        for table in TABLES.values()
        for column in table.columns
    )
    owned = ask(database, "SELECT table_name FROM duckdb_columns() WHERE column_name = 'artifact'")
    assert {table for (table,) in owned} >= {table.name for table in TABLES.values() if table.made_by}


def test_changed_columns_are_a_new_version() -> None:
    """A database with other columns must be moved aside: the version tells it from today's."""
    columns = {table.name: [[c.name, c.type] for c in table.columns] for table in TABLES.values()}
    known = (10, "a06ef29f684b20fc")
    assert (SCHEMA_VERSION, fingerprint_of(tables=columns)) == known, "raise SCHEMA_VERSION, and write both here"


def test_every_type_goes_through_parquet_into_duckdb(tmp_path: Path) -> None:
    values = {
        "text": "日本",
        "json": {"a": [1, None]},
        "integer": -1,
        "bigint": 2**40,
        "double": 0.25,
        "boolean": False,
        "tokens": [5, 7],
        "time": None,
    }
    write_table_file(tmp_path / "odd.parquet", ODD, [{**values, "more": [1]}])
    assert list(read_table_rows(tmp_path / "odd.parquet", ["tokens", "more"])) == [{"tokens": [5, 7], "more": [1]}]
    with duckdb.connect() as connection:
        for statement in create_statements(ODD):
            connection.execute(statement)
        connection.execute(
            f"INSERT INTO odd BY NAME SELECT 'x' AS artifact, {', '.join(ODD.names)} FROM read_parquet(?)",
            [str(tmp_path / "odd.parquet")],
        )
        assert connection.execute("SELECT * EXCLUDE (json), json->'a'->>0 FROM odd").fetchall() == [
            ("x", "日本", -1, 2**40, 0.25, False, [5, 7], None, "1")
        ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, r"row 600: unknown columns \['colour'\], missing columns \[\]"),
        ({"rank": ...}, r"row 600: unknown columns \[\], missing columns \['rank'\]"),
        ({"rank": "first"}, r"column rank \(INTEGER\)"),
        ({"rank": 2**40}, r"column rank \(INTEGER\)"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_when_it_is_written(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    bad = {key: value for key, value in {**ROW, **change}.items() if value is not ...}
    with pytest.raises(StorageError, match=f"table buffer.*{message}"):
        write_table_file(tmp_path / "buffer.parquet", BUFFER, [*[ROW] * 600, bad])


def test_a_file_without_rows_has_its_columns(tmp_path: Path) -> None:
    assert write_table_file(tmp_path / "nodes.parquet", NODES, []) == 0
    assert pq.read_schema(tmp_path / "nodes.parquet").equals(NODES.arrow_schema)
    assert load(Database(tmp_path / "itool.duckdb"), "nodes", A, [tmp_path / "nodes.parquet"]) == 0


def test_columns_for_other_steps_stay_out_of_the_database(tmp_path: Path) -> None:
    database, path = Database(tmp_path / "itool.duckdb"), tmp_path / "pairs.parquet"
    row = dict.fromkeys(PAIRS.arrow_schema.names)
    write_table_file(path, PAIRS, [{**row, "pair_id": "p", "tree_id": "t", "chosen_ids": [1, 2]}])
    assert load(database, "pairs", A, [path]) == 1
    assert "chosen_ids" not in {name for name, *_ in ask(database, "DESCRIBE pairs")}
    pq.write_table(pq.read_table(path).drop_columns(["chosen_ids"]), path)
    with pytest.raises(StorageError, match=r"pairs.parquet: .*missing columns \['chosen_ids'\]"):
        load(database, "pairs", A, [path])


def test_a_node_row_has_the_columns_of_its_table() -> None:
    assert NodeRow._fields == NODES.names


def test_the_declaration_reads_as_a_document() -> None:
    pipe = replace(ODD, columns=(Column("a", ColumnType.TEXT, "x | y"),), key=("a",))
    assert tables_as_markdown([pipe]) == (
        "## odd\n\nOne column of each type. Rows of `report`; `artifact` is the artifact's fingerprint. Key: `a`.\n\n"
        "| column | type | |\n| --- | --- | --- |\n| `a` | VARCHAR | x \\| y |\n"
    )
    whole = tables_as_markdown(TABLES.values())
    assert whole.count("\n## ") == len(TABLES) - 1
    assert all(f"| `{name}` |" in whole for table in TABLES.values() for name in table.names)
    assert pa.types.is_list(NODES.arrow_schema.field("token_ids").type)
