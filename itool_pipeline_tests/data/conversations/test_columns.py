"""Columns, keys and roles under names of their own mean what the usual ones do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from itool_pipeline.config import ColumnNames, JsonlData, MessageTags
from itool_pipeline.core.types import Example
from itool_pipeline.data.conversations.columns import renamed_row
from itool_pipeline.data.layouts import read_in_layout, resolved_layout
from itool_pipeline.data.rows import Quarantined, Row, RowError
from itool_pipeline.data.streams import UnreadableFile
from itool_pipeline_tests.data.conversations.rows_in_lines import ANSWER, CALL, RESULT, USER, WEATHER, meaning, row

TAGS = {
    "role_tag": "speaker",
    "content_tag": "said",
    "user_tag": "client",
    "assistant_tag": "agent",
    "observation_tag": "api",
    "function_tag": "function",
    "system_tag": "rules",
}
CALLED = json.dumps({"name": "get_weather", "arguments": {"city": "Oslo"}})
DIALOG = [
    {"speaker": "rules", "said": "Be brief."},
    {"speaker": "client", "said": "Oslo?"},
    {"speaker": "function", "said": CALLED},
    {"speaker": "api", "said": "3"},
    {"speaker": "agent", "said": "3 degrees."},
]


def read_as(folder: Path, rows: list[Any], **names: Any) -> list[Row]:
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    data = JsonlData(type="jsonl", path=str(path), **names)
    return list(read_in_layout(data, [path], resolved_layout(data, [path])))


def meant(rows: list[Row]) -> list[Any]:
    assert all(isinstance(one, Example) for one in rows), rows
    return [(one.tools, one.messages, one.response, one.gold) for one in rows if isinstance(one, Example)]


def test_columns_and_tags_of_ones_own(tmp_path: Path) -> None:
    usual = meaning(tmp_path, row({"role": "system", "content": "Be brief."}, USER, CALL, RESULT, ANSWER))
    named = {"columns": ColumnNames(messages="dialog", tools="apis"), "tags": MessageTags(**TAGS)}
    given = {"dialog": DIALOG, "apis": [WEATHER], "conversations": "not looked at", "functions": [3]}
    assert meant(read_as(tmp_path, [given], **named)) == usual
    as_text = {"dialog": json.dumps(DIALOG), "apis": json.dumps([WEATHER])}
    assert meant(read_as(tmp_path, [as_text], **named)) == usual


def test_a_role_may_mean_something_else_than_usual(tmp_path: Path) -> None:
    """LLaMA-Factory's example of messages in OpenAI's roles: a turn of the role function makes the calls."""
    given = {
        "messages": [
            USER,
            {"role": "function", "content": CALLED},
            {"role": "observation", "content": "3"},
            ANSWER,
        ],
        "tools": json.dumps([WEATHER]),
    }
    tags = MessageTags(role_tag="role", content_tag="content", user_tag="user", function_tag="function")
    assert meant(read_as(tmp_path, [given], tags=tags)) == meaning(tmp_path, row(USER, CALL, RESULT, ANSWER))
    assert isinstance(read_as(tmp_path, [given])[0], Quarantined)


def test_alpaca_under_other_names(tmp_path: Path) -> None:
    given = {"task": "Say hello", "about": "to Ada", "reply": "Hello, Ada.", "rules": "Be brief."}
    columns = ColumnNames(prompt="task", query="about", response="reply", system="rules")
    (only,) = meant(read_as(tmp_path, [given], columns=columns))
    assert [(m.role, m.content) for m in only[1]] == [("system", "Be brief."), ("user", "Say hello\nto Ada")]
    assert only[2] == "Hello, Ada."


def test_a_named_column_that_no_first_row_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile) as refused:
        read_as(tmp_path, [row(USER, ANSWER)], columns=ColumnNames(messages="messages", tools="tool"))
    assert "none of the first 1 rows has data.columns.tools: tool. They have messages, tools." in str(refused.value)


def test_a_named_column_that_a_row_lacks_is_as_null(tmp_path: Path) -> None:
    first, second = {"dialog": [USER, ANSWER], "apis": [WEATHER]}, {"dialog": [USER, ANSWER]}
    one, other = meant(read_as(tmp_path, [first, second], columns=ColumnNames(messages="dialog", tools="apis")))
    assert [len(one[0]), len(other[0])] == [1, 0]


def test_a_message_that_says_two_things_is_refused() -> None:
    tags = MessageTags(role_tag="speaker")
    given = {"messages": [{"speaker": "user", "role": "assistant", "content": "x"}]}
    with pytest.raises(RowError, match="both `speaker` and `role`"):
        renamed_row(given, ColumnNames(), tags)
    same = {"messages": [{"speaker": "user", "role": "user", "content": "x"}]}
    assert renamed_row(same, ColumnNames(), tags) == {"messages": [{"role": "user", "content": "x"}]}
    with pytest.raises(RowError, match="the messages are not a list"):
        renamed_row({"messages": 3}, ColumnNames(), tags)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "name a local file"),
        ({"path": "a", "name": "b/c"}, "name a local file"),
        ({"path": "a", "files": "x"}, "are of a data set on the hub"),
        ({"path": "a", "revision": "v1"}, "are of a data set on the hub"),
        ({"path": "a", "layout": "sharegpt"}, "Input should be 'auto'"),
        ({"path": "a", "layout": "glaive", "columns": {"tools": "x"}}, "columns and tags are for messages"),
        ({"path": "a", "columns": {"images": "x"}}, "Extra inputs"),
        ({"path": "a", "tags": {"user_tag": "x", "assistant_tag": "x"}}, "two tags have one name: x"),
        ({"path": "a", "tags": {"role_tag": "x", "content_tag": "x"}}, "two tags have one name: x"),
    ],
)
def test_what_the_config_refuses(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        JsonlData.model_validate({"type": "jsonl", **given})
    JsonlData.model_validate({"type": "jsonl", "path": "a", "tags": {"role_tag": "x", "user_tag": "x"}})
