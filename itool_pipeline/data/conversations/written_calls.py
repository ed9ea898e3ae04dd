"""Calls that an assistant writes in the text of its turn, in whatever form: a data set may have no place for them.

A text with calls must never be taken for an answer in words: the model would learn to write it, and not to call. So
what has the form of a call is read as one, and where that fails the text is refused. A text that merely shows JSON,
code or brackets stays an answer in words. Only what an assistant says is read so, never the text of a user or a tool.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from itool_pipeline.calls.reading import parse_calls
from itool_pipeline.calls.tool_schema import Tool
from itool_pipeline.calls.types import Call, ToolCallSyntaxError
from itool_pipeline.data.conversations.call_tags import listed_calls, tagged_calls
from itool_pipeline.data.conversations.call_values import (
    bound_calls,
    calls_of_value,
    known_name,
    names_tool,
    openly_calls,
    read_values,
    skip_blank,
    spelled_value,
    unreadable_calls,
)
from itool_pipeline.data.row_models import shown_value

_WHOLE_FENCE = re.compile(r"```\w*[ \t]*\n(.*?)\n?[ \t]*```", re.S)
_BEGINS_CALL = (
    r"""(?P<json>(?:\[\s*)?\{\s*["'](?:name|function|tool|tool_name|tool_calls|function_call|arguments|parameters|id|type"""
    r"""|action|action_input|tool_input|recipient_name|tool_uses)["']\s*:)"""
)
_OPENAI_CALL = re.compile(r"""\{\s*["']name["']\s*:\s*["'][^"'\n]*["']\s*,\s*["'](?:arguments|parameters)["']\s*:""")
_DECODER = json.JSONDecoder()
_LINE_ENDS = re.compile(r"(?:[ \t.`]|</[\w:-]+>|<\|[^<>\n]*\|>|\[/?\w+\])*(?:\n|\Z)")
"""A call ends its line, or the tags of a family that is not known do."""

_GIVEN = r"""\(\s*\w+\s*=\s*[\w"'\[{(-].*\)"""
_OTHER_FORMS = (
    r"^[ \t]*(?:\w+\s*=\s*|functions\.)?NAMES\((?:\s*(?:\w+\s*=|\{).*)?\)[ \t]*$",  # a line f(a=1)
    rf"^[^\w\n]+NAMES{_GIVEN}[^\w\n]*$",  # - f(a=1)
    rf"^[^\w\n]*(?i:await |return |print\(|calling |\w+ ?[:=][^\w\n]*)NAMES{_GIVEN}[^\w\n]*$",  # Action: f(a=1)
    r"^[^\w\n]*Action[^\w\n]+NAMES\b",  # Action: f[1]
    r"^[^\w\n]*(?i:tool|function|api)(?i:[ _]?(?:call|name))?[^\w\n]*:[^\w\n]*NAMES\b[^\n{]{0,40}\{",  # Tool: f with {
    r"^[^\w\n]*(?:\w+\W{1,3})?NAMES[^\w\n]*\n\W{0,8}(?:\w+\W{1,3})?\{\s*\"",  # f, in the next line {"a": 1}
    r"^[^\w\n]*(?:name|tool|function)\s*:\W{0,3}NAMES\W{0,3}\n\W{0,8}(?:arguments|parameters|args|input)\W{0,3}:",
    r"\bto=(?:functions\.)?NAMES\b",
    r"<NAMES(?:\s[^<>]*)?/?>",  # <f>
    r"<\w+>[^\w<>]*NAMES\(",  # <code>f(
    r"<\w*(?:name|tool|function)>\s*NAMES\s*</",  # <tool_name>f</tool_name>
    r"""<\w+\s[^<>]*["']NAMES["'][^<>]*>""",  # <call tool="f">
    r"^\W*NAMES\s*:?\s*(?:```(?:json)?\s*)?\{\s*\"",  # f {"a": 1}
    r"\A\W*NAMES[ :]{1,3}\w+ ?= ?\S",  # f a=1
    r"\A[\s\"'`]*[\[({<][\s\[({<\"'`]*NAMES(?:[\s\"'`]*[|:=({<~-]|\]\s*=)",  # {f|...}, (f: ...
)
"""How a tool is named where it is called, in forms that are not read."""


def read_written_calls(text: str, tools: Sequence[Tool]) -> tuple[Call, ...]:
    """The calls that an assistant's text holds; none for an answer in words. What stands around them is left out.

    Read are calls between tags of any family (`call_tags`), JSON with name and arguments, alone or in words, and the
    calls of our own syntax. Without tags a call must name a tool, or be all that the text says.

    Raises RowError, `writes calls as text: ...`, for what has the form of calls and cannot be read, or stands amid a
    sentence.
    """
    text = text.strip()
    calls = tagged_calls(text, tools)
    if calls is None:
        calls = _whole_text(text, tools) or _amid_words(text, tools)
    return bound_calls(calls, tools)


def _whole_text(text: str, tools: Sequence[Tool]) -> tuple[Call, ...]:
    """The calls of a text that is nothing else."""
    fenced = _WHOLE_FENCE.fullmatch(text)
    bare = fenced[1].strip() if fenced else text
    names = [str(tool["name"]) for tool in tools]
    if re.fullmatch(r"\[\s*\]", bare):
        raise unreadable_calls("an empty list of calls")
    values, end = read_values(bare)
    if not values and bare[:1] in ("{", "["):
        literal = spelled_value(bare)
        values, end = ([literal], len(bare)) if isinstance(literal, dict | list) else ([], 0)
    if values and skip_blank(bare, end) == len(bare):
        calls = calls_of_value(values)
        if calls == ():
            raise unreadable_calls(f"an empty list: {shown_value(bare)}")
        if calls and (openly_calls(values, "arguments", "parameters") or _known(calls, names)):
            return calls
        if names_tool(values, names):
            raise unreadable_calls(f"this cannot be read: {shown_value(bare)}")
        return ()
    return _python_calls(bare, names)


def _python_calls(text: str, names: Sequence[str]) -> tuple[Call, ...]:
    """The calls of a text in our own syntax, which may lack the brackets where it begins with a tool's name."""
    begins = any(_begins_with(text, name) for name in names)
    if not begins and not (text.startswith("[") and text.endswith("]")):
        return ()
    return listed_calls(text, names) or ()


def _trouble(text: str, names: Sequence[str]) -> str:
    """What is wrong with a list of calls."""
    try:
        parse_calls(text, names)
    except ToolCallSyntaxError as error:
        return str(error)
    return "it holds no call"


def _begins_with(text: str, name: str) -> bool:
    return re.match(rf"\[?\s*{re.escape(name)}\s*\(", text) is not None


def _amid_words(text: str, tools: Sequence[Tool]) -> tuple[Call, ...]:
    """The calls that stand in lines of their own, or at the end of a line, in a text that says something beside."""
    names = [str(tool["name"]) for tool in tools]
    begins = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    beginning = re.compile(rf"{_BEGINS_CALL}|\[\s*(?:{begins})\s*\(" if names else _BEGINS_CALL)
    calls: list[Call] = []
    position = 0
    while found := beginning.search(text, position):
        read, position = _json_calls(text, found, names) if found["json"] else _listed_calls(text, found, names)
        if read and not _LINE_ENDS.match(text, position):
            raise unreadable_calls(f"amid a sentence: {shown_value(text[found.start() :])}")
        calls += read
    if not calls and names:
        _refuse_other_forms(text, begins)
    return tuple(calls)


def _json_calls(text: str, found: re.Match[str], names: Sequence[str]) -> tuple[tuple[Call, ...], int]:
    """The calls of the JSON that begins here, and where to go on; none for JSON that says something else."""
    value, end = _json_at(text, found)
    calls = calls_of_value(value)
    if calls and _known(calls, names):
        return calls, end
    if (calls and openly_calls(value, "arguments")) or names_tool(value, names):
        raise unreadable_calls(f"this cannot be read, or is no tool: {shown_value(text[found.start() : end])}")
    return (), end


def _known(calls: Sequence[Call], names: Sequence[str]) -> bool:
    return all(known_name(call.name, names) in names for call in calls)


def _json_at(text: str, found: re.Match[str]) -> tuple[Any, int]:
    """The value that begins here, with the bracket before it or without, and where to go on; None when there is none.

    Raises RowError for the beginning of a call that does not end.
    """
    brace = text.index("{", found.start())
    broken = found.end()
    for start in (found.start(), brace):
        try:
            return _DECODER.raw_decode(text, start)
        except json.JSONDecodeError as error:
            broken = max(broken, error.pos)
        except RecursionError as error:
            raise unreadable_calls(f"nested too deeply: {shown_value(text[start:])}") from error
    if _OPENAI_CALL.match(text, brace) or _OPENAI_CALL.search(text, brace, broken):
        raise unreadable_calls(f"this cannot be read: {shown_value(text[brace:])}")
    return None, broken


def _listed_calls(text: str, found: re.Match[str], names: Sequence[str]) -> tuple[tuple[Call, ...], int]:
    """The calls of the list that begins here, and where it ends: at the first bracket that makes it whole."""
    for closing in re.finditer(r"\]", text[found.start() :]):
        end = found.start() + closing.end()
        try:
            return parse_calls(text[found.start() : end], names), end
        except ToolCallSyntaxError as error:
            if not error.ended:  # a later bracket would not mend it
                break
    bare = text[found.start() :]
    raise unreadable_calls(f"this cannot be read, {_trouble(bare, names)}: {shown_value(bare)}")


def _refuse_other_forms(text: str, names: str) -> None:
    """Raises RowError for a text that names a tool as only a call does, in a form that is not read."""
    for form in _OTHER_FORMS:
        found = re.search(form.replace("NAMES", f"(?:{names})"), text, re.M)
        if found:
            raise unreadable_calls(f"in a form that is not known: {shown_value(text[found.start() :])}")
