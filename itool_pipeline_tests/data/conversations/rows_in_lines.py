"""Short ways to write conversations in tests, and to read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from itool_pipeline.core.types import Example
from itool_pipeline.data.containers import file_rows
from itool_pipeline.data.conversations.chat_jsonl import chat_rows
from itool_pipeline.data.rows import Changed, PassedOver, Quarantined, Row

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
WEATHER = {"name": "get_weather", "description": "The weather.", "parameters": SCHEMA}
USER = {"role": "user", "content": "Oslo?"}
ANSWER = {"role": "assistant", "content": "3 degrees."}
FUNCTION = {"name": "get_weather", "arguments": {"city": "Oslo"}}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": FUNCTION}]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "3"}
WHOLE = (USER, CALL, RESULT, ANSWER)


def row(*messages: Any, tools: Any = (WEATHER,), **beside: Any) -> dict[str, Any]:
    """A row of OpenAI's layout."""
    return {"messages": list(messages), "tools": list(tools) if isinstance(tools, tuple) else tools, **beside}


def calling(*made: Any, **beside: Any) -> dict[str, Any]:
    """An assistant's message with these as `tool_calls`."""
    return {"role": "assistant", "content": None, "tool_calls": list(made), **beside}


def read(folder: Path, *rows: Any) -> list[Row]:
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return list(chat_rows(file_rows(path)))


def examples(folder: Path, *rows: Any) -> list[Example]:
    """The examples of rows that are read without a loss."""
    found = [one for one in read(folder, *rows) if not isinstance(one, Changed)]
    assert all(isinstance(one, Example) for one in found), found
    return [one for one in found if isinstance(one, Example)]


def meaning(folder: Path, given: Any) -> list[Any]:
    """Tools, context, answer and gold calls of each example."""
    return [(one.tools, one.messages, one.response, one.gold) for one in examples(folder, given)]


def reason(folder: Path, given: Any) -> str:
    """Why the row, or one turn of it, is quarantined."""
    (found,) = [one.reason for one in read(folder, given) if isinstance(one, Quarantined)]
    return found


def changes(folder: Path, *rows: Any) -> dict[str, int]:
    return {one.what: one.times for one in read(folder, *rows) if isinstance(one, Changed)}


def passed_over(folder: Path, *rows: Any) -> list[str]:
    return [one.position for one in read(folder, *rows) if isinstance(one, PassedOver)]
