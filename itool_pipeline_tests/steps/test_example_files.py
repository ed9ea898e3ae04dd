"""Examples in Parquet: back whole and in order, by id without reading the rest, loadable as the table they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from itool_pipeline.calls.types import GoldCall
from itool_pipeline.core.difficulty import measure_size
from itool_pipeline.core.reward import GradePrompt, SearchProblem
from itool_pipeline.core.types import Example, Expectation, Message
from itool_pipeline.data.example_codec import EXAMPLE_COLUMNS, decode_example, encode_example
from itool_pipeline.steps import example_files
from itool_pipeline.steps.example_files import (
    read_examples,
    read_problems,
    read_response_tokens,
    read_tool_lengths,
    size_of,
    training_row,
    write_cases,
    write_training_examples,
)
from itool_pipeline.store.database import Database
from itool_pipeline.store.table_files import read_table_rows
from itool_pipeline.store.tables import EXAMPLES
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
ANY_CALL = replace(example("any"), expects=Expectation.ANY_CALL)
WRITTEN = [example("b", "what\nnow?"), ODD, example("a", group="g"), ANY_CALL]


def rendered(examples: Iterable[Example]) -> Iterator[dict[str, Any]]:
    """The n-th has n tokens in its prompt, and other numbers everywhere."""
    for n, x in enumerate(examples):
        grade = GradePrompt((10 * n, 1), (10 * n + 2,), (3, 4, 5, 10 * n))
        yield training_row(x, range(n), (7, n), grade, tokenised_alone=n == 1)


def test_the_codec_is_inverted() -> None:
    for x in WRITTEN:
        assert decode_example(encode_example(x)) == x
    assert tuple(encode_example(ODD)) == EXAMPLE_COLUMNS
    with pytest.raises(ValueError, match="JSON"):
        encode_example(replace(ODD, gold=(GoldCall("f", {"a": (float("nan"),)}),)))


@pytest.mark.parametrize("group", [1, 2, 500])
def test_examples_come_back_whole_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    monkeypatch.setattr(example_files, "EXAMPLE_GROUP", group)
    path = tmp_path / "x.parquet"
    assert write_training_examples(path, rendered(WRITTEN)) == 4
    assert list(read_examples(path)) == WRITTEN
    assert list(read_examples(path, {"a", "odd", "unknown"})) == WRITTEN[1:3]
    assert list(read_examples(path, set())) == []
    assert pq.ParquetFile(path).num_row_groups == {1: 4, 2: 2, 500: 1}[group]


def test_no_examples_are_a_file_too(tmp_path: Path) -> None:
    assert write_training_examples(tmp_path / "x.parquet", []) == 0
    assert list(read_examples(tmp_path / "x.parquet")) == []
    assert list(read_examples(tmp_path / "x.parquet", {"a"})) == []


def test_token_ids_come_back_as_they_were_rendered(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_training_examples(path, rendered(WRITTEN))
    found = list(read_response_tokens(path, {"odd", "any"}))
    assert [(x.id, x.expects, x.prompt, x.response) for x in found] == [
        ("odd", Expectation.CALLS, (0,), (7, 1)),
        ("any", Expectation.ANY_CALL, (0, 1, 2), (7, 3)),
    ]
    assert list(read_problems(path, {"a"})) == [
        SearchProblem(WRITTEN[2], (0, 1), GradePrompt((20, 1), (22,), (3, 4, 5, 20)))
    ]
    assert dict(read_tool_lengths(path, {"odd", "b"})) == {x.id: len(str(x.tools)) for x in WRITTEN[:2]}
    rows = list(read_table_rows(path, ["part", "prompt_tokens", "tokenised_alone"]))
    assert [tuple(row.values()) for row in rows] == [("train", n, n == 1) for n in range(4)]


def test_cases_have_prompts_where_the_template_makes_them(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    prompts = {"b": (4, 5), "odd": None, "a": (), "any": (6,)}
    assert write_cases(path, WRITTEN, lambda x: prompts[x.id]) == 4
    assert list(read_examples(path)) == WRITTEN
    rows = read_table_rows(path, ["part", "prompt_tokens", "prompt_ids", "response_ids", "grade_before_ids"])
    assert [tuple(row.values()) for row in rows] == [
        ("held_out", 2, [4, 5], None, None),
        ("held_out", None, None, None, None),
        ("held_out", 0, [], None, None),
        ("held_out", 1, [6], None, None),
    ]


def test_no_more_than_a_row_group_is_asked_for_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The examples are made as they are written: none is kept that was written before."""
    made: list[int] = []

    def many() -> Iterator[Example]:
        for i in range(250):
            made.append(i)
            yield replace(ODD, id=str(i))

    seen: list[int] = []
    write_table = pq.ParquetWriter.write_table

    def counting(self: Any, table: pa.Table) -> None:
        seen.append(len(made))
        write_table(self, table)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", counting)
    write_training_examples(tmp_path / "x.parquet", rendered(many()))
    assert seen == [100, 200, 250]


def test_by_id_only_the_row_groups_with_a_wanted_example_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.parquet"
    write_training_examples(path, rendered(replace(ODD, id=str(i)) for i in range(1000)))
    read: dict[int, set[str]] = {}
    read_row_group = pq.ParquetFile.read_row_group

    def noting(self: Any, group: int, columns: list[str]) -> pa.Table:
        read.setdefault(group, set()).update(columns)
        return read_row_group(self, group, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noting)
    assert [x.id for x in read_examples(path, {"3", "0", "777"})] == ["0", "3", "777"]
    assert {group for group, columns in read.items() if columns > {"example_id"}} == {0, 7}
    assert set(read) == set(range(10))
    read.clear()
    assert [x.id for x in read_response_tokens(path, {"999"})] == ["999"]
    assert set().union(*read.values()) == {"example_id", "expects", "prompt_ids", "response_ids"}


def test_the_file_is_the_table(tmp_path: Path) -> None:
    """What `examples` writes is loaded into DuckDB as it is, without the token ids."""
    paths, database = [tmp_path / "x.parquet", tmp_path / "y.parquet"], Database(tmp_path / "itool.duckdb")
    write_training_examples(paths[0], rendered([ODD]))
    write_cases(paths[1], [example("a")], lambda x: (1, 2, 3))
    assert load(database, "examples", A, paths) == 2
    columns = "example_id, group_id, part, prompt_tokens, tool_count, tools->0->>'name', gold->1->>'name'"
    assert ask(database, f"SELECT {columns} FROM examples ORDER BY example_id DESC") == [
        ("odd", "jsonl_1", "train", 0, 2, "f g", "h"),
        ("a", "a", "held_out", 3, 1, "f_a", None),
    ]
    measured = read_table_rows(paths[0], ["tool_count", "tool_chars", "call_count"])
    assert [size_of(row) for row in measured] == [measure_size(ODD)]
    assert set(EXAMPLE_COLUMNS) < set(EXAMPLES.names)
