"""Tool descriptions in JSON Schema's own names."""

from __future__ import annotations

from typing import Any

import pytest

from itool_pipeline.calls.tool_schema import json_schema


def test_python_names_become_json_names_at_every_depth() -> None:
    tool = {
        "name": "f",
        "description": "A dict of float.",
        "parameters": {
            "type": "dict",
            "properties": {
                "type": {"type": "float", "default": "float", "enum": ["dict"]},
                "items": {"type": "array", "items": {"type": "tuple", "items": {"type": "any"}}},
                "deep": {"type": "dict", "properties": {"x": {"type": "string"}, "y": {"type": ["integer", "null"]}}},
            },
            "required": ["type"],
        },
    }
    assert json_schema(tool) == {
        "name": "f",
        "description": "A dict of float.",
        "parameters": {
            "type": "object",
            "properties": {
                "type": {"type": "number", "default": "float", "enum": ["dict"]},
                "items": {"type": "array", "items": {"type": "array", "items": {}}},
                "deep": {"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": ["integer", "null"]}}},
            },
            "required": ["type"],
        },
    }
    assert tool["parameters"]["type"] == "dict"  # type: ignore[index]


@pytest.mark.parametrize("parameters", [None, {}, {"properties": [1]}, {"type": 3, "properties": {"a": "text"}}])
def test_odd_descriptions_are_left_as_they_are(parameters: Any) -> None:
    assert json_schema({"name": "f", "parameters": parameters}) == {"name": "f", "parameters": parameters or {}}
