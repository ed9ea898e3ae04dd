"""Tools in other spellings; what describes parameters and is not read is refused, never taken for none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.data.conversations.tool_spellings import BUILT_IN_LEFT_OUT, TWICE_LEFT_OUT
from itool_pipeline_tests.data.conversations.rows_in_lines import (
    ANSWER,
    SCHEMA,
    USER,
    WEATHER,
    changes,
    examples,
    reason,
    row,
)

NAMED = {"name": "get_weather", "description": "The weather."}
WITHOUT_REQUIRED = {key: value for key, value in SCHEMA.items() if key != "required"}
NOTHING = {"type": "object", "properties": {}}


def tools(folder: Path, *given: Any) -> list[Any]:
    (example,) = examples(folder, row(USER, ANSWER, tools=given))
    return list(example.tools)


@pytest.mark.parametrize(
    "tool",
    [
        WEATHER,
        {"type": "function", "function": WEATHER},
        {"type": "function", "function": json.dumps(WEATHER)},
        {"type": "function", **WEATHER, "strict": True},
        {"type": "function", "description": "The weather.", "function": {"name": "get_weather", "parameters": SCHEMA}},
        {**NAMED, "parameters": json.dumps(SCHEMA)},
        {**NAMED, "parameters": str(SCHEMA)},
        {**NAMED, "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}},
        {"type": "custom", **NAMED, "input_schema": SCHEMA},
        {**NAMED, "inputSchema": SCHEMA},
        {**NAMED, "parameters": None, "input_schema": json.dumps(SCHEMA)},
        {**NAMED, "parameters": {}, "input_schema": SCHEMA},
        {**NAMED, "parameters": SCHEMA, "inputSchema": SCHEMA},
        {**NAMED, "inputSchema": {"jsonSchema": SCHEMA}},
        {"functionDeclarations": [WEATHER]},
        {"toolSpec": {**NAMED, "inputSchema": {"json": SCHEMA}}},
        {**NAMED, "parameters": WITHOUT_REQUIRED, "required": ["city"]},
        {**NAMED, "parameters": {**WITHOUT_REQUIRED, "required": []}, "required": ["city"]},
        {**NAMED, "parameters": SCHEMA, "required": ["city"]},
        {**NAMED, "parameters": SCHEMA, "required": None},
        {"type": "function", "function": {**NAMED, "parameters": WITHOUT_REQUIRED}, "required": ["city"]},
        {**NAMED, "properties": SCHEMA["properties"], "required": ["city"]},
        {**NAMED, "parameters": SCHEMA["properties"], "required": ["city"]},
        json.dumps(WEATHER),
    ],
)
def test_the_same_tool(tmp_path: Path, tool: Any) -> None:
    assert tools(tmp_path, tool) == [WEATHER]


@pytest.mark.parametrize(
    "nothing", [{}, {"parameters": None}, {"parameters": {}}, {"parameters": ""}, {"parameters": []}]
)
def test_no_parameters(tmp_path: Path, nothing: Any) -> None:
    assert tools(tmp_path, {**NAMED, **nothing}) == [{**NAMED, "parameters": NOTHING}]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"properties": {"city": {"type": "string"}}},
        {"anyOf": [{"type": "object"}]},
        {"type": "dict", "properties": {"type": {"type": "str"}}, "additionalProperties": False},
        {"$ref": "#/$defs/a", "$defs": {"a": SCHEMA}},
        {"type": "object", "properties": {"properties": {"type": "object"}}},
    ],
)
def test_a_schema_stays_as_it_is(tmp_path: Path, schema: Any) -> None:
    assert tools(tmp_path, {**NAMED, "parameters": schema}) == [{**NAMED, "parameters": schema}]


def test_a_bare_mapping_of_parameters_is_the_properties(tmp_path: Path) -> None:
    """Also where a parameter is named as a keyword of JSON Schema is."""
    bare = {"type": {"type": "string"}, "title": {"type": "string"}}
    (tool,) = tools(tmp_path, {**NAMED, "parameters": bare})
    assert tool["parameters"] == {"type": "object", "properties": bare}


@pytest.mark.parametrize(
    ("tool", "why"),
    [
        ({**NAMED, "args": {"city": {"type": "string"}}}, "a tool has `args`, which is not read: 'get_weather'"),
        ({**NAMED, "arguments": [{"name": "city"}]}, "a tool has `arguments`, which is not read"),
        ({**NAMED, "inputs": {"city": {"type": "string"}}}, "a tool has `inputs`, which is not read"),
        ({**NAMED, "required_parameters": [{"name": "city"}]}, "a tool has `required_parameters`, which is not read"),
        ({"type": "custom", **NAMED, "format": {"type": "text"}}, "a tool has `format`, which is not read"),
        ({"type": "custom", "custom": NAMED}, "a tool has no name"),
        ({**WEATHER, "input_schema": NOTHING}, "a tool has both `parameters` and `input_schema`"),
        ({**WEATHER, "properties": {"town": {}}}, "a tool has `properties` beside its parameters: 'get_weather'"),
        ({**WEATHER, "required": ["days"]}, "a tool has two lists `required`"),
        ({**WEATHER, "required": True}, "the `required` of a tool is not a list: 'get_weather' has True"),
        ({**NAMED, "parameters": "city"}, "the parameters of a tool are not JSON: 'get_weather'"),
        ({**NAMED, "parameters": [{"name": "city"}]}, "the parameters of a tool are not an object"),
        ({**NAMED, "parameters": {"properties": ["city"]}}, "the properties of a tool are not an object"),
        (
            {**NAMED, "parameters": {"type": "object", "city": {"type": "string"}}},
            "the parameters of a tool are no JSON",
        ),
        ({**WEATHER, "description": ["The weather."]}, "the description of a tool is not text"),
        ("get_weather", "a tool is not JSON"),
    ],
)
def test_a_tool_that_cannot_be_read_says_why(tmp_path: Path, tool: Any, why: str) -> None:
    assert reason(tmp_path, row(USER, ANSWER, tools=[tool])).startswith(why)


def test_what_a_service_has_built_in_is_left_out(tmp_path: Path) -> None:
    given = ({"type": "web_search"}, WEATHER, {"type": "web_search_20250305", "name": "web_search", "max_uses": 5})
    assert tools(tmp_path, *given) == [WEATHER]
    assert changes(tmp_path, row(USER, ANSWER, tools=given)) == {BUILT_IN_LEFT_OUT: 2}


def test_a_tool_that_is_listed_twice_is_one(tmp_path: Path) -> None:
    other = {"name": "get_weather", "parameters": {}}
    given = (WEATHER, {"type": "function", "function": WEATHER}, other)
    assert [tool["description"] for tool in tools(tmp_path, *given)] == ["The weather.", ""]
    assert changes(tmp_path, row(USER, ANSWER, tools=given)) == {TWICE_LEFT_OUT: 1}


def test_keys_that_prompts_do_not_show_are_counted(tmp_path: Path) -> None:
    given = {
        **WEATHER,
        "returns": {"type": "number"},
        "strict": True,
        "category": "",
        "target": "x",
        "input_examples": [1],
    }
    assert tools(tmp_path, given) == [WEATHER]
    left_out = {f"keys of tools left out: `{key}`": 1 for key in ("returns", "target", "input_examples")}
    assert changes(tmp_path, row(USER, ANSWER, tools=(given,))) == left_out
