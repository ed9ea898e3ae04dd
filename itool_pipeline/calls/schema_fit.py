"""Whether a call that is held to be right fits the tool that it calls: its parameters, and their types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from itool_pipeline.calls.comparing import is_equal
from itool_pipeline.calls.tool_schema import Tool, json_schema, parameter_schemas, required_parameters
from itool_pipeline.calls.types import Call

NO_SUCH_PARAMETER = "the call does not fit its tool, which has no such parameter"
REQUIRES_ANOTHER = "the call does not fit its tool, which requires another parameter"

OTHER_TYPE = "a value is not of the type that the tool states"
NOT_IN_ENUM = "a value is none of those that the tool lists"
NONE_DESCRIBED = "parameters are given to a tool that describes none"

_TYPES: Mapping[Any, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}
_OPENING = ("additionalProperties", "patternProperties", "$ref", "allOf", "anyOf", "oneOf", "if")
"""Keywords of a schema by which it may have more parameters than `properties` names."""


def call_contradictions(call: Call, tool: Tool) -> Iterator[str]:
    """What the call says of its parameters and the tool denies, as reasons: `kind: particulars`.

    A parameter that the tool does not have, unless its schema is open or names none; one that it requires, has no
    default for, and is not given.
    """
    known, schema = parameter_schemas(tool), tool.get("parameters") or {}
    is_open = any(schema.get(keyword) not in (None, False) for keyword in _OPENING)
    is_closed = bool(known) or schema.get("additionalProperties") is False
    if is_closed and not is_open:
        for name in call.arguments:
            if name not in known:
                yield f"{NO_SUCH_PARAMETER}: {name!r} of {call.name!r}, which has {list(known)}"
    for name in required_parameters(tool):
        described = known.get(name)
        if name not in call.arguments and isinstance(described, Mapping) and "default" not in described:
            yield f"{REQUIRES_ANOTHER}: {name!r} of {call.name!r}, which is given {list(call.arguments)}"


def loose_values(call: Call, tool: Tool) -> Iterator[str]:
    """What is at odds with the tool's schema and may be meant all the same, one word of the kind for each value.

    Data sets are careless of types; how often it happens is for people to know.
    """
    known = parameter_schemas(json_schema(tool))
    if call.arguments and not known:
        yield NONE_DESCRIBED
    for name, value in call.arguments.items():
        described = known.get(name)
        if not isinstance(described, Mapping):
            continue
        if not _is_of_type(value, described.get("type")):
            yield OTHER_TYPE
        allowed = described.get("enum")
        if isinstance(allowed, list) and not any(is_equal(value, option) for option in allowed):
            yield NOT_IN_ENUM


def _is_of_type(value: Any, stated: Any) -> bool:
    """By JSON Schema, where 5.0 is an integer. What it has no word for allows every value."""
    kinds = stated if isinstance(stated, list) else [stated]
    if not all(isinstance(kind, str) and kind in _TYPES for kind in kinds):
        return True
    if isinstance(value, float) and value.is_integer() and "integer" in kinds:
        return True
    return any(isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool)) for kind in kinds)
