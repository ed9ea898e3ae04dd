"""The layouts that people have: found by the first rows, read alike from every kind of file, refused with reasons."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itool_pipeline.calls.types import GoldCall
from itool_pipeline.config import ColumnNames, JsonlData, MessageTags
from itool_pipeline.core.types import Example
from itool_pipeline.data.conversations.spelling_names import spelling_of
from itool_pipeline.data.layouts import LAYOUTS, layout_of, read_any_layout, read_in_layout, resolved_layout
from itool_pipeline.data.rows import Changed, PassedOver, Quarantined, Row
from itool_pipeline.data.sources import load_data
from itool_pipeline_tests.data.rows_in_layouts import (
    ANSWER,
    ARGUMENTS,
    CALL_TEXT,
    FIRST,
    GLAIVE_SYSTEM,
    HERMES_KEPT,
    LAYOUT,
    ROWS,
    WEATHER,
    WHOLE,
)


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "own.jsonl"
    path.write_bytes(lines(*rows))
    return path


def read(paths: Sequence[Path], **beside: Any) -> list[Row]:
    data = JsonlData(type="jsonl", path="x", **beside)
    return list(read_in_layout(data, paths, resolved_layout(data, paths)))


def found(rows: Sequence[Row]) -> list[Example]:
    assert not [row for row in rows if isinstance(row, Quarantined)]
    return [row for row in rows if isinstance(row, Example)]


def require_the_conversation(name: str, examples: Sequence[Example]) -> None:
    """The tools, the order of turns, the calls and their arguments are those of the conversation."""
    system = [("system", HERMES_KEPT)] if name == "hermes" else []
    calls, *words = examples
    assert [dict(tool) for tool in calls.tools] == [WEATHER]
    assert [(m.role, m.content) for m in calls.messages] == [*system, *FIRST]
    assert calls.response == '[get_weather(city="Oslo")]'
    assert calls.gold == (GoldCall("get_weather", {key: (value,) for key, value in ARGUMENTS.items()}),)
    assert len(words) == (name != "xlam")  # which has one question and its calls, and no more
    for last in words:
        assert [dict(tool) for tool in last.tools] == [WEATHER]
        assert [(m.role, m.content) for m in last.messages] == [*system, *WHOLE]
        assert (last.response, last.gold) == (ANSWER, ())


@pytest.mark.parametrize("name", ROWS)
def test_each_layout_is_found_and_read(tmp_path: Path, name: str) -> None:
    path, layout = written(tmp_path, ROWS[name]), LAYOUT.get(name, "chat")
    assert layout_of(ROWS[name]) == layout
    if name != "toolace":  # which is a chat too: see below
        assert resolved_layout(JsonlData(type="jsonl", path="x"), [path]) == layout
        require_the_conversation(name, found(list(read_any_layout(path))))
    require_the_conversation(name, found(read([path], layout=layout)))


@pytest.mark.parametrize("other", ["xlam", "glaive", "gemini"])
def test_messages_beside_another_layout_are_what_is_read(tmp_path: Path, other: str) -> None:
    """As it was before there were other layouts: keys that are not known are not looked at."""
    row = {**ROWS[other], **ROWS["openai"], "system": None}
    assert layout_of(row) == "chat"
    require_the_conversation("openai", found(list(read_any_layout(written(tmp_path, row)))))


def test_toolace_is_read_as_chats_unless_the_layout_is_named(tmp_path: Path) -> None:
    """As it was before layouts had names; the set's instructions then stay in the system text."""
    own = ROWS["toolace"]
    told = "You are an expert in composing functions. If none can be used, also point it out. "
    path = written(tmp_path, {**own, "system": f"{told}{own['system']}"})
    assert resolved_layout(JsonlData(type="jsonl", path="x"), [path]) == "chat"
    assert [m.role for m in found(list(read_any_layout(path)))[0].messages] == ["system", "user"]
    assert [m.role for m in found(read([path], layout="toolace"))[0].messages] == ["user"]


def as_parquet(path: Path, *rows: dict[str, Any]) -> None:
    """Columns of objects as a table has them; what Arrow cannot type is text, as such sets have it."""
    cells = [{key: json.dumps(v) if isinstance(v, list) else v for key, v in row.items()} for row in rows]
    pq.write_table(pa.Table.from_pylist(cells), path)


