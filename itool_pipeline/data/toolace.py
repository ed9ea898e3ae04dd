"""ToolACE in its own layout (Section 4.1): the tool list is JSON inside the system text, the calls are text."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, PlainValidator

from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.types import Call
from itool_pipeline.core.types import Message, Progress, no_progress
from itool_pipeline.data.answers import answered_example
from itool_pipeline.data.containers import FileRow, file_rows
from itool_pipeline.data.conversations.thoughts import split_thoughts
from itool_pipeline.data.conversations.tool_spellings import level_tool
from itool_pipeline.data.conversations.written_calls import read_written_calls
from itool_pipeline.data.row_models import RowModel, read_row, shown_value
from itool_pipeline.data.rows import Changed, Quarantined, Row, RowError, expect_that, row_excerpt
from itool_pipeline.data.tools import Tools, read_tools

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


def _without_instructions(text: str) -> str:
    for instruction in _INSTRUCTIONS:
        text = instruction.sub("\n", text)
    return text


class SystemText(NamedTuple):
    """The tools, what of them was changed, and a system message with what the text says beside them and the
    instructions, if anything.
    """

    tools: Tools
    changes: Counter[str]
    rest: tuple[Message, ...]


def _split_system(system: Any) -> SystemText:
    expect_that(isinstance(system, str), f"the system text is not text: {shown_value(system)}")
    found = _BEFORE_TOOLS.search(system)
    if found is None:
        other = "the tool list is in another layout than JSON after `Here is a list of functions`"
        raise RowError(other if "tool_name" in system else "no tool list")
    try:
        given, end = json.JSONDecoder().raw_decode(system, found.end())
    except (ValueError, RecursionError) as error:
        raise RowError(f"the tool list is not JSON: {error}") from error
    rest = _without_instructions(f"{system[: found.start()]}\n{system[end:].lstrip(' .。')}")
    lines = [line.strip() for line in rest.splitlines() if line.strip(" .。")]
    text = "\n".join(re.sub(r"\.\.$", ".", line) for line in lines)
    changes: Counter[str] = Counter()
    if isinstance(given, list):
        given = [_bare_tool(tool, changes) for tool in given]
    return SystemText(read_tools(given), changes, (Message("system", text),) if text else ())


def _bare_tool(tool: Any, changes: Counter[str]) -> Any:
    """The tool as it stands, as prompts show it so; one in OpenAI's layout, or with its schema elsewhere, levelled."""
    if not isinstance(tool, dict):
        return tool
    elsewhere = isinstance(tool.get("required"), list) and "required" not in (tool.get("parameters") or {})
    return level_tool(tool, changes) if "function" in tool or elsewhere else tool


class ToolaceTurn(RowModel):
    noun: ClassVar[str] = "a turn"

    speaker: Literal["user", "assistant", "tool"] = Field(alias="from")
    text: str = Field(alias="value")


class ToolaceRow(RowModel):
    system_text: Annotated[SystemText, PlainValidator(_split_system)] = Field(alias="system")
    conversation: list[ToolaceTurn] = Field(alias="conversations", min_length=1)


def read_toolace(path: Path, progress: Progress = no_progress) -> Iterator[Row]:
    """One example for each assistant turn, with what came before it as context, tool results included.

    The set's instructions on how to call are left to our own prompt; what else the system text says (today's date)
    stays as a system message. Calls are written anew as Python literals.

    A row without a tool list in the standard layout, or a turn that cannot be read, is quarantined with the reason.
    Raises UnreadableFile when the file as a whole cannot be read (see `file_rows`), and OSError.
    """
    return toolace_rows(file_rows(path, progress))


def is_toolace(row: Mapping[str, Any]) -> bool:
    """Whether a row looks like one of this layout: the set's own words stand before the tools in `system`."""
    system = row.get("system")
    return isinstance(system, str) and "conversations" in row and _BEFORE_TOOLS.search(system) is not None


def toolace_rows(rows: Iterable[FileRow]) -> Iterator[Row]:
    """The same of rows wherever they are from."""
    for row in rows:
        yield from _read_row(row)


def _read_row(given: FileRow) -> Iterator[Row]:
    try:
        row = read_row(ToolaceRow, given.json_object())
        tools, changes, context = row.system_text
        turns = tuple(_read_turn(turn, tools) for turn in row.conversation)
        expect_that(any(turn.message.role == "assistant" for turn in turns), "no assistant turn")
    except RowError as error:
        yield Quarantined(SOURCE, given.position, str(error), row_excerpt(_telling(given.given)))
        return
    yield from (Changed(what, times) for what, times in changes.items())
    conversation, before = f"{SOURCE}_{given.index}", context
    for position, turn in enumerate(turns):
        if turn.message.role == "assistant":
            try:
                if isinstance(turn.answer, RowError):
                    raise turn.answer
                name = f"{conversation}_{position}"
                yield answered_example(name, SOURCE, conversation, before, tools, turn.answer)
            except RowError as error:
                excerpt = row_excerpt(row.conversation[position].text.strip())
                yield Quarantined(SOURCE, f"{given.position}, turn {position}", str(error), excerpt)
        before = (*before, turn.message)


class _Turn(NamedTuple):
    """A turn as prompts show it; and of an assistant's the answer that it is, or why it is none."""

    message: Message
    answer: str | tuple[Call, ...] | RowError


def _read_turn(turn: ToolaceTurn, tools: Tools) -> _Turn:
    """Thoughts are left out, and calls in other forms than the set's shown as the model writes them."""
    message = Message(turn.speaker, turn.text)
    if turn.speaker != "assistant":
        return _Turn(message, "")
    try:
        spoken = split_thoughts(turn.text.strip())
        calls = read_written_calls(spoken.words, tools)
    except RowError as error:
        return _Turn(message, error)
    if calls and not spoken.words.startswith("["):
        message = Message(turn.speaker, render_calls(calls))
    elif spoken.thoughts:
        message = Message(turn.speaker, spoken.words)
    return _Turn(message, calls or spoken.words)


def _telling(row: Any) -> Any:
    """What tells one row from another: the system text without the instructions that all rows share."""
    if not isinstance(row, dict) or not isinstance(row.get("system"), str):
        return row
    return {**row, "system": _without_instructions(row["system"])}
