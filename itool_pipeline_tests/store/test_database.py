from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.store import schema
from itool_pipeline.store.database import Database
from itool_pipeline.store.holder import is_damage
from itool_pipeline.store.sql_shell import run_sql, text_table
from itool_pipeline_tests.store.by_hand import A, B, artifact, ask, load, rows


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "folder" / "itool.duckdb")


def buffer(*ids: str) -> list[dict[str, Any]]:
    return [
        {
            **{"example_id": i, "perplexity": 1.5, "response_tokens": 3, "rank": n, "selected": n == 0},
            **{"right_share": 0.5, "mistakes": {"tool_name": 2}, "mistake": "tool_name"},
        }
        for n, i in enumerate(ids)
    ]


def ids(database: Database) -> list[tuple[Any, ...]]:
    return ask(database, "SELECT artifact, example_id FROM buffer ORDER BY ALL")


def test_a_rerun_neither_doubles_nor_leaves_stale_rows(database: Database) -> None:
    assert load(database, "buffer", A, buffer("e1", "e2")) == 2
    assert load(database, "buffer", B, buffer("e1")) == 1
    assert load(database, "buffer", A, buffer("e1", "e2")) == 2
    assert ids(database) == [(A, "e1"), (A, "e2"), (B, "e1")]
    assert load(database, "buffer", A, buffer("e3")) == 1
    assert ids(database) == [(A, "e3"), (B, "e1")]
    assert load(database, "buffer", A, []) == 0
    assert ids(database) == [(B, "e1")]


def test_dicts_arrow_and_parquet_load_the_same(database: Database, tmp_path: Path) -> None:
    one = rows(database, "nodes", {"tree_id": "t", "node_id": 0, "token_ids": [], "fragment": "", "value": 0.25})
    two = rows(database, "nodes", {"tree_id": "t", "node_id": 1, "parent_id": 0, "token_ids": [5, 7], "correct": True})
    table = pa.Table.from_pylist(one + two)
    shuffled = table.select(sorted(table.column_names))
    files = [tmp_path / "artifact=x" / "0.parquet", tmp_path / "artifact=x" / "1.parquet"]
    files[0].parent.mkdir()
    pq.write_table(table.slice(0, 1), files[0])
    pq.write_table(shuffled.slice(1, 1), files[1])
    loaded = []
    for given in (one + two, table, shuffled, files):
        assert load(database, "nodes", A, given) == 2
        loaded.append(ask(database, "SELECT * FROM nodes ORDER BY node_id"))
    assert loaded[0] == loaded[1] == loaded[2] == loaded[3]
    columns = "artifact, tree_id, node_id, parent_id, token_ids, value, correct, terminal"
    assert ask(database, f"SELECT {columns} FROM nodes ORDER BY node_id") == [
        (A, "t", 0, None, [], 0.25, None, None),
        (A, "t", 1, 0, [5, 7], None, True, None),
    ]


def test_json_columns(database: Database) -> None:
    given = {"example_id": "e", "tools": [{"name": "f"}], "messages": '[{"role": "user"}]'}
    load(database, "examples", A, rows(database, "examples", given))
    assert ask(database, "SELECT tools->0->>'name', messages->0->>'role' FROM examples") == [("f", "user")]