@pytest.mark.parametrize("name", ["sharegpt", "hermes", "glaive", "trl", "swift", "anthropic", "xlam"])
def test_each_layout_from_every_kind_of_file(tmp_path: Path, name: str) -> None:
    row = ROWS[name]
    parquet, table = tmp_path / "rows.parquet", tmp_path / "typed.parquet"
    as_parquet(parquet, row, row)
    contents = {
        "mark.jsonl": b"\xef\xbb\xbf" + lines(row, row).replace(b"\n", b"\r\n"),
        "array.json": b"\xef\xbb\xbf" + json.dumps([row, row], indent=1).replace("\n", "\r\n").encode(),
        "packed.jsonl.gz": gzip.compress(lines(row, row)),
        "packed.json.gz": gzip.compress(json.dumps([row, row]).encode()),
    }
    for file, content in contents.items():
        (tmp_path / file).write_bytes(content)
    paths = [parquet, *(tmp_path / file for file in contents)]
    if name in ("sharegpt", "glaive", "swift", "xlam"):  # whose columns have one type
        pq.write_table(pa.Table.from_pylist([row, row]), table)
        paths.append(table)
    for path in paths:
        examples = found(list(read_any_layout(path)))
        half = len(examples) // 2
        require_the_conversation(name, examples[:half])
        require_the_conversation(name, examples[half:])


def test_most_of_the_first_rows_decide_and_the_others_are_quarantined(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS["openai"], ROWS["glaive"], ROWS["glaive_1"], {"text": "x"}, [1])
    rows = [row for row in read_any_layout(path) if isinstance(row, Example | Quarantined)]
    assert [row.id for row in rows if isinstance(row, Example)] == ["jsonl_2_1", "jsonl_2_3", "jsonl_3_1", "jsonl_3_3"]
    nothing = "has not one conversation in `chat` or `sample`: none"
    assert [(row.position, row.reason) for row in rows if isinstance(row, Quarantined)] == [
        ("line 1", nothing),
        ("line 4", nothing),
        ("line 5", "not a JSON object"),
    ]


def test_rows_in_no_layout_do_not_decide(tmp_path: Path) -> None:
    rows = read_any_layout(written(tmp_path, *[{"text": "x"}] * 3, ROWS["glaive"]))
    assert [row.id for row in rows if isinstance(row, Example)] == ["jsonl_4_1", "jsonl_4_3"]
    (none,) = read_any_layout(written(tmp_path, {"text": "x"}))
    assert isinstance(none, Quarantined)
    assert none.reason == "no messages: the row has text"


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        ("chat", "no messages: the row has text"),
        ("glaive", "has not one conversation in `chat` or `sample`: none"),
        ("gemini", "the contents are not a list: None"),
        ("toolace", "no system text"),
        ("xlam", "no query"),
    ],
)
def test_a_row_in_another_layout_than_the_named_is_quarantined(tmp_path: Path, layout: str, reason: str) -> None:
    (row,) = read([written(tmp_path, {"text": "x"})], layout=layout)
    assert isinstance(row, Quarantined)
    assert (row.position, row.reason) == ("line 1", reason)


def test_every_layout_has_a_reason_for_a_row_of_none() -> None:
    assert set(LAYOUTS) == {"chat", "glaive", "gemini", "toolace", "xlam"}
    assert layout_of({"text": "x"}) == ""


def test_malformed_turns_of_glaive_are_quarantined_in_their_place(tmp_path: Path) -> None:
    own = ROWS["glaive"]
    again = own["chat"].replace('{"city"', '{"city')
    broken = {**own, "chat": f"{own['chat']}{again}"}
    uncalled = {**own, "chat": "USER: Hi\n\n\nFUNCTION RESPONSE: 3\n\n\nASSISTANT: Hello. <|endoftext|>"}
    rows = [row for row in read_any_layout(written(tmp_path, own, broken, uncalled)) if isinstance(row, Quarantined)]
    assert [row.position for row in rows] == ["line 2, from turn 5 on", "line 3"]
    assert rows[0].reason.startswith("writes calls as text: ")
    assert rows[1].reason == "more results than calls"


