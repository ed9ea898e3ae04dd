"""Tools that a system text lists, where a data set has no other place for them."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from itool_pipeline.calls.python_values import literal_value
from itool_pipeline.data.row_models import shown_value
from itool_pipeline.data.rows import RowError

TOOLS_FROM_TEXT = "tools read out of a system text"

_BEGINS = re.compile(r"""\[\s*\{|\{\s*["'](?:type|name|function|description|parameters)["']\s*:""")
_LIST_TAG = r"(?:available_)?(?:tools?|functions?)(?:_list)?"
_TAGGED = re.compile(rf"<(?P<tag>{_LIST_TAG})>(?P<list>.*?)</(?P=tag)>", re.S | re.I)
_EMPTY_TAGS = re.compile(
    rf"<({_LIST_TAG})>[\s,;]*</\1>|\[AVAILABLE_TOOLS\][\s,;]*\[/AVAILABLE_TOOLS\]|<\|tool\|>[\s,;]*<\|/tool\|>", re.I
)
_INSTRUCTIONS = (
    # An example of a call, and the schema of one, as the prompts of Hermes and of Qwen have them.
    re.compile(r"<tool_call>\s*\{[^{}]*<[^<>]*>[^{}]*\}\s*</tool_call>"),
    re.compile(r"(?<![^.:\n])[^.:\n]*pydantic model json schema[^:\n]*:\s*\{.*?\}[ \t]*(?=\n|For each|\Z)", re.S),
    re.compile(r"(?<![^.:\n])[^.:\n]*<tool_call>[^.:\n]*[.:]?"),
    re.compile(r"(?<![^.:\n])[^.:\n]*within <tools>\s*</tools>[^.:\n]*[.:]?"),
    re.compile(r"^#+ Tools[ \t]*$", re.M),
)
_DECODER = json.JSONDecoder()
_TRIES = 20
"""How many beginnings that turn out to be none are followed to their end: a long text must not take quadratic time."""
_PYTHON_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|[\[\]{}]""", re.S)
_SCHEMAS = ("parameters", "input_schema", "inputSchema")


class ListedTools(NamedTuple):
    """Tools as they stand in a text, and what the text says beside them and beside how to call."""

    tools: list[Any]
    rest: str


def take_listed_tools(messages: list[Any], tools: Any) -> tuple[list[Any], list[Any]]:
    """The messages without the tools that their system texts list, and these tools.

    Where a row has tools beside its messages, the same tools in a system text are taken out of it, and others stay.
    """
    given = set(map(_name, tools)) if isinstance(tools, list) else set()
    taken: list[Any] = []
    left: list[Any] = []
    for message in messages:
        if isinstance(message, dict) and message.get("role") in ("system", "developer"):
            listed = tools_in_text(message["content"]) if isinstance(message.get("content"), str) else None
            if listed and listed.tools and (not given or given == set(map(_name, listed.tools))):
                taken += listed.tools
                message = {**message, "content": listed.rest}
                if not listed.rest:
                    continue
        left.append(message)
    return left, taken


def _name(tool: Any) -> str:
    inner = tool.get("function") if isinstance(tool, dict) else None
    described = inner if isinstance(inner, dict) else tool
    return str(described.get("name")) if isinstance(described, dict) else ""


def tools_in_text(text: str) -> ListedTools:
    """The tools that a system text lists as JSON, between tags or not; without any, the text stays as it is.

    How to call is left to our own prompt: what the best-known prompts say of it goes with the list.

    Raises RowError for a list between tags that cannot be read.
    """
    tools: list[Any] = []
    rest, position = "", 0
    for start, end, found in _lists(text):
        tools += found
        rest += text[position:start]
        position = end
    rest += text[position:]
    if not tools:
        return ListedTools([], text)
    for instruction in (*_INSTRUCTIONS, _EMPTY_TAGS):
        rest = instruction.sub("", rest)
    return ListedTools(tools, re.sub(r"\n\s*\n", "\n\n", rest).strip())


def _lists(text: str) -> list[tuple[int, int, list[Any]]]:
    """Where tools stand in the text, and which."""
    found: list[tuple[int, int, list[Any]]] = []
    for tagged in _TAGGED.finditer(text):
        if tagged["list"].strip(" \n,;.") and "{" in tagged["list"]:
            found.append((*tagged.span(), _tagged_tools(tagged["list"].strip())))
    if found:
        return found
    position, tries = 0, _TRIES
    while beginning := _BEGINS.search(text, position):
        try:
            value, end = _DECODER.raw_decode(text, beginning.start())
        except (ValueError, RecursionError):
            value, end = _printed_value(text, beginning.start()) if tries else (None, 0)
            tries -= bool(tries and value is None)
        if value is None:
            position = beginning.start() + 1
            continue
        members = value if isinstance(value, list) else [value]
        if all(_is_tool(member) for member in members):
            found.append((beginning.start(), end, members))
        position = end
    return found


def _printed_value(text: str, start: int) -> tuple[Any, int]:
    """The list or dictionary as Python prints it that begins here, and where it ends; None for none."""
    depth = 0
    for token in _PYTHON_TOKEN.finditer(text, start):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token.group(), 0)
        if depth == 0:
            value = literal_value(text[start : token.end()])
            return (value, token.end()) if isinstance(value, list | dict) else (None, start)
    return None, start


def _tagged_tools(text: str) -> list[Any]:
    """The tools between tags: a list, or one after the other."""
    tools: list[Any] = []
    position = 0
    while position < len(text):
        try:
            value, end = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            value, end = literal_value(text[position:]), len(text)
            if not isinstance(value, dict | list):
                raise RowError(f"the tools in the system text cannot be read: {shown_value(text)}") from error
        tools += value if isinstance(value, list) else [value]
        position = end + len(text[end:]) - len(text[end:].lstrip(" \n\r\t,;"))
    return tools


def _is_tool(value: object) -> bool:
    """Whether a value describes a tool: a function in OpenAI's wrapping, or a name with a schema of its parameters."""
    if not isinstance(value, dict):
        return False
    inner = value.get("function")
    if isinstance(inner, dict):
        return value.get("type") == "function" and isinstance(inner.get("name"), str) and "arguments" not in inner
    schemas = [value[key] for key in _SCHEMAS if isinstance(value.get(key), dict)]
    return isinstance(value.get("name"), str) and bool(schemas) and all(map(_is_schema, schemas))


def _is_schema(value: dict[str, Any]) -> bool:
    return "properties" in value or all(isinstance(member, dict) for member in value.values())
