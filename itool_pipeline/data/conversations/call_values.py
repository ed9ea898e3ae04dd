"""What a value says that is written for a call: as JSON, as Python's literals, or as text between tags."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from itool_pipeline.calls.python_values import literal_value
from itool_pipeline.calls.tool_schema import Tool, bind_positional, find_tool, parameter_schemas
from itool_pipeline.calls.types import Call
from itool_pipeline.data.rows import RowError, expect_that

_NAMES = ("name", "function", "tool", "tool_name", "function_name", "recipient_name", "action")
_ARGUMENTS = ("arguments", "parameters", "args", "kwargs", "params", "input", "tool_input", "action_input")
_BESIDE = frozenset({"id", "type", "index", "call_id", "tool_call_id"})
_LISTS = ("tool_calls", "function_calls", "calls", "tool_uses", "tool_call", "function_call")
"""Keys of an object that holds calls rather than being one."""

_BETWEEN = re.compile(r"[\s,;]*")
_DECODER = json.JSONDecoder()


def unreadable_calls(why: str) -> RowError:
    """The reason for an answer that plainly writes calls, but not so that they can be read."""
    return RowError(f"writes calls as text: {why}")


def calls_of_value(value: object) -> tuple[Call, ...] | None:
    """The calls that a JSON value stands for; None when it is not in a layout of calls.

    A call is an object with a name and its arguments, as an object or as the text of one. Calls stand in a list, or
    under a key such as `tool_calls`. Raises RowError for arguments that are no object.
    """
    if isinstance(value, list):
        found = [calls_of_value(item) for item in value]
        return None if None in found else tuple(call for calls in found for call in calls or ())
    if not isinstance(value, dict):
        return None
    for key in _LISTS:
        if isinstance(value.get(key), list | dict):
            return calls_of_value(value[key])
    inner = value.get("function")
    if isinstance(inner, dict):
        return calls_of_value(inner) if value.keys() - {"function"} <= _BESIDE else None
    names = [key for key in _NAMES if isinstance(value.get(key), str)]
    arguments = [key for key in _ARGUMENTS if key in value]
    if len(names) != 1 or len(arguments) != 1 or not value.keys() <= _BESIDE | {names[0], arguments[0]}:
        return None
    given = value[arguments[0]]
    if _is_schema(given):
        return None
    return (Call(value[names[0]].strip(), read_arguments(given)),)


def openly_calls(value: object, *arguments: str) -> bool:
    """Whether a value in the layout of calls can be nothing else, whatever tools there are, because of a key it has:
    one of `arguments`, or one that holds calls.
    """
    return any(key in item for item in _objects(value) for key in (*arguments, *_LISTS))


def _is_schema(given: object) -> bool:
    """Whether this is the description of parameters: a tool is described with a name and `parameters` as well."""
    return isinstance(given, dict) and isinstance(given.get("properties"), dict) and given.get("type") == "object"


def read_arguments(given: object) -> dict[str, Any]:
    """The arguments of a call, an object or its text in JSON or Python; none where nothing is given.

    Raises RowError for anything else.
    """
    if isinstance(given, str):
        given = spelled_value(given) if given.strip() else None
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
        raise unreadable_calls("the arguments are not an object")
    return given


def spelled_value(text: str) -> object:
    """The value that a text spells in JSON, or in Python where JSON has the same; else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        value = literal_value(text)
    try:
        return value if json.loads(json.dumps(value)) == value else text
    except (TypeError, ValueError, RecursionError):
        return text


def read_values(text: str, position: int = 0) -> tuple[list[Any], int]:
    """The JSON objects and lists that follow one another from the position on, and where the last of them ends.

    White space, commas and semicolons may stand between them.
    """
    values: list[Any] = []
    end = position
    while (start := skip_blank(text, end)) < len(text) and text[start] in "{[":
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            break
        values.append(value)
    return values, end


def skip_blank(text: str, position: int) -> int:
    """Where what may stand between calls ends: white space, commas, semicolons."""
    found = _BETWEEN.match(text, position)
    return found.end() if found else position


def value_between_tags(text: str, schema: object) -> object:
    """What the text between two tags stands for: itself where the schema wants text, else the value that it spells.

    One line break at its beginning and one at its end are of the layout.
    """
    bare = text.removeprefix("\n").removesuffix("\n")
    kinds = schema.get("type") if isinstance(schema, Mapping) else None
    if kinds == "string" or (isinstance(kinds, list) and "string" in kinds):
        return bare
    return spelled_value(bare)


def typed_call(name: str, given: Mapping[str, str], tools: Sequence[Tool]) -> Call:
    """A call whose arguments are texts between tags, as values of the tool's types."""
    name = known_name(name, [str(tool["name"]) for tool in tools])
    tool = find_tool(tools, name)
    schemas = parameter_schemas(tool) if tool else {}
    return Call(name, {key: value_between_tags(text, schemas.get(key)) for key, text in given.items()})


def known_name(name: str, names: Collection[str]) -> str:
    """The tool's name. Some write it as `functions.name`."""
    return next((one for one in (name, name.removeprefix("functions."), f"functions.{name}") if one in names), name)


def bound_calls(calls: Sequence[Call], tools: Sequence[Tool]) -> tuple[Call, ...]:
    """The calls by the names of their tools, with a name for each argument.

    Raises RowError when an argument has none in the text and no parameter is left for it.
    """
    names = [str(tool["name"]) for tool in tools]
    bound = tuple(bind_positional(Call(known_name(c.name, names), _unwrapped(c, tools)), tools) for c in calls)
    unnamed = sorted({call.name for call in bound if any(key.startswith("*") for key in call.arguments)})
    expect_that(not unnamed, f"calls with an argument that no parameter is named for: {unnamed}")
    return bound


def _unwrapped(call: Call, tools: Sequence[Tool]) -> Mapping[str, Any]:
    """The arguments; those of `f({"a": 1})` are what its only argument says, where these are the tool's parameters."""
    given, tool = call.arguments.get("*0"), find_tool(tools, call.name)
    if len(call.arguments) != 1 or not isinstance(given, dict) or tool is None:
        return call.arguments
    return given if given.keys() <= parameter_schemas(tool).keys() else call.arguments


def names_tool(value: object, names: Collection[str]) -> bool:
    """Whether an object in the value names a tool, as a call in some layout would: as what it is called, or as a key.

    The description of a tool does not count.
    """
    for item in _objects(value):
        called = any(isinstance(item.get(key), str) and known_name(item[key], names) in names for key in _NAMES)
        if (called and "description" not in item) or any(isinstance(item[key], dict) for key in item if key in names):
            return True
    return False


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    """Every object in a JSON value."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            yield item
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