def test_several_tables_go_together_or_not_at_all(database: Database) -> None:
    trees = rows(database, "trees", {"tree_id": "t", "example_id": "e"})
    nodes = rows(database, "nodes", {"tree_id": "t", "node_id": 0})
    assert database.replace_many({"trees": trees, "nodes": nodes}, A) == {"trees": 1, "nodes": 1}
    newer = rows(database, "trees", {"tree_id": "t2", "example_id": "e"})
    with pytest.raises(StorageError, match="two rows have the same tree_id, node_id"):
        database.replace_many({"trees": newer, "nodes": nodes + nodes}, A)
    assert ask(database, "SELECT tree_id FROM trees") == [("t",)]
    assert ask(database, "SELECT count(*) FROM nodes") == [(1,)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, r"unknown columns \['colour'\], missing columns \[\]"),
        ({"rank": ...}, r"unknown columns \[\], missing columns \['rank'\]"),
        ({"artifact": A}, r"unknown columns \['artifact'\]"),
        ({"rank": "first"}, r"column rank \(INTEGER\)"),
        ({"rank": 2**40}, r"column rank \(INTEGER\)"),
        ({"example_id": None}, "NOT NULL"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_change_nothing(
    database: Database, change: dict[str, Any], message: str
) -> None:
    load(database, "buffer", A, buffer("e1"))
    row = {key: value for key, value in {**buffer("e2")[0], **change}.items() if value is not ...}
    with pytest.raises(StorageError, match=message):
        load(database, "buffer", A, [row])
    assert ids(database) == [(A, "e1")]


def test_files_and_tables_that_do_not_fit_are_refused(database: Database, tmp_path: Path) -> None:
    whole = pa.Table.from_pylist(buffer("e1"))
    pq.write_table(whole, tmp_path / "0.parquet")
    pq.write_table(whole.drop_columns(["rank"]), tmp_path / "1.parquet")
    with pytest.raises(StorageError, match=r"1\.parquet: .*missing columns \['rank'\]"):
        load(database, "buffer", A, [tmp_path / "0.parquet", tmp_path / "1.parquet"])
    with pytest.raises(StorageError, match="do not fit"):
        load(database, "buffer", A, whole.drop_columns(["rank"]).append_column("rank", pa.array(["x"])))
    malformed = rows(database, "examples", {"example_id": "e", "tools": "{not json"})
    with pytest.raises(StorageError, match="Malformed JSON"):
        load(database, "examples", A, malformed)
    with pytest.raises(StorageError, match="no table 'experiments'"):
        load(database, "experiments", A, [])
    assert ids(database) == []


def test_an_exception_rolls_back_and_closes(database: Database) -> None:
    load(database, "buffer", A, buffer("e1"))
    connections = []

    def fail_half_way() -> None:
        with database.transaction() as connection:
            connections.append(connection)
            connection.execute("DELETE FROM buffer")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    assert ids(database) == [(A, "e1")]
    with pytest.raises(duckdb.ConnectionException):
        connections[0].execute("SELECT 1")


def test_reading_cannot_write(database: Database) -> None:
    with pytest.raises(duckdb.InvalidInputException, match="read-only"), database.read() as connection:
        connection.execute("DELETE FROM buffer")


def test_experiments_are_updated_in_place(database: Database) -> None:
    database.record_experiment("demo", "first", {"seed": 1}, [])
    database.record_experiment("other", "x", {}, [])
    database.record_experiment("demo", "second", {"seed": 2}, [])
    sql = "SELECT experiment, description, config->>'seed' FROM experiments ORDER BY experiment"
    assert ask(database, sql) == [("demo", "second", "2"), ("other", "x", None)]


def test_materializations_are_the_latest_of_experiment_and_asset(database: Database) -> None:
    first = artifact("pairs", A, run="run-1", seconds=2.5, trees=B)
    database.record_materialization("demo", first, run_id="run-1", reused=False)
    database.record_materialization("demo", first, run_id="run-2", reused=True)
    database.record_materialization("other", first, run_id="run-3", reused=True)
    sql = "SELECT experiment, artifact, run_id, made_by_run, reused, seconds, metadata->>'count' FROM materializations"
    assert ask(database, f"{sql} ORDER BY 1") == [
        ("demo", A, "run-2", "run-1", True, 2.5, "3"),
        ("other", A, "run-3", "run-1", True, 2.5, "3"),
    ]
    assert ask(database, "FROM lineage") == [(A, "pairs", B, "trees")]


def test_one_fingerprint_is_one_asset(database: Database) -> None:
    database.record_materialization("demo", artifact("pairs", A), run_id="r", reused=False)
    with pytest.raises(StorageError, match="already known as pairs"):
        database.record_materialization("demo", artifact("trees", A), run_id="r", reused=False)


def test_a_newer_file_is_refused(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute("UPDATE meta SET value = '999' WHERE key = 'schema'")
    for use in (database.transaction, database.read):
        with pytest.raises(StorageError, match="version 999, newer"), use():
            raise AssertionError("never reached")


def _told(database: Database) -> list[str]:
    """What reading and writing it say of damage, if anything."""
    try:
        ids(database)
        load(database, "buffer", B, buffer("e1"))
    except StorageError as error:
        return [str(error)]
    return []


@pytest.mark.parametrize(
    ("error", "damaged"),
    [
        (duckdb.FatalException("FATAL Error: Failed to deserialize"), True),
        (duckdb.InternalException("INTERNAL Error: Attempted to access index 3 within vector of size 0"), True),
        (duckdb.SerializationException("Serialization Error: expected end of object"), True),
        (duckdb.IOException("IO Error: Corrupt database file: computed checksum 1 does not match 2"), True),
        (duckdb.IOException("IO Error: Could not set lock on file"), False),
        (duckdb.ConstraintException("Constraint Error: NOT NULL constraint failed"), False),
        (duckdb.OutOfMemoryException("Out of Memory Error: could not allocate block"), False),
    ],
)
def test_what_is_damage(error: duckdb.Error, damaged: bool) -> None:
    """Of another error the file must not be moved away: it is whole."""
    assert is_damage(error) == damaged


def test_damage_is_told_in_words_wherever_it_is_met(database: Database) -> None:
    """Also in pages that are read or written long after the file was opened."""
    load(database, "buffer", A, buffer(*(f"e{number}" for number in range(2000))))
    whole, told = database.path.read_bytes(), list[str]()
    for seed in range(12):
        draw, content = random.Random(seed), bytearray(whole)
        for _ in range(4):
            place = draw.randrange(len(content) - 4096)
            content[place : place + 4096] = draw.randbytes(4096)
        database.path.write_bytes(content)
        told += _told(database)
    assert told, "nothing was damaged"
    assert all("ove it away and run again" in message for message in told)


def test_a_full_disk_in_the_midst_of_a_checkpoint_is_no_damage(database: Database) -> None:
    said = "Failed to create checkpoint because of error: Could not write file: No space left on device"
    with pytest.raises(StorageError, match="The disk is full: a load of rows"), database.transaction():
        raise duckdb.FatalException(said)
    with pytest.raises(StorageError, match=r"is damaged: FATAL\. Move it away and run again"), database.transaction():
        raise duckdb.FatalException("FATAL")


def test_what_is_cut_short_as_it_begins_is_not_there(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file that a full disk cut short DuckDB says for ever that it is no database."""

    def cut_short(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("CREATE TABLE meta (key VARCHAR)")
        raise duckdb.IOException("Could not write file: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("itool_pipeline.store.database.create", cut_short)
        with pytest.raises(StorageError, match="The disk is full"), database.transaction():
            pass
    assert not list(database.path.parent.rglob("*.duckdb*/*"))
    assert not database.path.exists()
    assert load(database, "buffer", A, buffer("e1")) == 1


def test_what_another_process_begins_meanwhile_stays(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def locked_later(*_: object) -> Iterator[None]:
        monkeypatch.undo()
        load(Database(database.path), "buffer", B, buffer("e2"))
        yield

    monkeypatch.setattr("itool_pipeline.store.database.file_lock", locked_later)
    load(database, "buffer", A, buffer("e1"))
    assert ids(database) == [(A, "e1"), (B, "e2")]


def test_a_link_to_a_disk_that_is_away_stays(database: Database, tmp_path: Path) -> None:
    database.path.parent.mkdir()
    database.path.symlink_to(tmp_path / "away" / "itool.duckdb")
    for use in (database.transaction, database.read):
        with pytest.raises(StorageError, match=r"is a link to \S+away/itool\.duckdb, which is not there"), use():
            pass
    assert database.path.is_symlink()


@pytest.mark.parametrize(
    "table", ["orders (id INT)", "meta (id INT)", "meta (key TEXT, value TEXT)", "meta (key INT, value INT)"]
)
def test_a_database_of_another_program_is_left_alone(database: Database, table: str) -> None:
    database.path.parent.mkdir()
    with duckdb.connect(str(database.path)) as connection:
        connection.execute(f"CREATE TABLE {table}")
    before = database.path.read_bytes()
    for use in (database.transaction, database.read):
        with pytest.raises(StorageError, match=f"of another program, with the tables {table.split()[0]}: move"), use():
            pass
    assert database.path.read_bytes() == before


def test_a_table_meta_of_somebody_elses_schema_is_nothing_to_us(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute("CREATE SCHEMA mine")
        connection.execute("CREATE TABLE mine.meta (id INT)")
    with database.read() as connection:
        assert connection.execute("FROM mine.meta").fetchall() == []


def test_an_older_file_is_kept_beside_a_new_one(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    load(database, "buffer", A, buffer("e1"))
    monkeypatch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
    said: list[str] = []
    newer = Database(database.path, say=said.append)
    assert ids(newer) == []
    assert len(said) == 1
    assert load(newer, "buffer", A, buffer("e2")) == 1
    assert ids(newer) == [(A, "e2")]
    assert sorted(p.name for p in database.path.parent.glob("itool*")) == ["itool.duckdb", "itool.old-1.duckdb"]
    with duckdb.connect(str(database.path.with_name("itool.old-1.duckdb"))) as old:
        assert old.execute("SELECT artifact, example_id FROM buffer").fetchall() == [(A, "e1")]


def test_changed_views_are_written_again_and_rows_stay(database: Database) -> None:
    load(database, "buffer", A, buffer("e1"))
    with database.transaction() as connection:
        connection.execute("DROP VIEW cost")
        connection.execute("UPDATE meta SET value = 'older' WHERE key = 'views'")
    assert ask(database, "FROM cost") == []
    assert ids(database) == [(A, "e1")]


def test_sql_answers_as_a_table(database: Database) -> None:
    with pytest.raises(StorageError, match="make demo"):
        run_sql(database.path, "SELECT 1")
    load(database, "buffer", A, buffer("e1", "e2"))
    answer = run_sql(database.path, "SELECT example_id AS id, rank, perplexity, selected FROM buffer ORDER BY rank")
    assert answer.splitlines() == [
        "id  rank  perplexity  selected",
        "--  ----  ----------  --------",
        "e1     0         1.5  true",
        "e2     1         1.5  false",
        "(2 rows)",
    ]
    with pytest.raises(StorageError, match="nothing_here"):
        run_sql(database.path, "SELECT nothing_here FROM buffer")
    with pytest.raises(StorageError, match="read-only"):
        run_sql(database.path, "DELETE FROM buffer")
    for nothing in ("", " ;\n"):
        with pytest.raises(StorageError, match="Nothing is asked"):
            run_sql(database.path, nothing)
    with pytest.raises(StorageError, match="surrogates not allowed"):
        run_sql(database.path, "SELECT '\udcff'")


def test_cells_are_cut_and_kept_on_one_line() -> None:
    assert text_table(["a"], [("x\ny",), (None,), ("abcdef",)], 4).splitlines()[2:] == [
        "x\\ny",
        "NULL",
        "abc…",
        "(3 rows)",
    ]
    assert json.loads(text_table(["a"], [([1, 2],)], 0).splitlines()[2]) == [1, 2]
    assert text_table([], []) == "\n\n(0 rows)"
