"""The users' own data: conversations in the chat layout of OpenAI's API, one JSON object in a line:

{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "tool_calls": [...]}, ...], "tools": [...]}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.types import Call
from itool_pipeline.core.types import Message, Progress, no_progress
from itool_pipeline.data.answers import answered_example
from itool_pipeline.data.containers import FileRow, file_rows
from itool_pipeline.data.conversations.chat_models import ChatLine, ChatMessage
from itool_pipeline.data.conversations.spelling import level_row
from itool_pipeline.data.row_models import read_row
from itool_pipeline.data.rows import Changed, PassedOver, Quarantined, Row, RowError, expect_that, row_excerpt
from itool_pipeline.data.tools import Tools

SOURCE = "jsonl"

NOT_TO_BE_LEARNT = "marked as not to be learnt from"


@dataclass(frozen=True, slots=True)
class _Turn:
    """A message as the prompt shows it, the calls that an assistant makes in it, and whether it is to be learnt."""

    message: Message
    calls: tuple[Call, ...] = ()
    learnt: bool = True


def read_chat_jsonl(path: Path, progress: Progress = no_progress) -> Iterator[Row]:
    """One example for each assistant turn, with what came before it as context, tool results included.

    messages  roles system (or developer), user, assistant and tool, and what `spelling` levels to them. Beside an
              assistant's calls its words are left out, as our prompt asks for calls alone.
              Results that follow one another are one turn, each with its function's name where there are several.
    tools     JSON Schema, as `{"type": "function", "function": {...}}` or the bare function; none in plain chat

    A line whose messages or tools cannot be read is quarantined as a whole, an answer that cannot be learnt from by
    itself; one that is marked as not to be learnt from is passed over. Raises UnreadableFile when the file as a whole
    cannot be read (see `file_rows`), and OSError.
    """
    for row in file_rows(path, progress):
        yield from _read_line(row)


def _read_line(given: FileRow) -> Iterator[Row]:
    changes: Counter[str] = Counter()
    try:
        row = read_row(ChatLine, level_row(given.json_object(), changes))
        turns = _turns(row.messages)
    except RowError as error:
        yield Quarantined(SOURCE, given.position, str(error), row_excerpt(given.given))
        return
    yield from (Changed(what, times) for what, times in changes.items() if times)
    context: tuple[Message, ...] = ()
    for position, turn in enumerate(turns):
        if turn.message.role == "assistant":
            yield _answer(given, position, context, tuple(row.tools or ()), turn)
        context = (*context, turn.message)


def _answer(given: FileRow, position: int, context: tuple[Message, ...], tools: Tools, turn: _Turn) -> Row:
    """What an assistant's turn gives."""
    place = f"{given.position}, turn {position}"
    if not turn.learnt:
        return PassedOver(place, NOT_TO_BE_LEARNT)
    name, conversation = f"{SOURCE}_{given.number}_{position}", f"{SOURCE}_{given.number}"
    try:
        return answered_example(name, SOURCE, conversation, context, tools, turn.calls or turn.message.content)
    except RowError as error:
        return Quarantined(SOURCE, place, str(error), row_excerpt(turn.message.content))


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
        content = render_calls(calls) if calls else message.content.strip()
        turns.append(_Turn(Message(role, content), calls, message.learnt))
    turns += _results(results)
    expect_that(any(turn.message.role == "assistant" for turn in turns), "no assistant turn")
    return turns


def _results(results: list[tuple[str, str]]) -> list[_Turn]:
    if not results:
        return []
    several = len(results) > 1
    lines = [f"{name}: {text}" if several and name else text for name, text in results]
    return [_Turn(Message("tool", "\n".join(lines)))]
