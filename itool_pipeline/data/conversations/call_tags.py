"""Calls between tags, as chat templates and data sets write them: `<tool_call>{...}</tool_call>` and its kin.

What stands between the tags is read by its own form, whichever the tags are, so that a new pair of tags or a new
mixture costs nothing: JSON, Python literals, a name before its JSON, tags for each parameter, or Python calls.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from itool_pipeline.calls.reading import parse_calls
from itool_pipeline.calls.tool_schema import Tool
from itool_pipeline.calls.types import Call, ToolCallSyntaxError
from itool_pipeline.data.conversations.call_values import (
    calls_of_value,
    read_arguments,
    read_values,
    skip_blank,
    spelled_value,
    typed_call,
    unreadable_calls,
)
from itool_pipeline.data.row_models import shown_value

_WORD = r"(?:start[_▁-])?(?:tool|function)[_▁-]?(?:call|use)s?"
_BEGIN = r"(?:[_▁-](?:section[_▁-])?(?:start|begin))?"
_END = r"[_▁-](?:section[_▁-])?end"
_PREFIX = r"(?:[\w-]+:|longcat_|｜DSML｜)?"
_ELEMENT = rf"<{_PREFIX}(?:invoke\s+name\s*=|function\s*=|function\s+name\s*=)"
_HARMONY = (
    r"\bto=(?:functions\.)?(?P<recipient>[^\s<]{1,200}+)[^<]{0,200}+"
    r"(?:<\|(?:channel|constrain)\|>[^<]{0,200}+)*+<\|message\|>"
)
_REACT = r"^[ \t*]*Action[ \t*]*:[ \t*]*(?P<action>[^\n]+?)[ \t]*\n\s*\**Action[ _]Input[ \t*]*:"

OPENING_TAG = re.compile(
    rf"<[|｜]{_PREFIX}{_WORD}{_BEGIN}[|｜]?>|<{_PREFIX}{_WORD}{_BEGIN}(?:\s[^<>]*)?>|{_ELEMENT}"
    rf"|<\|python_tag\|>|<\|(?:start_)?action(?:_start)?\|>(?:\s*<\|plugin\|>)?"
    rf"|\[(?:tool|function)_calls?\]|```(?:tool|function)_(?:code|calls?)\b|{_HARMONY}|{_REACT}",
    re.I | re.M,
)
"""What begins a call. ReAct's `Action:` and the recipient of OpenAI's Harmony are tags too."""

_CLOSING_TAG = re.compile(
    rf"<[|｜]?/{_PREFIX}{_WORD}[|｜]?>|<[|｜]?{_WORD}{_END}[|｜]?>|<{_WORD}\|>|<end_function_call>"
    r"|<\|(?:end_)?action(?:_end)?\|>|\[/(?:tool|function)_calls?\]|</s>|<｜end▁of▁sentence｜>"
    r"|<\|(?:call|end|return|eom_id|eot_id|im_end|endoftext|end_of_text)\|>",
    re.I,
)
_GLAIVE = re.compile(r"""\{\s*"name"\s*:\s*"([^"]*)"\s*,\s*"arguments"\s*:\s*'(.*)'\s*\}""", re.S)
_BEFORE_NAME = re.compile(r"(?:function\s*<｜tool▁sep｜>|call:)?\s*")
_ANY_NAME = re.compile(r"[^\n{}\[\]<>\"'():]+")
_NAMED_JSON = re.compile(
    r"(?::\d+)?\s*(?:<[|｜][^<>]*(?:sep|argument_begin)[|｜]>|(?:\[CALL_ID\]\w*)?\[ARGS\])?\s*"
    r"(?:```(?:json)?\s*)?(?P<arguments>\{.*\})\s*(?:```)?",
    re.S,
)
_CALL_ELEMENT = re.compile(
    rf"""<{_PREFIX}(?:invoke\s+name|function(?:\s+name)?)\s*=\s*(?P<quote>["']?)(?P<name>[^<>\n]+?)(?P=quote)\s*>"""
    rf"(?P<body>.*?)(?:</{_PREFIX}(?:invoke|function)>|\Z)",
    re.S,
)
_PARAMETER = re.compile(
    rf"""\s*<{_PREFIX}parameter(?:\s+name)?\s*=\s*["']?(?P<key>[^"'<>\s]+)["']?[^<>]*>(?P<text>.*?)</{_PREFIX}parameter>\s*""",
    re.S,
)
_PAIR = re.compile(r"\s*<arg_key>(?P<key>.*?)</arg_key>\s*<arg_value>(?P<text>.*?)</arg_value>\s*", re.S)
_CHILD = re.compile(r"\s*<(?P<key>\w+)>(?P<text>.*?)</(?P=key)>\s*", re.S)
_PRINTED = re.compile(r"\Aprint\((.*)\)\Z", re.S)
_FENCE = re.compile(r"```\w*\s*\n?")


def tagged_calls(text: str, tools: Sequence[Tool]) -> tuple[Call, ...] | None:
    """The calls between tags; None for a text without tags of calls. Words around them are not looked at.

    Raises RowError when what stands behind a tag cannot be read as calls, or when nothing does.
    """
    calls: list[Call] = []
    position, tagged = 0, False
    while opening := OPENING_TAG.search(text, position):
        tagged = True
        found, position = _calls_behind(text, opening, tools)
        calls += found
    if tagged and not calls:
        raise unreadable_calls("there is no call between the tags")
    return tuple(calls) if tagged else None


