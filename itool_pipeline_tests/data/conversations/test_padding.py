"""Nulls that mean nothing go, those that the schema allows stay; a table's padding changes no example."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from itool_pipeline.calls.types import GoldCall
from itool_pipeline.data.conversations.padding import NULL_ARGUMENTS, NULLS_OF_TOOLS, arguments_without_padding
from itool_pipeline_tests.data.conversations.rows_in_lines import ANSWER, USER, calling, changes, examples, row


def parameters(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
PLACE = parameters(("lat",), lat={"type": "number"}, name=TEXT)


@pytest.mark.parametrize(
    ("schema", "given", "kept"),
    [
        (parameters(city=TEXT), {"city": "Oslo", "symbol": None}, {"city": "Oslo"}),
        (parameters(city=TEXT, days=NUMBER), {"city": "Oslo", "days": None}, {"city": "Oslo"}),
        (parameters(("city",), city=TEXT), {"city": None}, {"city": None}),
        (parameters(days={"type": ["integer", "null"]}), {"days": None}, {"days": None}),
        (parameters(days={"type": "integer", "nullable": True}), {"days": None}, {"days": None}),
        (parameters(days={"anyOf": [NUMBER, {"type": "null"}]}), {"days": None}, {"days": None}),
        (parameters(days={"oneOf": [NUMBER, TEXT]}), {"days": None}, {}),
        (parameters(days={"enum": [1, None]}), {"days": None}, {"days": None}),
        (parameters(days={"type": "integer", "enum": [1, 2]}), {"days": None}, {}),
        (parameters(days={"const": None}), {"days": None}, {"days": None}),
        (parameters(days={}), {"days": None}, {"days": None}),
        (parameters(days={"description": "of anything"}), {"days": None}, {"days": None}),
        (parameters(days={"type": "Optional[int]"}), {"days": None}, {"days": None}),
        (parameters(days={"type": "any"}), {"days": None}, {"days": None}),
        (parameters(days={"type": "company"}), {"days": None}, {}),
        ({**parameters(days={"$ref": "#/$defs/n"}), "$defs": {"n": {"type": "null"}}}, {"days": None}, {"days": None}),
        ({**parameters(days={"$ref": "#/$defs/n"}), "$defs": {"n": NUMBER}}, {"days": None}, {}),
        ({**parameters(days={"allOf": [{"$ref": "#/$defs/n"}]}), "$defs": {"n": NUMBER}}, {"days": None}, {}),
        (parameters(place=PLACE), {"place": {"lat": 1.5, "name": None, "zip": None}}, {"place": {"lat": 1.5}}),
        (parameters(place=PLACE), {"place": {"lat": None, "name": None}}, {"place": {"lat": None}}),
        (parameters(opts=parameters(a=TEXT)), {"opts": {"a": None}}, {}),
        (parameters(("opts",), opts=parameters(a=TEXT)), {"opts": {"a": None}}, {"opts": {}}),
        (parameters(opts=parameters(a=TEXT)), {"opts": {}}, {"opts": {}}),
        (parameters(opts=parameters(a={"type": ["string", "null"]})), {"opts": {"a": None}}, {"opts": {"a": None}}),
        (parameters(city=TEXT), {"city": "Oslo", "place": {"lat": None}}, {"city": "Oslo"}),
        (
            parameters(stops={"type": "array", "items": PLACE}),
            {"stops": [{"lat": 1, "zip": None}, {"lat": 2, "name": None}, None]},
            {"stops": [{"lat": 1}, {"lat": 2}, None]},
        ),
        (
            parameters(stops={"anyOf": [{"type": "array", "items": PLACE}, {"type": "null"}]}),
            {"stops": [{"lat": 1, "zip": None}]},
            {"stops": [{"lat": 1}]},
        ),
        (parameters(place={"anyOf": [PLACE, TEXT]}), {"place": {"lat": 1, "zip": None}}, {"place": {"lat": 1}}),
        (parameters(filter={"type": "object"}), {"filter": {"a": None}}, {"filter": {"a": None}}),
        (
            parameters(filter={"type": "object", "additionalProperties": True}),
            {"filter": {"a": None}},
            {"filter": {"a": None}},
        ),
        (
            parameters(headers={"type": "object", "additionalProperties": TEXT}),
            {"headers": {"a": "x", "b": None}},
            {"headers": {"a": "x"}},
        ),
        (
            parameters(city=TEXT),
            {"city": ["a", None], "x": 0, "y": "", "z": False, "l": []},
            {"city": ["a", None], "x": 0, "y": "", "z": False, "l": []},
        ),
        ({"type": "object"}, {"symbol": None}, {}),
        ({}, {"symbol": None}, {}),
    ],
)
def test_a_null_argument_stays_where_it_is_a_value(schema: Any, given: Any, kept: Any) -> None:
    counted = Counter[str]()
    assert arguments_without_padding(given, schema, counted) == kept
    assert (counted[NULL_ARGUMENTS] > 0) == (kept != given)


@pytest.mark.parametrize(
    ("given", "cleaned"),
    [
        (parameters(city={**TEXT, "enum": None, "items": None, "default": None}), parameters(city=TEXT)),
        (parameters(city=TEXT, symbol=None), parameters(city=TEXT)),
        (parameters(city=TEXT, symbol={"type": None, "enum": None}), parameters(city=TEXT)),
        (parameters(("any",), city=TEXT, any=None), parameters(("any",), city=TEXT, any={})),
        ({"type": "object", "properties": None, "required": None}, {"type": "object", "properties": {}}),
        ({"type": "object", "properties": {"a": None}, "required": []}, parameters()),
        (
            parameters(stops={"type": "array", "items": {"type": "object", "properties": {"a": TEXT, "b": None}}}),
            parameters(stops={"type": "array", "items": {"type": "object", "properties": {"a": TEXT}}}),
        ),
        (
            parameters(a={"anyOf": [{**TEXT, "enum": None}, {"type": "null"}]}),
            parameters(a={"anyOf": [TEXT, {"type": "null"}]}),
        ),
        (parameters(a={"enum": ["x", None], "const": None}), parameters(a={"enum": ["x", None]})),
        (parameters(a={"const": None}), parameters(a={"const": None})),
        (parameters(a={}), parameters(a={})),
        (
            parameters(a={"type": "object", "default": {"b": 1, "c": None}}),
            parameters(a={"type": "object", "default": {"b": 1, "c": None}}),
        ),
    ],
)
def test_a_null_keyword_says_nothing(tmp_path: Path, given: Any, cleaned: Any) -> None:
    line = row(USER, ANSWER, tools=[{"name": "f", "description": None, "parameters": given}])
    (example,) = examples(tmp_path, line)
    assert example.tools[0]["parameters"] == cleaned
    assert (NULLS_OF_TOOLS in changes(tmp_path, line)) == (given != cleaned)


def tool(name: str, schema: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "d", "parameters": schema}}


ROWS = [
    row(USER, calling({"function": {"name": name, "arguments": arguments}}), tools=[tool(name, schema)])
    for name, arguments, schema in (
        ("get_weather", {"city": "Oslo"}, parameters(("city",), city=TEXT, days=NUMBER)),
        ("get_weather", {"city": "Rome", "days": 2}, parameters(("city",), city=TEXT, days=NUMBER)),
        (
            "stock",
            {"symbol": "A", "opts": {"deep": True}},
            parameters(symbol={**TEXT, "enum": ["A"]}, opts=parameters(deep={"type": "boolean"})),
        ),
        ("now", {}, parameters()),
        (
            "route",
            {"stops": [{"lat": 1.5}, {"lat": 2.5, "name": "x"}]},
            parameters(stops={"type": "array", "items": PLACE}),
        ),
    )
]


def test_the_padding_of_a_table_changes_no_example(tmp_path: Path) -> None:
    """Arrow pads as `datasets` does, and is the witness; it keeps no order of keys, so arguments are compared."""
    padded = pa.Table.from_pylist(ROWS).to_pylist()
    assert json.dumps(padded).count("null") > 40
    before, after = examples(tmp_path, *ROWS), examples(tmp_path, *padded)
    assert [one.gold for one in after] == [one.gold for one in before]
    assert [one.tools for one in after] == [one.tools for one in before]
    assert before[0].gold == (GoldCall("get_weather", {"city": ("Oslo",)}),)
    counted = changes(tmp_path, *padded)
    assert counted.keys() == {NULLS_OF_TOOLS, NULL_ARGUMENTS}
