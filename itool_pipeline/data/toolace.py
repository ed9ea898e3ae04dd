"""ToolACE in its own layout (Section 4.1): the tool list is JSON inside the system text, the calls are text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from itool_pipeline.core.tool_calls import ToolCallSyntaxError, bind_positional, parse_calls, render_calls
from itool_pipeline.core.types import Call, Example, GoldCall, Message
from itool_pipeline.data import near_duplicates
from itool_pipeline.data.rows import Refused, RowError, Rows, excerpt, expect

SOURCE = "toolace"

_BEFORE_TOOLS = re.compile(
    r"(?:Here is a list of functions in JSON format that you can invoke|以下是可以调用的工具的JSON格式列表)\s*[:：]\s*"
)
_INSTRUCTIONS = (
    re.compile(r"You are an expert in composing functions\..*?also point it out\.", re.S),
    re.compile(r"You should only return the function call in tools call sections\."),
    re.compile(r"Should you decide to return the function call\(s\)\..*?NO other text MUST be included\.", re.S),
    re.compile(r"你是工具调用方面的专家。.*?也请指出。", re.S),
    re.compile(r"如果你决定输出工具调用语句.*?不得包含其他文字。", re.S),
)
_ROLES = ("user", "assistant", "tool")


def load_toolace(path: Path) -> Rows:
    """One example for each assistant turn, with what came before it as context, tool results included.

    The set's instructions on how to call are left to our own prompt; what else the system text says (today's date)
    stays as a system message. Calls are written anew as Python literals. The category is `single_call`,
    `several_calls` or `no_call`, by the turn.

    A row without a tool list in the standard layout, or a turn that cannot be read, is refused with the reason.
    Raises ValueError when the file as a whole is not a JSON list, and OSError when it cannot be read.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    if not isinstance(rows, list):
        raise ValueError(f"{path}: must hold a JSON list of rows")
    examples: list[Example] = []
    refused: list[Refused] = []
    for index, row in enumerate(rows):
        read = _read_row(index, row)
        examples.extend(read.examples)
        refused.extend(read.refused)
    group = near_duplicates.groups(examples, link=_row_of)
    return Rows(tuple(replace(example, group=group[example.id]) for example in examples), tuple(refused))


def _row_of(example: Example) -> str:
    return example.id.rpartition("_")[0]


def _read_row(index: int, row: Any) -> Rows:
    try:
        expect(isinstance(row, dict), "not a JSON object")
        expect(isinstance(row.get("system"), str), "no system text")
        tools, context = _split_system(row["system"])
        turns = _turns(row.get("conversations"))
    except RowError as error:
        return Rows((), (Refused(SOURCE, f"row {index}", str(error), excerpt(row)),))
    examples: list[Example] = []
    refused: list[Refused] = []
    for position, turn in enumerate(turns):
        if turn.role != "assistant":
            continue
        try:
            before = (*context, *turns[:position])
            examples.append(_example(f"{SOURCE}_{index}_{position}", before, tools, turn.content.strip()))
        except RowError as error:
            refused.append(Refused(SOURCE, f"row {index}, turn {position}", str(error), excerpt(turn.content)))
    return Rows(tuple(examples), tuple(refused))


def _split_system(system: str) -> tuple[tuple[Mapping[str, Any], ...], tuple[Message, ...]]:
    """The tools, and a system message with what the text says beside them and the instructions, if anything."""
    found = _BEFORE_TOOLS.search(system)
    if found is None:
        raise RowError("no tool list in the standard layout (JSON after the words `Here is a list of functions`)")
    try:
        tools, end = json.JSONDecoder().raw_decode(system, found.end())
    except ValueError as error:
        raise RowError(f"the tool list is not JSON: {error}") from error
    expect(isinstance(tools, list), "the tool list is not a list")
    for tool in tools:
        expect(isinstance(tool, dict) and isinstance(tool.get("name"), str), "a tool has no name")
        expect(isinstance(tool.get("parameters"), dict), f"the tool {tool.get('name')!r} has no parameters")
    rest = f"{system[: found.start()]}\n{system[end:].lstrip(' .。')}"
    for instruction in _INSTRUCTIONS:
        rest = instruction.sub("\n", rest)
    lines = [line.strip() for line in rest.splitlines() if line.strip(" .。")]
    text = "\n".join(re.sub(r"\.\.$", ".", line) for line in lines)
    return tuple(tools), (Message("system", text),) if text else ()


def _turns(conversations: Any) -> tuple[Message, ...]:
    expect(isinstance(conversations, list) and bool(conversations), "no conversation")
    turns = []
    for turn in conversations:
        expect(isinstance(turn, dict), "a turn is not an object")
        role, content = turn.get("from"), turn.get("value")
        expect(role in _ROLES, f"a turn is from {role!r}")
        expect(isinstance(content, str), "a turn has no text")
        turns.append(Message(str(role), str(content)))
    expect(any(turn.role == "assistant" for turn in turns), "no assistant turn")
    return tuple(turns)


def _example(identity: str, context: tuple[Message, ...], tools: tuple[Mapping[str, Any], ...], answer: str) -> Example:
    expect(bool(answer), "the answer is empty")
    expect(any(message.role == "user" for message in context), "no user turn before the answer")
    calls = _calls(answer, tools)
    return Example(
        id=identity,
        source=SOURCE,
        category=("no_call", "single_call", "several_calls")[min(2, len(calls))],
        messages=context,
        tools=tools,
        response=render_calls(calls) if calls else answer,
        gold=tuple(GoldCall(call.name, {k: (_accepted(v),) for k, v in call.arguments.items()}) for call in calls),
        group=identity,
    )


def _accepted(value: Any) -> Any:
    """The value in the form of BFCL's possible answers: in a dictionary, alone or in a list, values become lists."""
    if isinstance(value, dict):
        return {key: [item] for key, item in value.items()}
    if isinstance(value, list):
        return [_accepted(item) if isinstance(item, dict) else item for item in value]
    return value


def _calls(answer: str, tools: Sequence[Mapping[str, Any]]) -> tuple[Call, ...]:
    """The calls of an answer; none for plain text. Raises RowError when calls cannot be read or are of no tool."""
    names = [str(tool["name"]) for tool in tools]
    if not (answer.startswith("[") and answer.endswith("]")):
        mixed = any(re.search(rf"\[\s*{re.escape(name)}\s*\(", answer) for name in names)
        expect(not mixed, "text and calls in one answer")
        return ()
    try:
        calls = parse_calls(answer, names)
    except ToolCallSyntaxError as error:
        raise RowError(f"the calls cannot be read: {error}") from error
    expect(bool(calls), "an empty list of calls")
    unknown = sorted({call.name for call in calls} - set(names))
    expect(not unknown, f"calls {unknown}, not among the tools")
    bound = tuple(bind_positional(call, tools) for call in calls)
    unnamed = sorted({call.name for call in bound if any(key.startswith("*") for key in call.arguments)})
    expect(not unnamed, f"calls {unnamed} with an argument that no parameter is named for")
    return bound
