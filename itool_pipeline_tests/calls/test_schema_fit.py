"""Calls against the tools that they call, case by case."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from itool_pipeline.calls.schema_fit import (
    NO_SUCH_PARAMETER,
    NONE_DESCRIBED,
    NOT_IN_ENUM,
    OTHER_TYPE,
    REQUIRES_ANOTHER,
    call_contradictions,
    loose_values,
)
from itool_pipeline.calls.types import Call

CITY = {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}}


def tool(**parameters: Any) -> dict[str, Any]:
    return {"name": "weather", "parameters": {"type": "object", **parameters}}


@pytest.mark.parametrize(
    ("described", "arguments", "kinds"),
    [
        (tool(properties=CITY, required=["city"]), {"city": "Oslo"}, []),
        (tool(properties=CITY, required=["city"]), {"city": None, "days": "x"}, []),
        (tool(properties=CITY, required=["city"]), {"town": "Oslo"}, [NO_SUCH_PARAMETER, REQUIRES_ANOTHER]),
        (tool(properties=CITY), {"City": "Oslo"}, [NO_SUCH_PARAMETER]),
        (tool(properties=CITY, required=["city"]), {}, [REQUIRES_ANOTHER]),
        # what has a default need not be given, nor what is required without being described
        (tool(properties=CITY, required=["days", "lost"]), {"city": "Oslo"}, []),
        (tool(properties=CITY, required=None), {}, []),
        # schemas that allow more than they name
        (tool(properties=CITY, additionalProperties=True), {"town": "Oslo"}, []),
        (tool(properties=CITY, additionalProperties={"type": "string"}), {"town": "Oslo"}, []),
        (tool(properties=CITY, additionalProperties={}), {"town": "Oslo"}, []),
        (tool(properties=CITY, additionalProperties=False), {"town": "Oslo"}, [NO_SUCH_PARAMETER]),
        (tool(properties=CITY, additionalProperties=None), {"town": "Oslo"}, [NO_SUCH_PARAMETER]),
        (tool(properties=CITY, patternProperties={"^x-": {}}), {"x-a": 1}, []),
        (tool(properties=CITY, anyOf=[{"properties": {"town": {}}}]), {"town": "Oslo"}, []),
        ({"name": "weather", "parameters": {"$ref": "#/$defs/W"}}, {"town": "Oslo"}, []),
        # tools that describe no parameter, and one that says it has none
        ({"name": "weather"}, {"town": "Oslo"}, []),
        ({"name": "weather", "parameters": None}, {"town": "Oslo"}, []),
        (tool(properties={}), {"town": "Oslo"}, []),
        (tool(properties={}, additionalProperties=False), {"town": "Oslo"}, [NO_SUCH_PARAMETER]),
        # a bare mapping, and BFCL's variant
        ({"name": "weather", "parameters": {"city": {"type": "str"}}}, {"town": "Oslo"}, [NO_SUCH_PARAMETER]),
        (
            {"name": "weather", "parameters": {"type": "dict", "properties": CITY, "required": ("city",)}},
            {"days": 2},
            [REQUIRES_ANOTHER],
        ),
    ],
)
def test_contradictions(described: dict[str, Any], arguments: dict[str, Any], kinds: list[str]) -> None:
    found = list(call_contradictions(Call("weather", arguments), described))
    assert [reason.partition(": ")[0] for reason in found] == kinds


def test_contradictions_name_what_is_there() -> None:
    found = call_contradictions(Call("weather", {"town": "Oslo"}), tool(properties=CITY, required=["city"]))
    assert list(found) == [
        f"{NO_SUCH_PARAMETER}: 'town' of 'weather', which has ['city', 'days']",
        f"{REQUIRES_ANOTHER}: 'city' of 'weather', which is given ['town']",
    ]


@pytest.mark.parametrize(
    ("described", "value", "kind"),
    [
        ({"type": "string"}, "x", ""),
        ({"type": "string"}, 1, OTHER_TYPE),
        ({"type": "string"}, None, OTHER_TYPE),
        ({"type": ["string", "null"]}, None, ""),
        ({"type": "integer"}, 1, ""),
        ({"type": "integer"}, 1.0, ""),
        ({"type": "integer"}, 1.5, OTHER_TYPE),
        ({"type": "integer"}, True, OTHER_TYPE),
        ({"type": "integer"}, "1", OTHER_TYPE),
        ({"type": "number"}, 1, ""),
        ({"type": "float"}, 1, ""),
        ({"type": "number"}, False, OTHER_TYPE),
        ({"type": "boolean"}, False, ""),
        ({"type": "boolean"}, "false", OTHER_TYPE),
        ({"type": "array"}, [1], ""),
        ({"type": "tuple"}, (1,), ""),
        ({"type": "array"}, "[1]", OTHER_TYPE),
        ({"type": "dict"}, {}, ""),
        ({"type": "object"}, [], OTHER_TYPE),
        # of what JSON Schema has no word for, nothing is said
        ({"type": "any"}, 1, ""),
        ({"type": "date"}, 1, ""),
        ({"type": ["string", "date"]}, 1, ""),
        ({"type": {"a": 1}}, 1, ""),
        ({}, 1, ""),
        (True, 1, ""),
        ({"enum": ["a", "b"]}, "a", ""),
        ({"enum": ["a", "b"]}, "A", NOT_IN_ENUM),
        ({"enum": [1]}, 1.0, ""),
        ({"enum": [1]}, True, NOT_IN_ENUM),
        ({"enum": None}, "a", ""),
    ],
)
def test_loose_values(described: Any, value: Any, kind: str) -> None:
    found = list(loose_values(Call("weather", {"x": value}), tool(properties={"x": described})))
    assert found == ([kind] if kind else [])


def test_every_loose_value_is_one() -> None:
    described = tool(properties={"a": {"type": "string", "enum": ["x"]}, "b": {"type": "integer"}})
    found = Counter(loose_values(Call("weather", {"a": 1, "b": "1"}), described))
    assert found == {OTHER_TYPE: 2, NOT_IN_ENUM: 1}
    assert list(loose_values(Call("weather", {"a": 1}), {"name": "weather"})) == [NONE_DESCRIBED]
    assert list(loose_values(Call("weather", {}), {"name": "weather"})) == []
