"""xLAM function-calling-60k in its own layout: `query`, and `answers` and `tools` as JSON text in strings.

A parameter is described by `description`, a Python type such as `List[int]` or `str, optional`, and a `default`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from itool_pipeline.calls.types import Call
from itool_pipeline.core.types import Message, Progress, no_progress
from itool_pipeline.data.answers import answered_example
from itool_pipeline.data.containers import FileRow, file_rows
from itool_pipeline.data.conversations.call_spellings import level_calls
from itool_pipeline.data.conversations.chat_models import ChatCall
from itool_pipeline.data.conversations.json_texts import decoded_value
from itool_pipeline.data.conversations.known_keys import (
    SYSTEM_KEYS,
    is_absent,
    is_learnt,
    is_right,
    refuse_unread_keys,
)
from itool_pipeline.data.conversations.tool_spellings import level_tool
from itool_pipeline.data.row_models import RowModel, read_row
from itool_pipeline.data.rows import Changed, Quarantined, Row, RowError, expect_that, row_excerpt
from itool_pipeline.data.tools import GivenTool, read_tool

SOURCE = "xlam"

_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "none": "null"}
_LISTS, _MAPPINGS = ("list", "tuple", "set", "sequence", "iterable"), ("dict", "mapping")
_VALUES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_OPTIONAL = re.compile(r",\s*optional\b.*", re.I | re.S)
_GENERIC = re.compile(r"(?:typing\.)?(\w+)\s*(?:\[(.*)\])?\s*", re.S)
_MAX_NESTING = 20


def _not_blank(query: str) -> str:
    expect_that(bool(query.strip()), "no query")
    return query


def _levelled(row: Mapping[str, Any], changes: Counter[str]) -> dict[str, Any]:
    """The row with its tools as functions with a JSON Schema, and its calls as OpenAI's API has them."""
    refuse_unread_keys(row)
    said = [key for key in SYSTEM_KEYS if not is_absent(row.get(key))]
    expect_that(not said, f"has `{', '.join(said)}`, which is not read: the set has no system texts")
    expect_that(is_right(row) and is_learnt(row), "marked as not to be learnt from")
    tools = decoded_value(row.get("tools"), "tools is not JSON")
    if isinstance(tools, list):
        tools = [_levelled_tool(tool, changes) for tool in tools]
    answers = row.get("answers")
    return {**row, "tools": tools, "answers": None if answers is None else level_calls(answers, "answers")}


def _levelled_tool(given: Any, changes: Counter[str]) -> Any:
    """The function with a JSON Schema, out of the set's own layout or OpenAI's. What is no tool is left as it is."""
    tool = decoded_value(given, "a tool is not JSON")
    parameters = decoded_value(tool.get("parameters"), "parameters is not JSON") if isinstance(tool, dict) else None
    if isinstance(parameters, dict) and not _is_json_schema(parameters):
        return _in_json_schema(read_tool({**tool, "parameters": parameters}))
    if isinstance(tool, dict) and {"function", "parameters"} & tool.keys():
        return level_tool(tool, changes)
    return tool


def _is_json_schema(parameters: Mapping[str, Any]) -> bool:
    """Whether parameters are described by JSON Schema; otherwise each key is a parameter, whatever it is called."""
    properties = parameters.get("properties")
    described = isinstance(properties, dict) and all(isinstance(schema, dict | bool) for schema in properties.values())
    return described or isinstance(parameters.get("type"), str)


def _in_json_schema(tool: Mapping[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, parameter in tool["parameters"].items():
        expect_that(isinstance(parameter, dict), f"a parameter is not described: {name!r} of {tool['name']!r}")
        properties[name], needed = _parameter(parameter)
        if needed:
            required.append(name)
    schema = {"type": "object", "properties": properties, "required": required}
    return {"name": tool["name"], "description": str(tool.get("description", "")), "parameters": schema}


class XlamRow(RowModel):
    query: Annotated[str, AfterValidator(_not_blank)]
    tools: list[GivenTool]
    answers: list[ChatCall]


def read_xlam(path: Path, progress: Progress = no_progress) -> Iterator[Row]:
    """One example for each row; a row that cannot be read is quarantined with the reason.

    Tools may be in OpenAI's layout too, with a JSON Schema, and calls in any that chats have. An answer without calls
    is quarantined, for the set has no words to say instead.

    Raises UnreadableFile when the file as a whole cannot be read (see `file_rows`), and OSError.
    """
    return xlam_rows(file_rows(path, progress))


def is_xlam(row: Mapping[str, Any]) -> bool:
    """Whether a row looks like one of this layout."""
    return all(row.get(key) is not None for key in ("query", "answers", "tools"))


def xlam_rows(rows: Iterable[FileRow]) -> Iterator[Row]:
    """The same of rows wherever they are from."""
    for given in rows:
        name, changes = f"{SOURCE}_{given.index}", Counter[str]()
        try:
            row = read_row(XlamRow, _levelled(given.json_object(), changes))
            expect_that(bool(row.answers), "the answer has no calls, and the set has no words to say instead")
            calls = [Call(call.function.name, call.function.arguments) for call in row.answers]
            yield answered_example(name, SOURCE, name, (Message("user", row.query),), tuple(row.tools), calls)
        except RowError as error:
            yield Quarantined(SOURCE, given.position, str(error), row_excerpt(given.given))
        else:
            yield from (Changed(what, times) for what, times in changes.items())


def _parameter(described: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """A parameter's JSON Schema, and whether it must be given.

    It may be left out when its type says optional or it has a default. The set writes the empty string where there is
    no default.
    """
    python = str(described.get("type", ""))
    bare = _OPTIONAL.sub("", python)
    schema = json_type(bare)
    if "description" in described:
        schema = {"description": str(described["description"]), **schema}
    default = described.get("default", "")
    if default not in ("", None):
        schema["default"] = _of_type(default, schema.get("type"))
    optional = bare != python or bare.lower().startswith(("optional[", "typing.optional["))
    return schema, not optional and "default" not in schema


def json_type(python: str, depth: int = 0) -> dict[str, Any]:
    """JSON Schema of a Python type in words: `List[int]` → `{"type": "array", "items": {"type": "integer"}}`.

    A type that JSON has no word for (`Callable`, `Any`) gives the empty schema, which allows every value.
    """
    found = _GENERIC.fullmatch(python.strip())
    if found is None or depth > _MAX_NESTING:
        return {}
    name, inner = found.group(1).lower(), [part for part in _parts(found.group(2) or "") if part]
    if name in _TYPES:
        return {"type": _TYPES[name]}
    if name in _MAPPINGS:
        return {"type": "object"}
    members = [json_type(part, depth + 1) for part in inner if part != "..."]
    if name in _LISTS:
        alike = len(members) > 0 and all(member == members[0] for member in members)
        return {"type": "array", "items": members[0] if alike else {}}
    if name in ("union", "optional") and members:
        return members[0] if len(members) == 1 else {"anyOf": members} if all(members) else {}
    return {}


def _parts(inner: str) -> list[str]:
    """`int, List[str, int]` → `int` and `List[str, int]`: split at the commas outside of brackets."""
    parts, depth = [""], 0
    for character in inner:
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _of_type(default: Any, kind: Any) -> Any:
    """The default as a value of the schema's type where its text reads as one (`"2020"` → 2020); else as it is."""
    if not isinstance(default, str) or kind in (None, "string"):
        return default
    text = default.lower() if kind == "boolean" else default
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return default
    fits = isinstance(value, _VALUES.get(kind, ())) and (kind == "boolean" or not isinstance(value, bool))
    return value if fits else default
