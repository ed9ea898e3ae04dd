"""Examples in Parquet: back whole and in order, chosen by id and part, and loadable as the table they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from itool_pipeline.calls.types import GoldCall
from itool_pipeline.core.difficulty import measure_size
from itool_pipeline.core.types import Example, Expectation, Message
from itool_pipeline.steps import example_files
from itool_pipeline.steps.example_files import EXAMPLE_SCHEMA, read_examples, read_rows, size_of, write_examples
from itool_pipeline.steps.prepare import SPLIT_SCHEMA
from itool_pipeline.store.database import Database
from itool_pipeline_tests.steps.by_hand import example
from itool_pipeline_tests.store.by_hand import A, ask, load

ODD = Example(
    id="odd",
    source="jsonl",
    category="several_calls",
    messages=(Message("system", "日本 \u2028 line\nnew \u0085 x"), Message("user", "«q»"), Message("tool", "")),
    tools=({"name": "f g", "parameters": {"properties": {"a": {"default": None}}}}, {"name": "h", "parameters": {}}),
    response='[f g(a={"b": [1, 2.5, None, True]}), h()]',
    gold=(GoldCall("f g", {"a": ({"b": [1, 2.5, None, True]}, "")}), GoldCall("h", {})),
    group="jsonl_1",
    language="java",
)
WRITTEN = [example("b", "what\nnow?"), ODD, example("a", group="g")]


def none(examples: list[Example]) -> list[tuple[Example, dict[str, Any]]]:
    return [(x, {}) for x in examples]


@pytest.mark.parametrize("group", [1, 2, 500])
def test_examples_come_back_whole_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    monkeypatch.setattr(example_files, "ROW_GROUP", group)
    path = tmp_path / "x.parquet"
    assert write_examples(path, none(WRITTEN)) == 3
    assert list(read_examples(path)) == WRITTEN
    assert list(read_examples(path, {"a", "odd", "unknown"})) == WRITTEN[1:]
    assert pq.ParquetFile(path).num_row_groups == {1: 3, 2: 2, 500: 1}[group]


def test_what_is_expected_comes_back(tmp_path: Path) -> None:
    written = [replace(ODD, gold=(), expects=Expectation.ANY_CALL), replace(ODD, gold=()), ODD]
    write_examples(tmp_path / "x.parquet", none(written))
    assert list(read_examples(tmp_path / "x.parquet")) == written
    stored = [row["expects"] for row in read_rows(tmp_path / "x.parquet", ["expects"])]
    assert stored == [
        "any_call",
        "no_call",
        "calls",
    ]


def test_no_examples_are_a_file_too(tmp_path: Path) -> None:
    assert write_examples(tmp_path / "x.parquet", []) == 0
    assert list(read_examples(tmp_path / "x.parquet")) == []


def test_no_more_than_a_row_group_is_asked_for_before_it_is_written(tmp_path: Path) -> None:
    """The examples are made as they are written: none is kept that was written before."""
    made: list[int] = []

    def endless() -> Any:
        for i in range(1200):
            made.append(i)
            yield replace(ODD, id=str(i)), {}

    seen: list[int] = []
    write_table = pq.ParquetWriter.write_table
    with pytest.MonkeyPatch.context() as patch:

        def counting(self: Any, table: pa.Table) -> None:
            seen.append(len(made))
            write_table(self, table)

        patch.setattr(pq.ParquetWriter, "write_table", counting)
        write_examples(tmp_path / "x.parquet", endless())
    assert seen == [500, 1000, 1200]


def test_own_columns_and_parts(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parts = ["train", "held_out", "train"]
    own = pa.schema([("part", pa.string())])
    write_examples(path, [(x, {"part": p}) for x, p in zip(WRITTEN, parts, strict=True)], own)
    assert list(read_examples(path, part="train")) == [WRITTEN[0], WRITTEN[2]]
    assert list(read_examples(path, {"a", "odd"}, part="held_out")) == [ODD]
    assert [row["part"] for row in read_rows(path, ["part"])] == parts
    measured = read_rows(path, ["tool_count", "tool_chars", "call_count"])
    assert [size_of(row) for row in measured] == [measure_size(x) for x in WRITTEN]


def test_the_file_is_the_table(tmp_path: Path) -> None:
    """What `splits` writes is loaded into DuckDB as it is."""
    path, database = tmp_path / "x.parquet", Database(tmp_path / "itool.duckdb")
    own = {"part": "train", "split": "validation", "difficulty": "hard", "in_buffer": False}
    write_examples(path, [(ODD, own)], SPLIT_SCHEMA)
    assert load(database, "examples", A, [path]) == 1
    columns = "example_id, group_id, split, tool_count, tools->0->>'name', messages->1->>'content', gold->1->>'name'"
    assert ask(database, f"SELECT {columns} FROM examples") == [
        ("odd", "jsonl_1", "validation", 2, "f g", "«q»", "h"),
    ]
    assert set(EXAMPLE_SCHEMA.names) | set(SPLIT_SCHEMA.names) | {"artifact"} == {
        row[0] for row in ask(database, "SELECT column_name FROM (DESCRIBE examples)")
    }
