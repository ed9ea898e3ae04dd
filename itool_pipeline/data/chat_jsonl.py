"""The users' own data: conversations in the chat layout of OpenAI's API, one JSON object in a line:

{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "tool_calls": [...]}, ...], "tools": [...]}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.types import Call
from itool_pipeline.core.types import Message, Progress, no_progress
from itool_pipeline.data.answers import answered_example
from itool_pipeline.data.row_models import RowModel, read_row
from itool_pipeline.data.rows import Quarantined, Row, RowError, expect_that, json_object, parse_json, row_excerpt
from itool_pipeline.data.streams import json_lines
from itool_pipeline.data.tools import GivenTool

SOURCE = "jsonl"

_Turn = tuple[Message, tuple[Call, ...]]
"""A message as the prompt shows it, and the calls that an assistant makes in it."""


def _bare_function(tool: Any) -> Any:
    """The function without its wrapping, and with what a description may leave out."""
    function = tool.get("function", tool) if isinstance(tool, dict) else tool
    if not isinstance(function, dict):
        return function
    named = {"name": function["name"]} if "name" in function else {}
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    return {**named, "description": str(function.get("description") or ""), "parameters": parameters}


def _parsed_arguments(arguments: Any, info: ValidationInfo) -> Any:
    arguments = arguments or {}
    if isinstance(arguments, str):
        return parse_json(arguments, f"the arguments of a call are not JSON: {info.data.get('name')!r}")
    return arguments


class ChatFunction(RowModel):
    noun: ClassVar[str] = "a call"

    name: str
    arguments: Annotated[dict[str, Any], BeforeValidator(_parsed_arguments)] = Field(default_factory=dict)


class ChatCall(RowModel):
    noun: ClassVar[str] = "a call"

    id: object = None
    function: ChatFunction


def _calls_of_role(made: Any, info: ValidationInfo) -> Any:
    role = info.data.get("role")
    expect_that(role in ("assistant", "tool") or not made, f"calls are made by another than the assistant: {role}")
    return made if made and role == "assistant" else []


def _words(content: Any, info: ValidationInfo) -> Any:
    """The words of a message: its content, or the text parts of it. No content is no words, nor is any beside calls."""
    if content is None or info.data.get("tool_calls"):
        return ""
    if isinstance(content, list):
        texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        expect_that(len(texts) == len(content), "a message holds something else than text")
        return "".join(texts)
    return content


class ChatMessage(RowModel):
    noun: ClassVar[str] = "a message"

    role: Literal["system", "developer", "user", "assistant", "tool"]
    tool_calls: Annotated[list[ChatCall], BeforeValidator(_calls_of_role)] = Field(default_factory=list)
    content: Annotated[str, BeforeValidator(_words)] = ""
    tool_call_id: object = None
    name: object = None
    function_call: object = None

    @model_validator(mode="after")
    def _has_no_old_call(self) -> Self:
        old = self.role != "tool" and "function_call" in self.model_fields_set
        expect_that(not old, "has the old `function_call`; write it as one of `tool_calls`")
        return self


class ChatLine(RowModel):
    tools: list[Annotated[GivenTool, BeforeValidator(_bare_function)]] | None = None
    messages: list[ChatMessage] = Field(min_length=1)


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
        row = read_row(ChatLine, json_object(line))
        turns = _turns(row.messages)
    except RowError as error:
        yield Quarantined(SOURCE, f"line {number}", str(error), row_excerpt(line))
        return
    for position, (turn, calls) in enumerate(turns):
        if turn.role == "assistant":
            name, before = f"{SOURCE}_{number}_{position}", tuple(message for message, _ in turns[:position])
            try:
                yield answered_example(
                    name, SOURCE, f"{SOURCE}_{number}", before, tuple(row.tools or ()), calls or turn.content
                )
            except RowError as error:
                place = f"line {number}, turn {position}"
                yield Quarantined(SOURCE, place, str(error), row_excerpt(turn.content))


def _turns(messages: Sequence[ChatMessage]) -> list[_Turn]:
    """The conversation, with one turn for tool results that follow one another."""
    turns: list[_Turn] = []
    results: list[tuple[str, str]] = []
    asked: dict[str, str] = {}  # id of each call so far → its function
    for message in messages:
        if message.role == "tool":
            results.append((asked.get(str(message.tool_call_id)) or str(message.name or ""), message.content))
            continue
        turns += _results(results)
        results = []
        calls = tuple(Call(call.function.name, call.function.arguments) for call in message.tool_calls)
        asked |= {str(call.id): call.function.name for call in message.tool_calls}
        role = "system" if message.role == "developer" else message.role
        turns.append((Message(role, render_calls(calls) if calls else message.content.strip()), calls))
    turns += _results(results)
    expect_that(any(turn.role == "assistant" for turn, _ in turns), "no assistant turn")
    return turns


def _results(results: list[tuple[str, str]]) -> list[_Turn]:
    if not results:
        return []
    several = len(results) > 1
    lines = [f"{name}: {text}" if several and name else text for name, text in results]
    return [(Message("tool", "\n".join(lines)), ())]
