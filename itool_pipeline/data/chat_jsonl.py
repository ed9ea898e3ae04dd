"""The users' own data: conversations in the chat layout of OpenAI's API, one JSON object in a line:

{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "tool_calls": [...]}, ...], "tools": [...]}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from itool_pipeline.calls.tool_calls import render_calls
from itool_pipeline.calls.types import Call
from itool_pipeline.core.types import Message, Progress, no_progress
from itool_pipeline.data.answers import Tools, answered
from itool_pipeline.data.rows import Quarantined, Row, RowError, excerpt, expect, json_object, parse_json
from itool_pipeline.data.streams import json_lines

SOURCE = "jsonl"
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}

_Turn = tuple[Message, tuple[Call, ...]]
"""A message as the prompt shows it, and the calls that an assistant makes in it."""


def read_chat_jsonl(path: Path, progress: Progress = no_progress) -> Iterator[Row]:
    """One example for each assistant turn, with what came before it as context, tool results included.

    messages  roles system (or developer), user, assistant and tool. An assistant's `tool_calls` have the arguments as
              a JSON object or as its text; beside calls its words are left out, as our prompt asks for calls alone.
              Results that follow one another are one turn, each with its function's name where there are several.
    tools     JSON Schema, as `{"type": "function", "function": {...}}` or the bare function; none in plain chat

    A line whose messages or tools cannot be read is quarantined as a whole, an answer that cannot be learnt from by
    itself; other keys are not looked at. Raises OSError when the file cannot be read.
    """
    for number, line in json_lines(path, progress):
        yield from _read_line(number, line)


def _read_line(number: int, line: bytes) -> Iterator[Row]:
    try:
        row = json_object(line)
        tools = _tools(row.get("tools"))
        turns = _turns(row.get("messages"))
    except RowError as error:
        yield Quarantined(SOURCE, f"line {number}", str(error), excerpt(line))
        return
    for position, (turn, calls) in enumerate(turns):
        if turn.role == "assistant":
            name, before = f"{SOURCE}_{number}_{position}", tuple(message for message, _ in turns[:position])
            try:
                yield answered(name, SOURCE, f"{SOURCE}_{number}", before, tools, calls or turn.content)
            except RowError as error:
                place = f"line {number}, turn {position}"
                yield Quarantined(SOURCE, place, str(error), excerpt(turn.content))


def _tools(tools: Any) -> Tools:
    if tools is None:
        return ()
    expect(isinstance(tools, list), "`tools` is not a list")
    return tuple(_tool(tool) for tool in tools)


def _tool(tool: Any) -> Mapping[str, Any]:
    expect(isinstance(tool, dict), "a tool is not an object")
    function = tool.get("function", tool)
    expect(isinstance(function, dict) and isinstance(function.get("name"), str), "a tool has no name")
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    expect(isinstance(parameters, dict), f"the parameters of a tool are not JSON Schema: {function['name']!r}")
    return {"name": function["name"], "description": str(function.get("description") or ""), "parameters": parameters}


def _turns(messages: Any) -> list[_Turn]:
    """The conversation, with one turn for tool results that follow one another."""
    expect(isinstance(messages, list) and bool(messages), "no messages")
    turns: list[_Turn] = []
    results: list[tuple[str, str]] = []
    asked: dict[str, str] = {}  # id of each call so far → its function
    for message in messages:
        expect(isinstance(message, dict), "a message is not an object")
        role = _ROLES.get(str(message.get("role")))
        expect(role is not None, f"a message has an unknown role: {message.get('role')!r}")
        if role == "tool":
            name = asked.get(str(message.get("tool_call_id"))) or str(message.get("name") or "")
            results.append((name, _text(message)))
            continue
        turns += _results(results)
        results = []
        turns.append(_turn(str(role), message, asked))
    turns += _results(results)
    expect(any(turn.role == "assistant" for turn, _ in turns), "no assistant turn")
    return turns


def _results(results: list[tuple[str, str]]) -> list[_Turn]:
    if not results:
        return []
    several = len(results) > 1
    lines = [f"{name}: {text}" if several and name else text for name, text in results]
    return [(Message("tool", "\n".join(lines)), ())]


def _turn(role: str, message: Mapping[str, Any], asked: dict[str, str]) -> _Turn:
    expect("function_call" not in message, "has the old `function_call`; write it as one of `tool_calls`")
    made = message.get("tool_calls") or []
    expect(isinstance(made, list), "`tool_calls` is not a list")
    expect(role == "assistant" or not made, f"calls are made by another than the assistant: {role}")
    calls = tuple(_call(call) for call in made)
    asked.update({str(entry.get("id")): call.name for entry, call in zip(made, calls, strict=True)})
    return Message(role, render_calls(calls) if calls else _text(message).strip()), calls


def _call(entry: Any) -> Call:
    function: Any = entry.get("function") if isinstance(entry, dict) else None
    expect(isinstance(function, dict) and isinstance(function.get("name"), str), "a call has no function name")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        arguments = parse_json(arguments, f"the arguments of a call are not JSON: {function['name']!r}")
    expect(isinstance(arguments, dict), f"the arguments of a call are not an object: {function['name']!r}")
    return Call(function["name"], arguments)


def _text(message: Mapping[str, Any]) -> str:
    """The words of a message: its content, or the text parts of it. No content is no words."""
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, list):
        texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        expect(len(texts) == len(content), "a message holds something else than text")
        return "".join(texts)
    expect(isinstance(content, str), "the content of a message is not text")
    return str(content)