_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.sampled_from(["user", "model", "tool"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["role", "parts", "text", "functionCall", "functionResponse", "name", "args", "response"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)
_marks = ("USER:", "ASSISTANT:", "FUNCTION RESPONSE:", "SYSTEM:", "<|endoftext|>", "<functioncall>", GLAIVE_SYSTEM)
_texts = st.lists(st.sampled_from([*_marks, CALL_TEXT, "\n\n", "\n", " ", "x", "{", "'"]), max_size=14).map("".join)
_either = st.one_of(_texts, _values)
_content = st.fixed_dictionaries({"role": st.sampled_from(["user", "model"]), "parts": _values})
_contents = st.one_of(st.lists(_content, max_size=4), _values)
_odd_rows = st.one_of(
    st.fixed_dictionaries({"chat": _either}, optional={"system": _either}),
    st.fixed_dictionaries({"sample": _texts}),
    st.fixed_dictionaries({"contents": _contents}, optional={"systemInstruction": _values, "tools": _values}),
    st.fixed_dictionaries({"messages": _values}, optional={"tools": _values, "system": _values}),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=_odd_rows)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_whatever_a_row_holds_it_is_read_or_quarantined(tmp_path: Path, layout: str, row: dict[str, Any]) -> None:
    path = written(tmp_path, row)
    tags = MessageTags(role_tag="name", function_tag="model")
    of_chats = read([path], columns=ColumnNames(messages=next(iter(row))), tags=tags) if layout == "chat" else []
    for rows in (read([path], layout=layout), of_chats):
        assert all(isinstance(one, Example | Quarantined | PassedOver | Changed) for one in rows)
        assert rows != [] or rows is of_chats


@pytest.mark.parametrize("name", ROWS)
def test_what_is_nested_too_deeply_is_quarantined(tmp_path: Path, name: str) -> None:
    """At depths that one reader of JSON still takes and a function that walks through it does not."""
    for depth in range(100, 1000, 100):
        deep = json.loads("[" * depth + "]" * depth)
        for key in ROWS[name]:
            rows = read([written(tmp_path, {**ROWS[name], key: deep})], layout=LAYOUT.get(name, "chat"))
            assert rows


def test_several_files_are_one(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.json"
    first.write_bytes(lines(ROWS["openai"], 3))
    second.write_text(json.dumps([ROWS["trl"], 4]))
    rows = read([first, second])
    assert [row.id for row in rows if isinstance(row, Example)] == ["jsonl_1_1", "jsonl_1_3", "jsonl_3_1", "jsonl_3_3"]
    assert [row.position for row in rows if isinstance(row, Quarantined)] == ["a.jsonl, line 2", "b.json, row 1"]


def test_progress_through_several_files_never_goes_back(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path in paths:
        path.write_bytes(lines(*[ROWS["openai"]] * 20))
    told: list[tuple[int, int]] = []
    data = JsonlData(type="jsonl", path="x")
    list(read_in_layout(data, paths, "chat", lambda done, total: told.append((done, total))))
    total = sum(path.stat().st_size // 1000 for path in paths)
    assert told == sorted(told)
    assert told[-1] == (total, total)


@pytest.mark.parametrize(("name", "source"), [("openai", "jsonl"), ("glaive", "jsonl"), ("xlam", "xlam")])
def test_an_experiments_data_say_their_layout_and_have_one_source(tmp_path: Path, name: str, source: str) -> None:
    path = written(tmp_path, ROWS[name], {"text": "x"})
    loaded = load_data(JsonlData(type="jsonl", path=str(path)), tmp_path, seed=0)
    assert loaded.layout == LAYOUT.get(name, "chat")
    assert {loaded.source, *(row.source for row in loaded.quarantined), *(x.source for x in loaded.train)} == {source}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("openai", "OpenAI chat, tool_calls"),
        ("openai_functions", "OpenAI chat, function_call (the legacy one)"),
        ("sharegpt", "ShareGPT, turns of the role function_call"),
        ("hermes", "Hermes, calls between <tool_call> in the text"),
        ("trl_prompt", "TRL's prompt and completion, OpenAI chat, tool_calls"),
        ("swift", "messages, turns of the role tool_call"),
        ("anthropic", "Anthropic, parts tool_use and tool_result"),
        ("llamafactory_parts", "LLaMA-Factory's parts, tool_call with a value"),
    ],
)
def test_names_of_spellings(name: str, words: str) -> None:
    assert spelling_of(ROWS[name]) == words


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "Hi", "completion": "Hello"}, "TRL's prompt and completion, plain"),
        ({"instruction": "Hi", "output": "Hello"}, "Alpaca, instruction and output"),
        ({"messages": [{"role": "user", "content": "<tool_call>"}]}, "plain messages"),
        ({"conversations": [{"from": "gpt", "value": "x"}, "y"]}, "plain ShareGPT"),
        ({"messages": "no JSON"}, "plain messages"),
        ({"messages": [{"role": "user", "from": "assistant"}]}, "plain ShareGPT"),
    ],
)
def test_names_of_spellings_without_calls(row: dict[str, Any], words: str) -> None:
    assert spelling_of(row) == words
