"""Reads a tool's description: JSON Schema, BFCL's variant of it, or a bare mapping of parameters as in xLAM."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from itool_pipeline.calls.types import Call

Tool = Mapping[str, Any]

POSITIONAL = re.compile(r"\*[0-9]+")
"""The name under which a call keeps an argument without a name: its place, from 0."""

_JSON_TYPES = {
    **{"dict": "object", "float": "number", "double": "number", "long": "integer"},
    **{"tuple": "array", "list": "array", "int": "integer", "str": "string", "bool": "boolean"},
}


def tool_names(tools: Sequence[Tool]) -> tuple[str, ...]:
    return tuple(str(tool["name"]) for tool in tools)


def find_tool(tools: Sequence[Tool], name: str) -> Tool | None:
    """The first tool of this name."""
    return next((tool for tool in tools if tool["name"] == name), None)


def parameter_schemas(tool: Tool) -> Mapping[str, Any]:
    """The schema of each parameter by name, in the order of the description."""
    parameters = tool.get("parameters") or {}
    found = parameters.get("properties")
    if isinstance(found, Mapping):
        return found
    bare = bool(parameters) and all(isinstance(schema, Mapping) for schema in parameters.values())
    return parameters if bare else {}


def required_parameters(tool: Tool) -> tuple[str, ...]:
    """The parameters that must be given. What stands among their names and is no text names none."""
    names = (tool.get("parameters") or {}).get("required")
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list | tuple) else ()


def bind_positional(call: Call, tools: Sequence[Tool]) -> Call:
    """The call with its positional arguments named after the tool's parameters, in their order.

    One that finds no parameter, or one that has its value already, keeps its positional name.
    """
    tool = find_tool(tools, call.name)
    order = list(parameter_schemas(tool)) if tool else []
    bound: dict[str, Any] = {}
    for key, value in call.arguments.items():
        index = int(key[1:]) if POSITIONAL.fullmatch(key) else len(order)
        free = index < len(order) and order[index] not in call.arguments
        bound[order[index] if free else key] = value
    return Call(call.name, bound)


def json_schema(tool: Tool) -> Tool:
    """The tool with JSON Schema's names for the types that BFCL and ToolACE name as Python does."""
    return {**tool, "parameters": _with_json_types(tool.get("parameters") or {})}


def _with_json_types(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    named = dict(schema)
    if schema.get("type") == "any":
        del named["type"]
    elif isinstance(schema.get("type"), str):
        named["type"] = _JSON_TYPES.get(schema["type"], schema["type"])
    if isinstance(schema.get("properties"), Mapping):
        named["properties"] = {name: _with_json_types(inner) for name, inner in schema["properties"].items()}
    if "items" in schema:
        named["items"] = _with_json_types(schema["items"])
    return named