def _calls_behind(text: str, opening: re.Match[str], tools: Sequence[Tool]) -> tuple[tuple[Call, ...], int]:
    """The calls behind an opening tag, and where they end; none where another opening tag follows at once."""
    element = _CALL_ELEMENT.match(text, opening.start())
    if element:
        return (_element_call(element, tools),), element.end()
    start = skip_blank(text, opening.end())
    fence = _FENCE.match(text, start)
    start = skip_blank(text, fence.end()) if fence else start
    if OPENING_TAG.match(text, start):
        return (), start
    name = opening.group("recipient") or opening.group("action")
    values, end = read_values(text, start)
    following = text[skip_blank(text, end) :][:1]
    if values and following not in tuple("}])\"'"):
        if name:
            return (Call(name.strip(" *`[]"), read_arguments(values[0])),), end
        calls = calls_of_value(values) or _only_named(values)
        if calls is not None:
            return calls, end
    closing = _FENCE if opening.group().startswith("```") else _CLOSING_TAG
    stops = [found.start() for tag in (OPENING_TAG, closing) if (found := tag.search(text, start))]
    end = min(stops, default=len(text))
    body = text[start:end].strip()
    if not body:
        return (), end
    calls = None if name else _calls_in(body, tools)
    if calls is None:
        raise unreadable_calls(f"this cannot be read: {shown_value(body)}")
    return calls, end


def _only_named(values: Sequence[object]) -> tuple[Call, ...] | None:
    """Calls without arguments: objects that have a name and nothing else."""
    named = [value for value in values if isinstance(value, dict) and value.keys() == {"name"}]
    names = [value["name"] for value in named if isinstance(value["name"], str)]
    return tuple(Call(name, {}) for name in names) if len(names) == len(values) else None


def _calls_in(body: str, tools: Sequence[Tool]) -> tuple[Call, ...] | None:
    """The calls of what stands between two tags, by its form; None for a form that is not known."""
    glaive = _GLAIVE.fullmatch(body)
    if glaive:
        return (Call(glaive[1], _single_quoted(glaive[2])),)
    literal = spelled_value(body)
    if isinstance(literal, dict | list):
        return calls_of_value(literal)
    names = [str(tool["name"]) for tool in tools]
    named = _named_call(body, names)
    if named:
        return (named,)
    return _calls_in_elements(body, tools) or listed_calls(body, names)


def _named_call(body: str, names: Sequence[str]) -> Call | None:
    """The call of a name with the JSON of its arguments behind it; of a tool's name alone, a call without arguments."""
    before = _BEFORE_NAME.match(body)
    start = before.end() if before else 0
    written = [written for name in names for written in (name, f"functions.{name}")]
    own = max((name for name in written if body.startswith(name, start)), key=len, default="")
    other = _ANY_NAME.match(body, start)
    for name in (own, other[0] if other else ""):
        found = _NAMED_JSON.fullmatch(body, start + len(name))
        if name and found:
            return Call(name.strip(), read_arguments(found["arguments"]))
    return Call(own, {}) if own and own == body[start:] else None


def _single_quoted(text: str) -> dict[str, object]:
    """The arguments of a set that puts their JSON between single quotes, with or without `\\'` for those within."""
    try:
        return read_arguments(text)
    except ValueError:
        return read_arguments(text.replace("\\'", "'"))


def _element_call(element: re.Match[str], tools: Sequence[Tool]) -> Call:
    """The call of `<function=name>...</function>` or `<invoke name="name">...</invoke>`."""
    body = element["body"].strip()
    values, end = read_values(body)
    if len(values) == 1 and end == len(body):
        return Call(element["name"].strip(), read_arguments(values[0]))
    given = _texts(_PARAMETER, element["body"])
    if given is None:
        raise unreadable_calls(f"this cannot be read: {shown_value(body)}")
    return typed_call(element["name"].strip(), given, tools)


def _calls_in_elements(body: str, tools: Sequence[Tool]) -> tuple[Call, ...] | None:
    """The call of a name with `<arg_key>` and `<arg_value>`, or of `<name>...</name><arguments>...</arguments>`."""
    name, pairs, rest = body.partition("<arg_key>")
    given = _texts(_PAIR, pairs + rest) if pairs else None
    if given is not None:
        return (typed_call(name.strip(), given, tools),)
    children = _texts(_CHILD, body)
    return calls_of_value({key: text.strip() for key, text in children.items()}) if children else None


def _texts(pattern: re.Pattern[str], text: str) -> dict[str, str] | None:
    """Key → text of each match, in order; None when something stands between them, or a key comes twice."""
    given: dict[str, str] = {}
    position = 0
    while position < len(text.rstrip()):
        found = pattern.match(text, position)
        if found is None or found["key"].strip() in given:
            return None
        given[found["key"].strip()] = found["text"]
        position = found.end()
    return given


def listed_calls(text: str, names: Sequence[str]) -> tuple[Call, ...] | None:
    """The calls of `[f(a=1)]` in our own syntax, also without the brackets, one in a line, or within `print()`."""
    lines = [_PRINTED.sub(r"\1", line.strip()) for line in text.splitlines() if line.strip()]
    whole = _PRINTED.sub(r"\1", text.strip())
    for listed in (text, f"[{whole}]", f"[{', '.join(lines)}]"):
        try:
            return parse_calls(listed, names) or None
        except ToolCallSyntaxError:
            continue
    return None
