"""Tool lists, however they are spelled, as functions with a name, a description and a JSON Schema of parameters."""

from __future__ import annotations

from collections import Counter
from typing import Any

from itool_pipeline.data.conversations.json_texts import decoded_value
from itool_pipeline.data.conversations.known_keys import Keys, agreed_value, is_absent, names_one_of
from itool_pipeline.data.row_models import shown_value
from itool_pipeline.data.rows import expect_that

BUILT_IN_LEFT_OUT = "tools left out that are built into a service and have no description"
TWICE_LEFT_OUT = "tools left out that are listed twice"
KEY_LEFT_OUT = "keys of tools left out"

_SCHEMAS = (
    *("parameters", "input_schema", "inputSchema", "parameters_json_schema", "parametersJsonSchema"),
    *("json_schema", "schema", "args_schema"),
)
_WRAPPERS = ("function", "toolSpec", "tool_spec")
_READ = frozenset({"type", "name", "description", "required", *_SCHEMAS, *_WRAPPERS})
_INPUT_WORDS = ("param", "arg", "input", "schema", "propert", "signature", "format", "required", "optional")
_OUTPUT_WORDS = ("output", "return", "response", "result", "example")
_OF_THE_REQUEST = frozenset({"strict", "cache_control", "defer_loading", "id"})
_OF_SCHEMAS = frozenset({"properties", "additionalProperties", "$defs", "definitions"})
_MAPS = _OF_SCHEMAS | {"items", "patternProperties", "not", "if", "then", "else", "dependentSchemas"}
"""Keywords of JSON Schema that may hold an object."""


def level_tools(given: Any, changes: Counter[str]) -> Any:
    """The tools as bare functions, of a list, one tool, or the JSON text of either; each may be a text itself.

    Those without a description that a prompt could show, and those listed twice, are left out and counted. What is no
    list of tools is left to be refused as it is. Raises RowError for what cannot be read.
    """
    tools = decoded_value(given, "the tools are not JSON")
    if isinstance(tools, dict) and ("function" in tools or "name" in tools):
        tools = [tools]
    if not isinstance(tools, list):
        return tools
    levelled: list[Any] = []
    tools = [one for tool in tools for one in _declared(tool)]
    for tool in (decoded_value(tool, "a tool is not JSON") for tool in tools):
        if _is_built_in(tool):
            changes[BUILT_IN_LEFT_OUT] += 1
            continue
        function = level_tool(tool, changes)
        if function in levelled:
            changes[TWICE_LEFT_OUT] += 1
        else:
            levelled.append(function)
    return levelled


def _declared(tool: Any) -> list[Any]:
    """The tools of one entry: several where they are Gemini's declarations of functions."""
    for key in ("functionDeclarations", "function_declarations"):
        if isinstance(tool, dict) and tool.keys() == {key} and isinstance(tool[key], list):
            return list(tool[key])
    return [tool]


def level_tool(given: Any, changes: Counter[str]) -> Any:
    """The function without its wrapping, and with what a description may leave out.

    The schema may stand under the names that other APIs have for it, and be a text. What is no tool is left to be
    refused as it is. Raises RowError for a key that seems to describe parameters and is not read.
    """
    tool = _unwrapped(given)
    if not isinstance(tool, dict):
        return tool
    named = {"name": tool["name"]} if tool.get("name") is not None else {}
    for key, value in tool.items():
        if key in _READ | _OF_SCHEMAS | _OF_THE_REQUEST or not value:
            continue
        unread = names_one_of(key, _INPUT_WORDS) and not names_one_of(key, _OUTPUT_WORDS)
        expect_that(not unread, f"a tool has `{key}`, which is not read: {shown_value(tool.get('name'))}")
        changes[f"{KEY_LEFT_OUT}: `{key}`"] += 1
    description = tool.get("description")
    is_text = description is None or isinstance(description, str)
    expect_that(is_text, f"the description of a tool is not text: {shown_value(description)}")
    return {**named, "description": description or "", "parameters": _parameters(tool)}


def _unwrapped(given: Any) -> Any:
    """The function inside; what stands beside it, such as `required`, is taken with it where it has no such key."""
    tool = given
    while isinstance(tool, dict) and (key := _wrapper(tool)):
        inner = decoded_value(tool[key], "a tool is not JSON")
        beside = {name: value for name, value in tool.items() if name not in (key, "type")}
        tool = {**beside, **inner} if isinstance(inner, dict) else inner
    return tool


def _wrapper(tool: Keys) -> str:
    return next((key for key in _WRAPPERS if not is_absent(tool.get(key))), "")


def _is_built_in(tool: Any) -> bool:
    """Whether a tool only names a service's own, such as {"type": "web_search"}."""
    if not isinstance(tool, dict) or _wrapper(tool) or not isinstance(tool.get("type"), str):
        return False
    described = (*_SCHEMAS, "description", "properties")
    return tool["type"] not in ("function", "custom", "object", "tool") and all(not tool.get(key) for key in described)


def _parameters(tool: Keys) -> Any:
    """JSON Schema of the parameters; that of no parameters where none is described."""
    name = shown_value(tool.get("name"))
    texts = {key: decoded_value(tool.get(key), f"the parameters of a tool are not JSON: {name}") for key in _SCHEMAS}
    described = {key: _json_schema(given, name) for key, given in texts.items() if given not in ({}, [])}
    schema = agreed_value(described, _SCHEMAS, "a tool")
    own = {key: tool[key] for key in _OF_SCHEMAS if not is_absent(tool.get(key))}
    if schema is None:
        schema = {"type": "object", "properties": {}, **own}
    else:
        expect_that("properties" not in own, f"a tool has `properties` beside its parameters: {name}")
    return _with_required(schema, tool.get("required"), name) if isinstance(schema, dict) else schema


def _with_required(schema: dict[str, Any], beside: Any, name: str) -> dict[str, Any]:
    """The schema with the list of what is required that stands beside it, as some sets have it."""
    if is_absent(beside):
        return schema
    is_list = isinstance(beside, list)
    expect_that(is_list, f"the `required` of a tool is not a list: {name} has {shown_value(beside)}")
    own = schema.get("required")
    if is_absent(own):
        return {**schema, "required": beside}
    same = isinstance(own, list) and set(map(str, own)) == set(map(str, beside))
    expect_that(same, f"a tool has two lists `required`, which say different things: {name}")
    return schema


def _json_schema(given: Any, name: str) -> Any:
    """The schema; a bare mapping of parameters is its properties."""
    if not isinstance(given, dict):
        return given
    wrapped = [value for key, value in given.items() if key in ("json", "jsonSchema") and isinstance(value, dict)]
    schema: dict[str, Any] = wrapped[0] if len(wrapped) == len(given) == 1 else given
    properties = schema.get("properties")
    is_mapping = isinstance(properties, dict | None)
    expect_that(is_mapping, f"the properties of a tool are not an object: {name} has {shown_value(properties)}")
    described = [key for key, value in schema.items() if isinstance(value, dict)]
    if properties is not None or all(key in _MAPS for key in described):
        return schema
    bare = len(described) == len(schema)
    expect_that(bare, f"the parameters of a tool are no JSON Schema: {name} has {shown_value(described)} beside others")
    return {"type": "object", "properties": schema}
